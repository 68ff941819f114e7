"""The access committee's dossier: measured, signed, or not answered; nothing else."""

import dataclasses
import datetime
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from phantomset.data.errors import ReleaseError
from phantomset.data.workspace import Workspace
from phantomset.pipelines import cli
from phantomset.pipelines.dossier import answers, page
from phantomset.pipelines.dossier.answers import Answer
from phantomset.pipelines.dossier.questions import FRAMEWORKS, questions
from phantomset.pipelines.releases import signing
from phantomset.pipelines.releases.signoff import Request

from .drafts import PLACE, draft
from .people import key
from .test_report import Page

WHO = ("Anna Grey", "data protection officer")
REQUEST = Request("small", "judged", "a" * 64, 0, "report.html")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace.open(tmp_path / "workspace")
    made.restricted("findings", "judged").mkdir(parents=True)
    return made


def test_every_list_is_asked() -> None:
    """Six lists with their source; each question has a name of its own that begins with its list's."""
    named = [each.name for framework in FRAMEWORKS for each in framework.questions]
    assert len(FRAMEWORKS) == 6
    assert len(set(named)) == len(named)
    assert all(framework.source for framework in FRAMEWORKS)
    assert all(
        len({each.name.partition(".")[0] for each in framework.questions}) == 1 for framework in FRAMEWORKS
    )
    titles = " ".join(framework.title + framework.source for framework in FRAMEWORKS)
    for asked in ("28/2024", "164.514(b)(1)", "SHDGF", "Five Safes", "27559", "Seven Cs"):
        assert asked in titles


def test_a_cell_is_measured_signed_or_not_answered() -> None:
    """The attack's figure and bound from the findings; a person's words with name and day; else nothing."""
    given = {"edpb.dpia": [Answer("DPIA 12 of 2030", *WHO, "2030-01-03")]}
    found = {cell.question.name: cell for part in page.parts(draft(), given) for cell in part.cells}
    strength = found["iso.average"]
    assert strength.state == "measured"
    assert "Attack AUC: 0.519, 95% interval 0.502 to 0.551, real or blind 0.5" in strength.measured
    assert "limit: joint upper 95% bound <= 0.6; passed" in strength.measured
    assert found["edpb.dpia"].state == "signed"
    assert found["edpb.dpo"].state == "not answered"
    assert {cell.state for cell in found.values()} == {"measured", "signed", "not answered"}


def test_what_was_not_evaluated_is_not_measured() -> None:
    """A check that did not speak leaves its cell unanswered: re-identification could not be asked here."""
    found = {cell.question.name: cell for part in page.parts(draft(), {}) for cell in part.cells}
    assert found["edpb.reconstruction"].state == "not answered"
    assert found["edpb.extraction"].state == "not answered"
    bare = dataclasses.replace(draft(), verdict=dataclasses.replace(draft().verdict, findings=()))
    empty = {cell.question.name: cell.state for part in page.parts(bare, {}) for cell in part.cells}
    for name in (
        "edpb.membership",
        "iso.average",
        "iso.maximum",
        "cs.coverage",
        "cs.congruence",
        "hipaa.method",
    ):
        assert empty[name] == "not answered", name


def test_both_forms_tell_the_same_and_stand_alone(tmp_path: Path) -> None:
    """HTML and Markdown hold each question and the counts; nothing is fetched, and no place is named."""
    given = {"edpb.dpia": [Answer("Done | <b>", *WHO, "2030-01-03")]}
    path, _, counts = page.write(tmp_path, draft(), given)
    html, text = path.read_text(), (tmp_path / "dossier.md").read_text()
    shown = Page(html)
    assert shown.wrong == []
    assert shown.fetched == []
    assert sum(counts.values()) == len(questions())
    for each in questions().values():
        assert each.name in shown.text
        assert f"`{each.name}`" in text
    assert f"{counts['not answered']} not answered" in text
    assert "Done | <b>" in shown.text
    assert PLACE not in html + text
    rows = [re.sub(r"\\.", "", line) for line in text.splitlines() if line.startswith("| ") and "`" in line]
    assert {row.count("|") for row in rows} == {4}
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}


def test_the_form_lists_what_is_not_answered(tmp_path: Path) -> None:
    """answers.yaml can be filled in and read; empty answers are none."""
    page.write(tmp_path, draft(), {})
    form = tmp_path / "answers.yaml"
    asked = yaml.safe_load(form.read_text())
    assert "edpb.dpia" in asked
    assert "edpb.membership" not in asked
    assert answers.read(form) == {}
    form.write_text(form.read_text().replace('edpb.dpia: ""', 'edpb.dpia: "DPIA  12"'))
    assert answers.read(form) == {"edpb.dpia": "DPIA 12"}


