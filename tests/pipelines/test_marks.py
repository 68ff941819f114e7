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
        judgement, *rest = given
        marks.record(marks.of_judgement(workspace, judgement), *rest)
    assert not workspace.restricted("findings", "abc123", marks.FILE).exists()


def test_the_pairs_of_every_attack_can_be_marked(workspace: Workspace) -> None:
    """Copy scan, attack family and re-identification on all patients; those of a subgroup or of a set with
    earlier ones are positions in something else.
    """
    found = [
        {"check": check, "group": group, "details": {"pairs": {attack: [[1, 2, 0.5]]}}}
        for check, group, attack in (
            ("copies", "all", "hp"),
            ("attacks", "all", "domias"),
            ("reidentification", "all", "met-again"),
            ("copies", "with earlier releases", "pix"),
        )
    ]
    workspace.restricted("findings", "abc123", "verdict.json").write_text(json.dumps({"findings": found}))
    assert marks.of_judgement(workspace, "abc123").pairs == ("hp-1", "domias-1", "met-again-1")


def test_the_report_shows_the_pairs_of_each_attack_by_name() -> None:
    """Each pair has its name, its distance and one picture of three images; one that another attack named
    before is told by that name, and not shown again.
    """
    made = draft()
    further = {"domias": [[7, 2, 0.7], [8, 1, 0.9]]}
    details = {"copies": {"pairs": PAIRS}, "attacks": {"pairs": further}}
    findings = tuple(replace(f, details=details.get(f.check, {})) for f in made.verdict.findings)
    page = report.restricted_html(replace(made, verdict=replace(made.verdict, findings=findings)), evidence())
    names = ("hp-1", "hp-2", "pca-1", "domias-1", "domias-2")
    assert [name for name in names if f"<b>{name}</b>" in page] == ["hp-1", "hp-2", "domias-2"]
    assert page.count('alt="Training image, nearest synthetic image, difference"') == 3
    assert "Shown above: pca-1 is hp-1 (0.330)." in page
    assert "Shown above: domias-1 is hp-2 (0.700)." in page
    assert "0.410" in page
