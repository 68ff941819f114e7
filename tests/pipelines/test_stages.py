"""Stages: noun in, noun out; what exists is not made again; wrong input leaves nothing behind."""

import io
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from phantomset.data.errors import ModelError, SourceError, SplitError
from phantomset.ganmodels.step import Stepper
from phantomset.pipelines import report, stages
from phantomset.pipelines.cli import summary
from phantomset.pipelines.recipe import Recipe
from phantomset.pipelines.stages import Job, Outcome
from phantomset.pipelines.synthesis import making, needs

PUBLIC_PAGE, RESTRICTED_PAGE = report.public_html, report.restricted_html
"""The real pages: the scripted judges come with pages of one line."""


def files(root: Path) -> set[Path]:
    return {path.relative_to(root) for path in root.rglob("*")}


def test_a_whole_run_publishes(job: Callable[..., Job], judges: Any, key_in: Callable[..., Any]) -> None:
    """From images to a release; the run's folder holds recipe, ledger, statistics and events. The project key
    is in no file.
    """
    work = job()
    outcome = stages.run(work)
    assert outcome.released is not None
    assert (outcome.released / "SHA256SUMS").exists()
    assert outcome.synthetic is not None
    assert outcome.synthetic.count == 30
    assert work.ledger.folder is not None
    assert {path.name for path in work.ledger.folder.iterdir()} == {
        "recipe.yaml",
        "ledger.jsonl",
        "train.jsonl",
        "log.jsonl",
    }
    lines = [json.loads(line) for line in (work.ledger.folder / "ledger.jsonl").read_text().splitlines()]
    assert [line["stage"] for line in lines] == list(stages.STAGES)
    assert all(line["made"] for line in lines)
    assert key_in(outcome.released) == key_in(work.workspace.root) == []


