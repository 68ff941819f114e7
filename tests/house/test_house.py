"""The rules of the house, held by tests."""

import ast
import inspect
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from phantomset.data import catalogue, errors

ROOT = Path(__file__).parents[2]
ROOMS = ("data", "ganmodels", "validators", "pipelines")
MODULES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse(path.read_text())
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


@pytest.mark.parametrize("path", MODULES + TESTS, ids=name_of)
def test_files_can_be_read_in_one_sitting(path: Path) -> None:
    """A file has at most 400 lines."""
    assert len(path.read_text().splitlines()) <= 400


@pytest.mark.parametrize("path", MODULES + TESTS, ids=name_of)
def test_functions_stop_at_sixty_lines(path: Path) -> None:
    """A function has at most 60 lines."""
    long = {f.name: f.end_lineno - f.lineno + 1 for f in functions(path) if f.end_lineno - f.lineno >= 60}
    assert not long


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_drawer_for_odds_and_ends(path: Path) -> None:
    """No module is called utils, common, helpers, misc or core: such a name says nothing."""
    assert path.stem not in {"utils", "common", "helpers", "misc", "core"}


@pytest.mark.parametrize("path", TESTS, ids=name_of)
def test_each_test_states_its_rule(path: Path) -> None:
    """Each test function has a docstring."""
    silent = [f.name for f in functions(path) if f.name.startswith("test_") and not ast.get_docstring(f)]
    assert not silent


def test_every_package_is_listed() -> None:
    """pyproject's hand-written package list equals the folders: a forgotten one is missing from the wheel."""
    folders = {
        "phantomset." + ".".join(path.parent.relative_to(ROOT).parts)
        for path in MODULES
        if path.name == "__init__.py"
    }
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == folders


def test_dependencies_are_locked() -> None:
    """Every direct dependency is pinned as plain name==version, and requirements.in names the same set."""
    locks = (ROOT / "requirements.lock").read_text() + (ROOT / "requirements-torch.lock").read_text()
    pinned = {line.split("==")[0] for line in locks.split() if "==" in line}
    direct = {entry.split(">")[0].split("=")[0] for entry in PROJECT["project"]["dependencies"]}
    assert direct <= pinned
    assert all("==" in line and "://" not in line for line in locks.split())


def test_the_extra_has_a_lock_of_its_own() -> None:
    """What [ocr] brings is pinned as plain name==version, and nothing of it comes with the default locks."""
    extra = (ROOT / "requirements-ocr.lock").read_text().split()
    default = (ROOT / "requirements.lock").read_text() + (ROOT / "requirements-torch.lock").read_text()
    direct = {
        entry.split(">")[0].split("=")[0] for entry in PROJECT["project"]["optional-dependencies"]["ocr"]
    }
    assert all("==" in line for line in extra)
    assert direct <= {line.split("==")[0] for line in extra}
    assert not {line.split("==")[0] for line in extra} & {line.split("==")[0] for line in default.split()}


def test_rooms_refuse_their_bare_name() -> None:
    """`import data` from the repository's root is refused: one file must not be two modules."""
    for room in ROOMS:
        done = subprocess.run(
            [sys.executable, "-c", f"import {room}"], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 1
        assert f"import phantomset.{room}" in done.stderr


def test_import_rules_hold() -> None:
    """The contracts of pyproject.toml (layers, independence, what must not be imported) are kept."""
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(("package", "constant"), catalogue.CONSTANTS.items())
def test_every_choice_exports_its_constant(package: str, constant: str) -> None:
    """Each module of a catalogue has the one constant that makes it a choice, named as its file."""
    for name in catalogue.names(package):
        assert catalogue.load(package, name).name == name, constant


def test_the_drawn_tree_of_errors_is_the_real_one() -> None:
    """errors.py draws every class with the exit code that it has."""
    classes = [
        c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, errors.PhantomsetError)
    ]
    drawn = inspect.getdoc(errors) or ""
    for each in classes:
        line = next(line for line in drawn.splitlines() if f" {each.__name__} " in f" {line.strip('│├└─ ')} ")
        assert f" {each.exit_code} " in line
