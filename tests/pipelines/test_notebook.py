"""The notebook of the tutorial is run, cell by cell, on a small release."""

import ast
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from phantomset.pipelines import stages

PAGE = Path(__file__).parents[2] / "docs" / "tutorial" / "in-a-notebook.ipynb"
CELLS: list[dict[str, Any]] = [
    cell for cell in json.loads(PAGE.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"
]
REPRS = {"text/html": "_repr_html_", "image/png": "_repr_png_"}


def shown(source: str, names: dict[str, Any]) -> Any:
    """Run a cell as Jupyter does, and return its last expression's value."""
    *before, last = ast.parse(source).body
    assert isinstance(last, ast.Expr)
    exec(compile(ast.Module(before, []), "cell", "exec"), names)  # noqa: S102 - text of our own page
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names)  # noqa: S307


def test_every_cell_runs_and_shows_what_was_stored(
    small: Callable[..., Any], job: Callable[..., Any], judges: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each cell runs on another workspace than the page's, and shows itself in the form that is stored."""
    work = job(small())
    stages.run(work)
    monkeypatch.setenv("PHANTOMSET_WORKSPACE", str(work.workspace.root))
    names: dict[str, Any] = {}
    for cell in CELLS:
        value = shown("".join(cell["source"]), names)
        (stored,) = cell["outputs"]
        form = next(form for form in REPRS if form in stored["data"])
        assert getattr(value, REPRS[form])()
    assert "<h3>small v1</h3>" in names["found"]._repr_html_()
    assert names["verdict"].status == "PASS"


def test_the_stored_outputs_are_of_one_run_from_top_to_bottom() -> None:
    """The cells were executed in order, none failed, and no path of a machine is left in them."""
    assert [cell["execution_count"] for cell in CELLS] == list(range(1, len(CELLS) + 1))
    assert {output["output_type"] for cell in CELLS for output in cell["outputs"]} == {"execute_result"}
    assert not re.search(r"[/\\](home|tmp|work|Users)[/\\]", PAGE.read_text("utf-8"))
