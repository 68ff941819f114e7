"""A waiver: named, reasoned, ending, for fidelity alone. For privacy there is none."""

import dataclasses
import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from phantomset.data.errors import ReleaseError
from phantomset.data.workspace import Workspace
from phantomset.pipelines import cli, report, stages
from phantomset.pipelines.cli import summary
from phantomset.pipelines.draft import Draft, Waiver, waivable
from phantomset.pipelines.releases import release, retraction, signing, statements, waiver

from .drafts import draft
from .people import key

WHO = ("Carla Red", "head of research")
WHY = "the texture is coarse, and the task needs shapes alone"
AXES = ("privacy", "controls", "fidelity", "utility")
LAST = (datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(days=30)).isoformat()


def judged(**axes: str) -> Draft:
    """Return a draft whose axes came out as given, the others PASS, with a waiver in its hand."""
    made = draft("PASS")
    told = {**dict.fromkeys(AXES, "PASS"), **axes}
    status = next(word for word in ("FAIL", "INCONCLUSIVE", "PASS") if word in told.values())
    verdict = dataclasses.replace(made.verdict, status=status, axes=told)  # type: ignore[arg-type]
    public = {**made.public_verdict, "status": status, "axes": told}
    held = Waiver(*WHO, "2030-01-01", "2100-01-01", WHY)
    return dataclasses.replace(made, verdict=verdict, public_verdict=public, waiver=held)


@pytest.mark.parametrize("outcome", ["FAIL", "INCONCLUSIVE"])
@pytest.mark.parametrize("axis", ["privacy", "controls", "utility"])
@pytest.mark.parametrize("fidelity", ["PASS", "FAIL", "INCONCLUSIVE"])
def test_for_privacy_there_is_no_waiver(axis: str, outcome: str, fidelity: str, tmp_path: Path) -> None:
    """Whatever waiver a draft carries: with another axis than fidelity not passed, nothing is published."""
    made = judged(**{axis: outcome, "fidelity": fidelity})
    workspace = Workspace.open(tmp_path / "workspace")
    assert not waivable(made.verdict.status, made.verdict.axes)
    with pytest.raises(ReleaseError, match="only a PASS is published"):
        release.publish(workspace, made)
    assert "png" not in report.public_html(made).partition("Synthetic samples")[2][:200]
    assert not list((workspace.root / "releases").glob("*"))


def test_a_missing_axis_is_not_waived() -> None:
    """An axis that did not speak has not passed; a status that no axis explains is not fidelity's."""
    assert not waivable("FAIL", {"privacy": "PASS", "controls": "PASS", "fidelity": "FAIL"})
    assert not waivable("FAIL", dict.fromkeys(AXES, "PASS"))
    assert not waivable("FAIL", {**dict.fromkeys(AXES, "PASS"), "fidelity": "INCONCLUSIVE"})


@pytest.mark.parametrize("outcome", ["FAIL", "INCONCLUSIVE"])
def test_fidelity_is_waived_and_the_verdict_stays(outcome: str, tmp_path: Path) -> None:
    """The release says what the verdict is, who waived it, why and until when; verify holds."""
    made = judged(fidelity=outcome)
    place = release.publish(Workspace.open(tmp_path / "workspace"), made).path
    assert json.loads((place / "verdict.json").read_text())["status"] == outcome
    told = json.loads((place / "manifest.json").read_text())["waiver"]
    assert (told["name"], told["until"], told["reason"]) == (WHO[0], "2100-01-01", WHY)
    for page in ("README.md", "report.html"):
        text = (place / page).read_text()
        assert WHY in text
        assert WHO[0] in text
    assert "Released under a waiver" in (place / "report.html").read_text()


def test_a_waiver_ends(tmp_path: Path) -> None:
    """After its last day nothing is published under it."""
    ended = Waiver(*WHO, "2020-01-01", "2020-02-01", WHY)
    with pytest.raises(ReleaseError, match="ended on 2020-02-01"):
        release.publish(
            Workspace.open(tmp_path / "workspace"), dataclasses.replace(judged(fidelity="FAIL"), waiver=ended)
        )