@pytest.mark.parametrize("written", ['edpb.dpia: "DPIA 12"', 'edpb.dpia: ""  # ask Bert', "- [", "\xff"])
def test_what_a_person_wrote_is_never_overwritten(written: str, tmp_path: Path) -> None:
    """An answer, a remark, even what is no YAML stays to the byte; the next form lies beside it, and that one
    gives way while nobody has written in it.
    """
    given = {"edpb.dpia": [Answer("Done", *WHO, "2030-01-03")]}
    _, form, _ = page.write(tmp_path, draft(), {})
    mine = form.read_text().replace('edpb.dpia: ""', written).encode("latin-1")
    form.write_bytes(mine)
    _, second, _ = page.write(tmp_path, draft(), {})
    _, third, _ = page.write(tmp_path, draft(), given)
    assert form.read_bytes() == mine
    assert second == third == tmp_path / "answers-2.yaml"
    assert "edpb.dpia:" not in third.read_text()
    assert "edpb.dpo" in third.read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("edpb.dpai: x", "did you mean 'edpb.dpia'"),
        ("edpb.dpia: [1]", "an answer is text"),
        ("- a\n- b", "question: answer"),
        ("{", "no YAML"),
        (f"edpb.dpia: {'x' * 2_001}", "longer than 2,000"),
    ],
)
def test_wrong_answers_are_refused(text: str, message: str, tmp_path: Path) -> None:
    """An unknown question, no text, no mapping, no YAML, too long: refused with the file's name."""
    path = tmp_path / "answers.yaml"
    path.write_text(text)
    with pytest.raises(ReleaseError, match=re.escape(message)):
        answers.read(path)
    with pytest.raises(ReleaseError, match="cannot read"):
        answers.read(tmp_path / "missing.yaml")


def test_answers_hold_by_their_signature(workspace: Workspace, tmp_path: Path) -> None:
    """Two people may answer one question; a changed answer, or one to another verdict, is none."""
    answers.sign(workspace, REQUEST, {"edpb.dpo": "Yes, with limits."}, WHO, key(tmp_path / "a"))
    answers.sign(workspace, REQUEST, {"edpb.dpo": "I agree."}, ("Bert Blue", "counsel"), key(tmp_path / "b"))
    assert [each.name for each in answers.signed(workspace, REQUEST)["edpb.dpo"]] == [
        "Anna Grey",
        "Bert Blue",
    ]
    assert answers.signed(workspace, dataclasses.replace(REQUEST, verdict="b" * 64)) == {}
    for path in workspace.restricted("findings", "judged", answers.FOLDER).iterdir():
        path.write_bytes(path.read_bytes().replace(b'"sig": "', b'"sig": "A', 1))
    assert answers.signed(workspace, REQUEST) == {}
    with pytest.raises(ReleaseError, match="answers no question"):
        answers.sign(workspace, REQUEST, {}, WHO, key(tmp_path / "c"))


def test_the_command_fills_it_from_a_run(
    small: Callable[..., Any], judges: Any, tmp_path: Path, capsys: Any
) -> None:
    """`dossier` judges what is not judged, signs the answers of a file, and says what is not answered."""
    recipe, given = tmp_path / "small.yaml", tmp_path / "mine.yaml"
    recipe.write_text(yaml.safe_dump(json.loads(json.dumps(small().plain(), default=str))))
    given.write_text('edpb.dpia: "DPIA 12"\n')
    signing.new_key(tmp_path / "a", "")
    at = ["--workspace", str(tmp_path / "w"), "--threads", "1", "--json"]
    people = ["--answers", str(given), "--by", WHO[0], "--role", WHO[1], "--file", str(tmp_path / "a")]
    assert cli.call(["dossier", str(recipe), *people, *at]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["cells"]["signed"] == 1
    assert "DPIA 12" in Path(told["dossier"]).read_text()
    assert cli.call(["dossier", str(recipe), "--out", str(tmp_path / "out"), *at]) == 0
    assert json.loads(capsys.readouterr().out)["cells"]["signed"] == 1
    assert "DPIA 12" in (tmp_path / "out" / "dossier.md").read_text()
    assert judges.asked == 1


def test_a_waiver_stands_in_the_dossier(
    small: Callable[..., Any], judges: Any, tmp_path: Path, capsys: Any
) -> None:
    """What lets a set out although it failed in fidelity is told to the committee; a bad place, too."""
    judges.axes = {"fidelity": "FAIL"}
    recipe = tmp_path / "small.yaml"
    recipe.write_text(yaml.safe_dump(json.loads(json.dumps(small().plain(), default=str))))
    place = ["--workspace", str(tmp_path / "w")]
    at = [str(recipe), *place, "--threads", "1"]
    assert cli.call(["run", "--plain", *at]) == 3
    signing.new_key(tmp_path / "a", "")
    until = (datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(days=30)).isoformat()
    why = ["--reason", "shapes are enough here", "--until", until, "--file", str(tmp_path / "a")]
    assert cli.call(["waive", "small", "--by", WHO[0], "--role", WHO[1], *why, *place]) == 0
    assert cli.call(["dossier", "--out", str(tmp_path / "out"), *at]) == 0
    assert "Fidelity, by Anna Grey" in (tmp_path / "out" / "dossier.md").read_text()
    assert cli.call(["dossier", "--out", str(recipe), *at]) == 2
    assert "--out: cannot write" in capsys.readouterr().err
