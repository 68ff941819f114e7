"""The notebooks of the docs are run, cell by cell: on a small release, and on phantoms."""

import ast
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from phantomset.pipelines import stages

DOCS = Path(__file__).parents[2] / "docs"
TUTORIAL, AUDIT = DOCS / "tutorial" / "in-a-notebook.ipynb", DOCS / "how-to" / "audit.ipynb"
REPRS = {"text/html": "_repr_html_", "image/png": "_repr_png_"}


def cells(page: Path) -> list[dict[str, Any]]:
    """The code of a notebook."""
    return [cell for cell in json.loads(page.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]


def shown(source: str, names: dict[str, Any]) -> Any:
    """Run a cell as Jupyter does, and return its last expression's value; None of a statement."""
    body = ast.parse(source).body
    last = body.pop() if isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), "cell", "exec"), names)  # noqa: S102 - text of our own page
    if not isinstance(last, ast.Expr):
        return None
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names)  # noqa: S307


def test_every_cell_runs_and_shows_what_was_stored(
    small: Callable[..., Any], job: Callable[..., Any], judges: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each cell runs on another workspace than the page's, and shows itself in the form that is stored."""
    work = job(small())
    stages.run(work)
    monkeypatch.setenv("PHANTOMSET_WORKSPACE", str(work.workspace.root))
    names: dict[str, Any] = {}
    for cell in cells(TUTORIAL):
        value = shown("".join(cell["source"]), names)
        (stored,) = cell["outputs"]
        form = next(form for form in REPRS if form in stored["data"])
        assert getattr(value, REPRS[form])()
    assert "<h3>small v1</h3>" in names["found"]._repr_html_()
    assert names["verdict"].status == "PASS"


@pytest.mark.slow
def test_the_audit_finds_the_twelve_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The audit's page, run anew: exit code 3, and the closest pairs are the twelve copies."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "notebook"}
    values = [shown("".join(cell["source"]), names) for cell in cells(AUDIT)]
    assert 3 in values
    assert (tmp_path / "audit-example" / "leaky" / "report.html").exists()
    assert names["copies"].status == "FAIL"
    assert {position for _, position, _ in names["pairs"]} <= set(range(12))


@pytest.mark.parametrize("page", [TUTORIAL, AUDIT], ids=lambda page: page.stem)
def test_the_stored_outputs_are_of_one_run_from_top_to_bottom(page: Path) -> None:
    """The cells were executed in order, none failed, and no path of a machine is left in them."""
    found = cells(page)
    assert [cell["execution_count"] for cell in found] == list(range(1, len(found) + 1))
    kinds = {output["output_type"] for cell in found for output in cell["outputs"]}
    assert kinds <= {"execute_result", "stream"}
    assert not re.search(r"[/\\](home|tmp|work|Users)[/\\]", page.read_text("utf-8"))
