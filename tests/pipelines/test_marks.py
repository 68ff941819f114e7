"""Marks: what a person saw, with name and time, beside the judgement and without a say in it."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from phantomset.data.errors import InputError
from phantomset.data.workspace import Workspace
from phantomset.pipelines import report
from phantomset.pipelines.cli import call
from phantomset.pipelines.report import marks

from .drafts import draft, evidence

PAIRS = {"hp": [[3, 5, 0.41], [7, 2, 0.52]], "pca": [[3, 5, 0.33]]}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace.open(tmp_path / "workspace")
    folder = made.restricted("findings", "abc123")
    folder.mkdir()
    finding = {"check": "copies", "group": "all", "details": {"pairs": PAIRS}}
    (folder / "verdict.json").write_text(json.dumps({"findings": [finding]}))
    return made


def test_a_mark_is_kept_with_name_and_time(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """The command appends it to a file for the owner alone, and lists all; a second look is a second line."""
    place = f"--workspace={workspace.root}"
    assert call(["mark", "abc123", "hp-2", "different", "--by", "A. Reader", place]) == 0
    assert call(["mark", "abc123", "hp-2", "unsure", "--by", "B. Reader", place, "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])["marks"]
    assert [(line["pair"], line["mark"], line["by"]) for line in told] == [
        ("hp-2", "different", "A. Reader"),
        ("hp-2", "unsure", "B. Reader"),
    ]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", line["time"]) for line in told)
    kept = workspace.restricted("findings", "abc123", marks.FILE)
    assert kept.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("nothing", "hp-1", "copy", "me"), "there is abc123"),
        (("abc123", "hp-3", "copy", "me"), "there are hp-1, hp-2, pca-1"),
        (("abc123", "hp-1", "fine", "me"), "copy, different, unsure"),
        (("abc123", "hp-1", "copy", "  "), "the name of the person"),
    ],
)
def test_what_cannot_be_marked(workspace: Workspace, given: tuple[str, str, str, str], message: str) -> None:
    """Unknown judgement, pair or word, or nobody's name: told with what there is, and nothing is written."""
    with pytest.raises(InputError, match=message):
        marks.record(workspace, *given)
    assert not workspace.restricted("findings", "abc123", marks.FILE).exists()


def test_the_report_shows_the_pairs_of_each_attack_by_name() -> None:
    """Each pair has its name, its distance and one picture of three images."""
    made = draft()
    findings = tuple(
        replace(f, details={"pairs": PAIRS}) if f.check == "copies" else f for f in made.verdict.findings
    )
    page = report.restricted_html(replace(made, verdict=replace(made.verdict, findings=findings)), evidence())
    assert [name for name in ("hp-1", "hp-2", "pca-1") if f"<b>{name}</b>" in page] == [
        "hp-1",
        "hp-2",
        "pca-1",
    ]
    assert "0.410" in page