def test_what_happened_in_training_is_told(
    job: Callable[..., Job], judges: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event of the engine, with its advice, is in the run's log, in both reports and in the last table."""
    monkeypatch.setattr(report, "public_html", PUBLIC_PAGE)
    monkeypatch.setattr(report, "restricted_html", RESTRICTED_PAGE)
    short_once(monkeypatch)
    work = job()
    outcome = stages.run(work)
    assert outcome.checkpoint is not None
    (event,) = outcome.checkpoint.events
    assert event["code"] == "out-of-memory"
    assert work.ledger.folder is not None
    lines = [json.loads(line) for line in (work.ledger.folder / "log.jsonl").read_text().splitlines()]
    (logged,) = [line for line in lines if line["event"] == "training"]
    assert {name: logged[name] for name in event} == event
    assert outcome.released is not None
    assert outcome.judgement is not None
    told = f"After 0 images, out-of-memory: {event['message']}. {event['advice']}"
    for page in (outcome.released / "report.html", outcome.judgement.report):
        assert told in page.read_text()
    stream = io.StringIO()
    summary.show(Console(file=stream, width=400), outcome, work.ledger)
    assert f"{event['message']}. {event['advice']}" in stream.getvalue()


def short_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let memory not suffice for the first batch that is tried."""
    move, calls = Stepper._move, itertools.count()

    def moved(self: Stepper, player: Any, shards: Any) -> Any:
        if next(calls) == 0:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return move(self, player, shards)

    monkeypatch.setattr(Stepper, "_move", moved)


def test_a_rerun_does_no_work_and_gives_the_same_digests(job: Callable[..., Job], judges: Any) -> None:
    """Each stage finds what it made before; the judges are asked once and nothing is released twice."""
    first = stages.run(job())
    again = stages.run(job())
    assert judges.asked == 1
    assert not any(entry.made for entry in again.entries)
    assert digests(again) == digests(first)
    assert again.released == first.released


def test_another_workspace_gives_the_same_digests(job: Callable[..., Job], judges: Any) -> None:
    """Digests come from content, settings and seeds, never from where things lie."""
    assert digests(stages.run(job())) == digests(stages.run(job(place="elsewhere")))


def digests(outcome: Outcome) -> list[str]:
    return [entry.digest for entry in outcome.entries]


@pytest.mark.parametrize("until", stages.STAGES)
def test_a_run_stops_where_it_is_told(job: Callable[..., Job], judges: Any, until: stages.Stage) -> None:
    """Up to a stage, and not further."""
    outcome = stages.run(job(), until)
    assert outcome.entries[-1].stage == until
    assert (outcome.released is not None) == (until == "publish")


@pytest.mark.parametrize("answer", ["FAIL", "INCONCLUSIVE"])
def test_what_does_not_pass_is_blocked_without_an_image(
    job: Callable[..., Job], judges: Any, answer: str
) -> None:
    """blocked/ holds the coarse verdict and the report; releases/ stays empty."""
    judges.answer = answer
    work = job()
    outcome = stages.run(work)
    assert outcome.released is None
    assert outcome.blocked is not None
    assert {path.name for path in outcome.blocked.iterdir()} == {"verdict.json", "report.html"}
    assert not list((work.workspace.root / "releases").glob("*/v*"))


def test_a_fail_sticks_through_the_stages(
    job: Callable[..., Job], judges: Any, small: Callable[..., Recipe]
) -> None:
    """A new seed under a new name in a fresh workspace inherits it; a changed model and a reason leave it."""
    judges.answer = "FAIL"
    stages.run(job())
    judges.answer = "PASS"
    retried = stages.run(job(small(seed=4, name="another"), place="fresh"))
    assert retried.judgement is not None
    assert retried.judgement.verdict.status == "FAIL"
    assert retried.released is None
    reason = "another budget, which was argued for in a letter"
    changed = {"budget": {"images": 120}, "batch_size": 40, "settings": {"latent": 4, "widths": [8]}}
    left = stages.run(job(small(model=changed, gate={"reason": reason}), place="fresh"))
    assert left.released is not None
    assert left.judgement is not None
    assert any(reason in note for note in left.judgement.draft.notes)


def test_a_deleted_ledger_blocks_the_next_set(
    job: Callable[..., Job], judges: Any, small: Callable[..., Recipe], own_place: Path
) -> None:
    """A workspace that holds judgements does not believe in a ledger without them: INCONCLUSIVE."""
    stages.run(job())
    for name in ("judgements.jsonl", "judgements.head"):
        (own_place / "config" / name).unlink()
    outcome = stages.run(job(small(seed=4)))
    assert outcome.judgement is not None
    assert outcome.judgement.verdict.status == "INCONCLUSIVE"


def test_the_restricted_report_stays_in_the_restricted_part(job: Callable[..., Job], judges: Any) -> None:
    """The reviewers' page lies under restricted/findings, for its owner alone."""
    work = job()
    outcome = stages.run(work, "validate")
    assert outcome.judgement is not None
    report = outcome.judgement.report
    assert report.is_relative_to(work.workspace.root / "restricted" / "findings")
    assert report.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"generate": {"count": 3, "classes": {"eleven": 3}}}, ModelError),
        ({"model": {"batch_size": 8, "budget": {"images": 80}}}, ModelError),
        ({"split": {"train": 0.001, "holdout": 0.5, "reference": 0.499}}, ModelError),
    ],
    ids=["unknown class", "batch too small", "too few to train on"],
)
def test_input_that_cannot_be_trained_on_leaves_nothing(
    job: Callable[..., Job],
    small: Callable[..., Recipe],
    changes: dict[str, object],
    error: type[Exception],
) -> None:
    """What only shows after ingest takes ingest's results with it: no noun, no run folder."""
    work = job(small(**changes))
    before = files(work.workspace.root)
    with pytest.raises(error):
        stages.run(work)
    assert files(work.workspace.root) == before
    assert work.ledger.folder is None


def test_what_was_there_before_a_wrong_run_stays(
    job: Callable[..., Job], judges: Any, small: Callable[..., Recipe]
) -> None:
    """Only the failing run's own results are taken away."""
    stages.run(job())
    work = job(small(generate={"count": 3, "classes": {"eleven": 3}}))
    before = files(work.workspace.root)
    with pytest.raises(ModelError, match="no class 'eleven'"):
        stages.run(work)
    assert files(work.workspace.root) == before