def test_verify_warns_when_a_waiver_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On its last day a waiver holds; a day later `verify` warns, and the release is as whole as before."""
    held = Waiver(*WHO, "2030-01-01", "2030-02-01", WHY)
    made = dataclasses.replace(judged(fidelity="FAIL"), waiver=held)
    monkeypatch.setattr(statements, "today", lambda: "2030-02-01")
    folder = release.publish(Workspace.open(tmp_path / "workspace"), made).path
    assert cli.call(["releases", "verify", str(folder)]) == 0
    assert "warning" not in capsys.readouterr().err
    monkeypatch.setattr(statements, "today", lambda: "2030-02-02")
    assert cli.call(["releases", "verify", str(folder)]) == 0
    assert "warning: it did not pass in fidelity" in capsys.readouterr().err
    assert cli.call(["releases", "verify", str(folder), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["problems"] == []
    assert "ended on 2030-02-01" in told["warnings"][0]


def test_a_new_waiver_is_a_new_version(tmp_path: Path) -> None:
    """A release names the waiver that let it out and never changes: another waiver, or a PASS, is another
    version; after a retraction there is none."""
    place, made = Workspace.open(tmp_path / "workspace"), judged(fidelity="FAIL")
    later = dataclasses.replace(made, waiver=Waiver(*WHO, "2030-06-01", "2100-06-01", WHY))
    passed = dataclasses.replace(judged(), waiver=None)
    versions = [release.publish(place, each).version for each in (made, later, passed, made, later, passed)]
    assert versions == [1, 2, 3, 1, 2, 3]
    retraction.retract(place.root / "releases", made.name, 1, "A patient has withdrawn consent.", None)
    for each in (made, dataclasses.replace(made, waiver=Waiver(*WHO, "2030-06-01", "2100-09-01", WHY))):
        with pytest.raises(ReleaseError, match="not published again"):
            release.publish(place, each)


def test_a_run_is_blocked_waived_and_published(
    small: Callable[..., Any], job: Callable[..., Any], judges: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    """Blocked with code 3 and offered; after the last day of a waiver it is blocked as before."""
    judges.axes = {"fidelity": "FAIL"}
    first = stages.run(job(small()))
    assert (first.released, summary.exit_code(first)) == (None, 3)
    place = job(small()).workspace
    [request] = waiver.open_ones(place)
    waiver.sign(place, request, WHO, WHY, LAST, key(tmp_path / "a"))
    monkeypatch.setattr(statements, "today", lambda: "2999-01-01")
    assert stages.run(job(small())).released is None
    monkeypatch.undo()
    assert waiver.held(place, request) is not None


def test_the_waived_run_publishes(
    small: Callable[..., Any], job: Callable[..., Any], judges: Any, tmp_path: Path
) -> None:
    """The same run after the waiver ends with a release and code 0; the JSON still says FAIL."""
    judges.axes = {"fidelity": "FAIL"}
    place = job(small()).workspace
    stages.run(job(small()))
    waiver.sign(place, waiver.open_ones(place)[0], WHO, WHY, LAST, key(tmp_path / "a"))
    work = job(small())
    done = stages.run(work)
    assert done.released is not None
    assert summary.exit_code(done) == 0
    assert summary.as_json(done, work.workspace, work.ledger)["verdict"] == "FAIL"


def test_a_privacy_fail_on_the_record_cannot_be_waived(
    small: Callable[..., Any], job: Callable[..., Any], judges: Any, tmp_path: Path
) -> None:
    """A set that fails in fidelity alone, after one of this model that failed in privacy, is no way out."""
    judges.answer = "FAIL"
    stages.run(job(small()))
    judges.answer, judges.axes = "PASS", {"fidelity": "FAIL"}
    second = stages.run(job(small(seed=4)))
    assert second.judgement is not None
    assert second.judgement.verdict.axes["privacy"] == "PASS"
    assert not second.judgement.is_waivable
    assert waiver.open_ones(job(small()).workspace) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text": "short"}, "10 to 500"),
        ({"until": "soon"}, "YYYY-MM-DD"),
        ({"until": "2020-01-01"}, "between today"),
        ({"until": "2999-01-01"}, "180 days"),
        ({"who": ("", "officer")}, "--by"),
    ],
)
def test_who_why_and_until_are_asked_for(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    """A waiver without a person, a reason or a near end is refused, and leaves nothing behind."""
    workspace = Workspace.open(tmp_path / "workspace")
    workspace.restricted("findings", "judged").mkdir(parents=True)
    request = waiver.Request("small", "judged", "a" * 64, 0, "report.html")
    given = {"who": WHO, "text": WHY, "until": LAST, **change}
    with pytest.raises(ReleaseError, match=message):
        waiver.sign(workspace, request, **given, signer=key(tmp_path / "a"))
    assert waiver.held(workspace, request) is None


def test_a_changed_waiver_does_not_hold(tmp_path: Path) -> None:
    """A waiver that was altered, or that is about another verdict, is as if it were not there."""
    workspace = Workspace.open(tmp_path / "workspace")
    workspace.restricted("findings", "judged").mkdir(parents=True)
    request = waiver.Request("small", "judged", "a" * 64, 0, "report.html")
    waiver.sign(workspace, request, WHO, WHY, LAST, key(tmp_path / "a"))
    assert waiver.held(workspace, request) is not None
    assert waiver.held(workspace, dataclasses.replace(request, verdict="b" * 64)) is None
    [path] = workspace.restricted("findings", "judged", waiver.FOLDER).iterdir()
    path.write_bytes(path.read_bytes().replace(b'"sig": "', b'"sig": "A', 1))
    assert waiver.held(workspace, request) is None


def test_the_command_lists_signs_and_refuses(
    small: Callable[..., Any], job: Callable[..., Any], judges: Any, tmp_path: Path, capsys: Any
) -> None:
    """`waive` lists what failed in fidelity alone, signs the one that is named, and says that privacy has no
    waiver.
    """
    judges.axes = {"fidelity": "FAIL"}
    place = job(small()).workspace
    stages.run(job(small()))
    signing.new_key(tmp_path / "a", "")
    at = ["--workspace", str(place.root), "--json"]
    assert cli.call(["waive", *at]) == 0
    assert json.loads(capsys.readouterr().out)["waivable"][0][0] == "small"
    people = [
        "--by",
        WHO[0],
        "--role",
        WHO[1],
        "--reason",
        WHY,
        "--until",
        LAST,
        "--file",
        str(tmp_path / "a"),
    ]
    assert cli.call(["waive", "other", *people, *at]) == 2
    assert "Privacy, controls and utility cannot be waived" in json.loads(capsys.readouterr().out)["error"]
    stages.run(job(small(seed=4)))
    assert cli.call(["waive", "small", *people, *at]) == 2
    told = json.loads(capsys.readouterr().out)["error"]
    one, other = waiver.open_ones(place)
    assert one.judgement in told
    assert other.judgement in told
    assert cli.call(["waive", "small", *people, "--judgement", other.judgement, *at]) == 0
    assert json.loads(capsys.readouterr().out)["until"] == LAST
    assert [waiver.held(place, each) is not None for each in (one, other)] == [False, True]
