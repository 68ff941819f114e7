"""Keys, accept, diff, retract, verify and sign-off from the command line: exit codes, one JSON object."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from pydicom.dataset import Dataset

from phantomset.data.dicom.header import subject_of
from phantomset.data.keys import pseudonym
from phantomset.data.workspace import Workspace
from phantomset.pipelines import cli, stages
from phantomset.pipelines.draft import Origin
from phantomset.pipelines.releases import release, signoff, trace

from .drafts import draft, images

WHY = "a patient has withdrawn consent"
Call = Callable[..., tuple[int, Any, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Call a command with --json; return exit code, the one JSON object, and stderr."""

    def run(*arguments: object) -> tuple[int, Any, str]:
        code = cli.call([*map(str, arguments), "--json"])
        out, err = capsys.readouterr()
        answer = json.loads(out)
        assert answer["exit_code"] == code
        return code, answer, err

    return run


@pytest.fixture
def workspace(own_place: Path) -> Workspace:
    return Workspace.open(own_place / "workspace")


def test_a_key_is_made_once_and_shown(call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No key: code 2. Then new prints the public half, and show the same; a key is never replaced."""
    assert call("keys", "show")[0] == 2
    code, made, _ = call("keys", "new", "--name", "data office")
    assert code == 0
    assert made["public"].startswith("ssh-ed25519 ")
    assert made["public"].endswith("data office")
    assert Path(made["file"]).stat().st_mode & 0o777 == 0o600
    assert call("keys", "show")[1]["fingerprint"] == made["fingerprint"]
    code, refused, _ = call("keys", "new")
    assert code == 2
    assert "a key is never replaced" in refused["error"]
    assert call("keys", "new", "--file", tmp_path / "other")[0] == 0
    assert cli.call(["keys", "show", "--file", str(tmp_path / "other")]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("ssh-ed25519 ")
    assert err.startswith("SHA256:")


def test_accept_says_what_is_not_met(call: Call, workspace: Workspace, tmp_path: Path) -> None:
    """Code 0 where the needs are met, 3 with a line for each that is not, 2 for damage or bad needs."""
    folder, needs = release.publish(workspace, draft()).path, tmp_path / "needs.yaml"
    needs.write_text("images: 90\nclasses: {nodule: 30}\n")
    assert call("releases", "accept", folder, "--needs", needs)[1]["unmet"] == []
    assert call("releases", "accept", "chest-demo", "--needs", needs)[0] == 0
    needs.write_text("images: 91\nsigned: true\n")
    code, told, _ = call("releases", "accept", folder, "--needs", needs)
    assert (code, len(told["unmet"])) == (3, 2)
    needs.write_text("picture: 1\n")
    assert "needs may ask for" in call("releases", "accept", folder, "--needs", needs)[1]["error"]
    needs.write_text("images: 1\n")
    (folder / "labels.json").chmod(0o644)
    (folder / "labels.json").write_text("{}")
    code, told, _ = call("releases", "accept", folder, "--needs", needs)
    assert (code, told["problems"]) == (2, ["labels.json: changed"])


def test_diff_names_what_differs(
    call: Call, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two versions differ in set, version and images; the table for people names both."""
    for count in (90, 60):
        release.publish(workspace, draft(synthetic=images(count, 1)))
    code, told, _ = call("releases", "diff", "chest-demo/v1", "chest-demo/v2")
    assert code == 0
    assert told["differences"]["images"] == ["90", "60"]
    assert sum(told["files"].values()) > 0
    assert cli.call(["releases", "diff", "chest-demo/v1", "chest-demo/v2"]) == 0
    assert "chest-demo/v2" in capsys.readouterr().out
    code, refused, _ = call("releases", "diff", "chest-demo/v1", "chest-demo/v9")
    assert (code, refused["error"]) == (2, "release chest-demo: there is no v9; there are v1, v2")


@pytest.mark.parametrize("odd", ["[]", "null", "3", "[" * 9_999])
def test_a_manifest_of_another_form_is_no_bug_of_ours(call: Call, workspace: Workspace, odd: str) -> None:
    """A damaged release is listed as damaged, and compared with nothing; no command breaks down on it."""
    path = release.publish(workspace, draft()).path / "manifest.json"
    path.chmod(0o644)
    path.write_text(odd)
    assert call("releases", "list")[1]["releases"][0]["set"] is None
    assert call("releases", "show", "chest-demo")[0] == 0
    assert call("releases", "diff", path.parent, path.parent)[0] == 2
    release.publish(workspace, draft())


def test_what_was_retracted_is_told_to_everyone(
    call: Call, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    """A reason is asked for; then list, verify and a second retraction say that it was taken back."""
    call("keys", "new")
    folder = release.publish(workspace, draft()).path
    assert call("releases", "verify", folder)[0] == 0
    assert call("releases", "retract", "chest-demo/v1", "--reason", "short")[0] == 2
    code, told, _ = call("releases", "retract", "chest-demo/v1", "--reason", WHY)
    assert (code, told["signed"]) == (0, True)
    assert call("releases", "list")[1]["releases"][0]["retracted"] is True
    code, told, _ = call("releases", "verify", folder)
    assert code == 2
    assert WHY in told["problems"][0]
    again = call("releases", "retract", "chest-demo/v1", "--reason", WHY)
    assert (again[0], again[1]["error"]) == (2, "release chest-demo: v1 is on the list already")
    assert cli.call(["releases", "list"]) == 0
    assert "retracted" in capsys.readouterr().out


def test_what_failed_since_is_told_until_it_is_taken_back(
    call: Call,
    small: Callable[..., Any],
    job: Callable[..., Any],
    judges: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A set passes and is let out; another seed fails: every command on a release says so, and what to do."""
    work = job()
    needs = work.workspace.root / "needs.yaml"
    needs.write_text("images: 1\n")
    stages.run(work)
    at = ("--workspace", work.workspace.root)
    assert call("releases", "list", *at)[1]["releases"][0]["failed_since"] is None
    assert call("releases", "verify", "small", *at)[0] == 0
    assert call("releases", "accept", "small", "--needs", needs, *at)[0] == 0
    judges.answer, said = "FAIL", []
    later = job(small(seed=1))
    stages.run(replace(later, watch=replace(later.watch, say=said.append)))
    take_back = "phantomset releases retract small/v1"
    assert [take_back in sentence for sentence in said].count(True) == 1
    code, told, err = call("releases", "verify", "small", *at)
    assert (code, told["problems"], bool(told["failed_since"])) == (3, [], True)
    assert cli.call(["releases", "verify", "small", *map(str, at)]) == 3
    assert take_back in capsys.readouterr().err
    code, told, _ = call("releases", "accept", "small", "--needs", needs, *at)
    assert (code, take_back in told["unmet"][0]) == (3, True)
    trace_of = next(iter(trace.known(work.workspace)))
    patient = next(iter(trace_of.origin.patients["train"]))
    assert call("releases", "concerning", patient, *at)[1]["releases"][0]["failed_since"]
    assert call("releases", "show", "small", *at)[1]["failed_since"]
    for command in (["list"], ["show", "small"], ["concerning", patient]):
        assert cli.call(["releases", *command, *map(str, at)]) == 0
        out, err = capsys.readouterr()
        assert "FAIL since" in out
        assert (take_back in err) is (command == ["list"])
    assert call("releases", "retract", "small/v1", "--reason", WHY, *at)[0] == 0
    assert call("releases", "verify", "small", *at)[0] == 2
    assert cli.call(["releases", "list", *map(str, at)]) == 0
    out, err = capsys.readouterr()
    assert "retracted" in out
    assert "FAIL since" not in out
    assert take_back not in err


@pytest.mark.parametrize("issuer", ["", "St Elsewhere"])
def test_a_typed_identifier_finds_the_patient_that_ingest_took_in(
    call: Call, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, issuer: str
) -> None:
    """An identifier as a person types it has the pseudonym of the same patient's DICOM files."""
    data = Dataset()
    data.PatientID, data.IssuerOfPatientID = "AB-17 ", issuer
    subject = pseudonym("patient", subject_of(data, "PatientID"))
    origin = Origin(patients={"train": [subject], "holdout": [], "reference": []})
    release.publish(workspace, draft(origin=origin))
    monkeypatch.setattr(typer, "prompt", lambda *_, **__: "ab-17")
    found = call("releases", "concerning", "--issuer", issuer)[1]
    assert [(one["name"], one["part"]) for one in found["releases"]] == [("chest-demo", "train")]
    assert call("releases", "concerning", "--issuer", "another house")[1]["releases"] == []
    monkeypatch.setattr(typer, "prompt", lambda *_, **__: " ")
    assert call("releases", "concerning")[0] == 2


def test_sign_off_lists_signs_and_refuses(
    call: Call, small: Callable[..., Any], job: Callable[..., Any], judges: Any, tmp_path: Path
) -> None:
    """What waits is listed; people sign with keys of their own; what does not wait is refused."""
    work = job(small(gate={"sign_off": "two"}))
    at = ("--workspace", work.workspace.root)
    assert call("sign-off", *at)[1]["waiting"] == []
    stages.run(work)
    assert [one[:2] for one in call("sign-off", *at)[1]["waiting"]] == [["small", 2]]
    people = ("--by", "Anna Grey", "--role", "data protection officer")
    assert "needs a key of yours" in call("sign-off", "small", *people, *at)[1]["error"]
    for name in ("a", "b"):
        call("keys", "new", "--file", tmp_path / name)
    code, told, _ = call("sign-off", "small", *people, "--file", tmp_path / "a", *at)
    assert (code, told["still_needed"]) == (0, 1)
    code, told, _ = call("sign-off", "small", *people, "--file", tmp_path / "b", *at)
    assert code == 2
    assert "signed already" in told["error"]
    other = ("--by", "Bert Blue", "--role", "head of research", "--file", tmp_path / "b")
    assert call("sign-off", "small", *other, *at)[1]["still_needed"] == 0
    assert "does not wait" in call("sign-off", "small", *other, *at)[1]["error"]


def test_who_signed_one_set_can_sign_the_next_of_its_recipe(
    call: Call, small: Callable[..., Any], job: Callable[..., Any], judges: Any, tmp_path: Path
) -> None:
    """A set that waits for a second person is no obstacle: another seed's set is signed by the first too."""
    call("keys", "new", "--file", tmp_path / "a")
    people = ("--by", "Anna Grey", "--role", "data protection officer", "--file", tmp_path / "a")
    for seed in (3, 4):
        work = job(small(seed=seed, gate={"sign_off": "two"}))
        stages.run(work)
        assert call("sign-off", "small", *people, "--workspace", work.workspace.root)[0] == 0
    waiting = signoff.waiting(work.workspace)
    assert [len(signoff.given(work.workspace, one)) for one in waiting] == [1, 1]


def test_of_several_sets_the_one_that_was_read_is_named(
    call: Call, small: Callable[..., Any], job: Callable[..., Any], judges: Any, tmp_path: Path
) -> None:
    """Two sets of one recipe wait: without a name nothing is signed, exit code 2, and both are listed."""
    call("keys", "new", "--file", tmp_path / "a")
    people = ("--by", "Anna Grey", "--role", "data protection officer", "--file", tmp_path / "a")
    for seed in (3, 4):
        stages.run(job(small(seed=seed, gate={"sign_off": "one"})))
    place = job().workspace
    one, other = signoff.waiting(place)
    at = ("--workspace", place.root)
    for named in ((), ("--judgement", "nothing")):
        code, told, _ = call("sign-off", "small", *people, *named, *at)
        assert code == 2
        assert all(each.judgement in told["error"] and each.report in told["error"] for each in (one, other))
    assert signoff.waiting(place) == [one, other]
    assert call("sign-off", "small", *people, "--judgement", other.judgement, *at)[1]["still_needed"] == 0
    assert signoff.waiting(place) == [one]


def test_notebooks_show_verdict_and_release(workspace: Workspace) -> None:
    """Status, axes and reasons of a verdict, name and classes of a release; every text escaped."""
    failed = draft("FAIL", name="a-set")
    shown = failed.verdict._repr_html_()
    assert shown.startswith("<div><h3>FAIL</h3><table>")
    assert "copies: 7 training patients lie below the threshold" in shown
    assert "<th>privacy</th><td>FAIL</td>" in shown
    odd = images(9, 1, labels=("<b>", "x", "y"))
    html = release.publish(workspace, draft(synthetic=odd))._repr_html_()
    assert "<h3>chest-demo v1</h3>" in html
    assert "&lt;b&gt; 3, x 3, y 3" in html
    assert "report.html" in html