def test_a_recipe_that_changes_only_later_reuses_what_came_before(
    job: Callable[..., Job], judges: Any, small: Callable[..., Recipe]
) -> None:
    """Other counts need no other training; another policy needs no other set."""
    stages.run(job())
    more = stages.run(job(small(generate={"count": 31})))
    assert [entry.made for entry in more.entries] == [False, False, True, True, True]
    strict = stages.run(job(small(gate={"privacy": "strict"})))
    assert [entry.made for entry in strict.entries] == [False, False, False, True, True]


def test_the_steps_of_an_orchestrator_are_given_names_and_work(job: Callable[..., Job], judges: Any) -> None:
    """Each stage goes through the caller's step, with the digest of the noun before it."""
    seen: list[tuple[str, str]] = []

    def step(stage: stages.Stage, reference: str, work: stages.Work) -> Any:
        seen.append((stage, reference))
        return work()

    outcome = stages.run(job(), step=step)
    assert [stage for stage, _ in seen] == list(stages.STAGES)
    assert outcome.split is not None
    assert seen[1][1] == outcome.split.digest


@pytest.mark.parametrize(
    ("model", "budget", "members"),
    [({}, 100_000, 1), ({}, 400_000, 4), ({}, 5_000_000, 4), ({"members": 3}, 100_000, 3)],
)
def test_the_estimate_counts_the_most_members(
    small: Callable[..., Recipe], model: dict, budget: int, members: int
) -> None:
    """Before ingest: a generator for each 100,000 images of the budget, at most four; or as asked."""
    assert needs.most_members(small(model=model), budget) == members


def test_the_estimate_counts_two_checkpoints_a_member_and_the_best() -> None:
    """Of a finished member the newest two lie on disk; of the one that trains the best or last good too."""
    assert [needs.checkpoints_on_disk(members) for members in (1, 4)] == [3, 9]


def test_labels_follow_the_training_part(small: Callable[..., Recipe]) -> None:
    """as-real shares 10 images out over classes of 5, 3 and 2 as 5, 3, 2; uniform over three as 4, 3, 3."""
    real = np.repeat([0, 1, 2], [50, 30, 20])
    names = ("a", "b", "c")
    labels = making.wanted_labels(small(generate={"count": 10}), names, real)
    assert np.bincount(labels).tolist() == [5, 3, 2]
    even = making.wanted_labels(small(generate={"count": 10, "classes": "uniform"}), names, real)
    assert sorted(np.bincount(even).tolist()) == [3, 3, 4]
    exact = small(generate={"count": 3, "classes": {"c": 2, "a": 1}})
    assert np.bincount(making.wanted_labels(exact, names, real), minlength=3).tolist() == [1, 0, 2]


def test_the_order_of_labels_is_chance_and_repeats(small: Callable[..., Recipe]) -> None:
    """Sorted labels would tell an image's class by its place; the order is drawn from the seed."""
    real = np.repeat([0, 1], 500)
    first = making.wanted_labels(small(generate={"count": 100}), ("a", "b"), real)
    assert (np.diff(first) != 0).sum() > 20
    assert np.array_equal(first, making.wanted_labels(small(generate={"count": 100}), ("a", "b"), real))
    other = making.wanted_labels(small(generate={"count": 100}, seed=9), ("a", "b"), real)
    assert not np.array_equal(first, other)


def test_errors_of_other_kinds_take_nothing_away(job: Callable[..., Job]) -> None:
    """Only wrong input rolls back; a bug or an interruption leaves what may be resumed."""
    work = job()
    with pytest.raises(RuntimeError), work.workspace.nothing_left_behind():
        work.workspace.restricted("cohorts", "kept").write_text("x")
        raise RuntimeError
    assert work.workspace.restricted("cohorts", "kept").exists()
    for error in (SourceError("x"), SplitError("x")):
        with pytest.raises(type(error)), work.workspace.nothing_left_behind():
            work.workspace.restricted("cohorts", "new", "deep").mkdir(parents=True)
            raise error
    assert not work.workspace.restricted("cohorts", "new").exists()
