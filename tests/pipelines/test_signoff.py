"""A set that passed waits for people where the recipe says so: exit code 5, then published."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from phantomset.data.errors import ReleaseError
from phantomset.data.workspace import Workspace
from phantomset.pipelines import stages
from phantomset.pipelines.cli import summary
from phantomset.pipelines.releases import signoff

from .people import key

REQUEST = signoff.Request("small", "judged", "a" * 64, 2, "report.html")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace.open(tmp_path / "workspace")
    made.restricted("findings", "judged").mkdir(parents=True)
    signoff.ask(made, REQUEST)
    return made


def test_two_people_with_two_keys_are_needed(workspace: Workspace, tmp_path: Path) -> None:
    """The same person, or the same key under another name, does not count twice."""
    first, second = key(tmp_path / "a"), key(tmp_path / "b")
    signoff.sign(workspace, REQUEST, "Anna Grey", "data protection officer", first)
    assert signoff.waiting(workspace) == [REQUEST]
    for name, signer in (("Anna  grey", second), ("Bert Blue", first)):
        with pytest.raises(ReleaseError, match="signed already"):
            signoff.sign(workspace, REQUEST, name, "head of research", signer)
    signoff.sign(workspace, REQUEST, "Bert Blue", "head of research", second)
    assert [each.name for each in signoff.given(workspace, REQUEST)] == ["Anna Grey", "Bert Blue"]
    assert signoff.waiting(workspace) == []


def test_a_changed_sign_off_does_not_count(workspace: Workspace, tmp_path: Path) -> None:
    """One that was altered, or that is about another verdict, is as if it were not there."""
    signoff.sign(workspace, REQUEST, "Anna Grey", "data protection officer", key(tmp_path / "a"))
    [path] = workspace.restricted("findings", "judged", "sign-offs").iterdir()
    other = signoff.Request("small", "judged", "b" * 64, 2, "report.html")
    assert len(signoff.given(workspace, REQUEST)) == 1
    assert signoff.given(workspace, other) == []
    path.write_bytes(path.read_bytes().replace(b'"sig": "', b'"sig": "A', 1))
    assert signoff.given(workspace, REQUEST) == []


def test_who_signs_is_named(workspace: Workspace, tmp_path: Path) -> None:
    """A sign-off without a name or a function is refused."""
    signer = key(tmp_path / "a")
    for name, role in (("", "officer"), ("Anna", " "), ("x" * 101, "officer")):
        with pytest.raises(ReleaseError, match="--by"):
            signoff.sign(workspace, REQUEST, name, role, signer)


def test_a_pass_waits_and_is_then_published(
    small: Callable[..., Any], job: Callable[..., Any], judges: Any, tmp_path: Path
) -> None:
    """The run ends with code 5 and nothing released; after the sign-off the same run publishes."""
    recipe = small(gate={"sign_off": "one"})
    first = job(recipe)
    waits = stages.run(first)
    assert (waits.released, summary.exit_code(waits)) == (None, 5)
    assert summary.as_json(waits, first.workspace, first.ledger)["awaits_sign_off"] == 1
    assert not (first.workspace.root / "releases" / "small").exists()
    [request] = signoff.waiting(first.workspace)
    signoff.sign(first.workspace, request, "Anna Grey", "data protection officer", key(tmp_path / "a"))
    done = stages.run(job(recipe))
    assert summary.exit_code(done) == 0
    assert done.released is not None
    text = "".join(path.read_text() for path in done.released.glob("*.json"))
    assert "Anna" not in text
    assert json.loads((done.released / "manifest.json").read_text())["images"] == 30


def test_a_fail_waits_for_nobody(small: Callable[..., Any], job: Callable[..., Any], judges: Any) -> None:
    """A set that failed is blocked at once: nobody can sign it out."""
    judges.answer = "FAIL"
    outcome = stages.run(job(small(gate={"sign_off": "two"})))
    assert (summary.exit_code(outcome), outcome.awaits) == (3, None)
    assert outcome.blocked is not None
