"""The docs are held against the code: what can be chosen or typed has its section."""

import ast
import importlib
import json
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import typer

from phantomset.data import catalogue
from phantomset.pipelines import cli
from phantomset.pipelines.recipe import Recipe

DOCS = Path(__file__).parents[2] / "docs"
FAMILIES = "phantomset.ganmodels.families"
PAGES = {
    "phantomset.data.sources": "sources",
    "phantomset.validators.checks": "checks",
    "phantomset.pipelines.publishers": "publishers",
}


def headings(page: str) -> set[str]:
    """The names in back quotes that head a section of a reference page."""
    return set(re.findall(r"^## `([^`]+)`", (DOCS / "reference" / f"{page}.md").read_text(), re.MULTILINE))


@pytest.mark.parametrize(("package", "page"), PAGES.items())
def test_every_choice_has_its_section(package: str, page: str) -> None:
    """Each entry of a catalogue has a section on its page, and no section speaks of one that is gone."""
    assert headings(page) == set(catalogue.names(package))


def test_every_command_has_its_section() -> None:
    """Each command of the command line has a section on its page."""
    commands = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    assert headings("commands") == {f"phantomset {name}" for name in commands}


def test_every_recipe_key_has_its_section() -> None:
    """Each key at the recipe's top has a section, which names each key below it."""
    text = (DOCS / "reference" / "recipe.md").read_text()
    assert headings("recipe") == set(Recipe.model_fields)
    for name, field in Recipe.model_fields.items():
        section = text.split(f"## `{name}`", 1)[1].split("\n## ", 1)[0]
        below = getattr(field.annotation, "model_fields", {})
        missing = [key for key in below if key not in section and name != "source"]
        assert not missing, f"{name}: {missing}"


@pytest.mark.parametrize("name", catalogue.names("phantomset.data.sources"))
def test_every_key_of_a_source_is_described(name: str) -> None:
    """Those below `labels`, `patient` and the like too."""
    text = (DOCS / "reference" / "sources.md").read_text()
    schema = catalogue.load("phantomset.data.sources", name).Settings.model_json_schema(by_alias=True)
    keys = {key for part in (schema, *schema.get("$defs", {}).values()) for key in part.get("properties", {})}
    assert not [key for key in keys - {"format", "path"} if not re.search(rf"[`{{ ]{key}[`:]", text)]


def test_every_family_has_its_page() -> None:
    """A page a family, in the table of `families.md` and nowhere a page of one that is gone."""
    families = set(catalogue.names(FAMILIES))
    assert {page.stem for page in (DOCS / "reference" / "families").glob("*.md")} == families
    table = (DOCS / "reference" / "families.md").read_text()
    assert set(re.findall(r"^\| \[`([^`]+)`\]", table, re.MULTILINE)) == families


@pytest.mark.parametrize("name", catalogue.names(FAMILIES))
def test_the_page_of_a_family_describes_its_settings(name: str) -> None:
    """Each setting has its row, in the words of the code, and no row speaks of one that is gone."""
    text = (DOCS / "reference" / "families" / f"{name}.md").read_text()
    rows = dict(re.findall(r"^\| `([^`]+)` \| [^|]+ \| (.+) \|$", text, re.MULTILINE))
    settings = catalogue.load(FAMILIES, name).Settings.model_fields
    assert rows == {key: field.description for key, field in settings.items()}


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: str(page.relative_to(DOCS)))
def test_links_lead_somewhere(page: Path) -> None:
    """Each relative link of a page leads to a file."""
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    assert not [target for target in targets if not (page.parent / target).exists()]


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.ipynb")), ids=lambda page: page.name)
def test_notebooks_were_run_and_their_names_exist(page: Path) -> None:
    """Each code cell was run, in order and without an error, and what it imports from here is still there."""
    cells = [cell for cell in json.loads(page.read_text())["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert not [out for cell in cells for out in cell["outputs"] if out["output_type"] == "error"]
    for node in ast.walk(ast.parse("\n".join("".join(cell["source"]) + "\n" for cell in cells))):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("phantomset."):
            assert not [name.name for name in node.names if not _exists(str(node.module), name.name)]


def _exists(module: str, name: str) -> bool:
    """Return whether a module has a name, or a module of that name in it."""
    return hasattr(importlib.import_module(module), name) or find_spec(f"{module}.{name}") is not None
