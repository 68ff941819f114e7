"""What a person sees: calm lines in a log, tables at the end, one JSON object for machines."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from phantomset.pipelines import stages
from phantomset.pipelines.cli import console, summary
from phantomset.pipelines.ledger import Entry
from phantomset.pipelines.stages import Job
from phantomset.validators.finding import Finding


def progress(images: int, **changes: Any) -> SimpleNamespace:
    base = {
        "images_seen": images,
        "budget_images": 1000,
        "images_per_second": 50.0,
        "seconds_left": (1000 - images) / 50,
        "events": (),
        "done": images >= 1000,
    }
    return SimpleNamespace(**base | changes)


def test_a_log_gets_whole_lines_at_a_low_rate(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal: no bar, no control characters; of many reports in a second one is told."""
    with console.watching() as watch:
        watch.begin("train")
        for images in range(0, 1001, 100):
            watch.training(progress(images))
        watch.end(Entry("train", "f" * 64, True, 75.0, 70.0))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "train     100%  1,000 of 1,000 images, 50 images/s, 0.0 s left",
        "train     made ffffffffffff in 1:15 min",
    ]


def test_events_of_the_training_are_told_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    """A roll-back is not lost between two lines of progress, nor what to do about it."""
    event = {"code": "collapse", "message": "went back to step 3", "advice": "Give more images."}
    with console.watching() as watch:
        watch.begin("train")
        watch.training(progress(5, events=(event,)))
    assert "collapse: went back to step 3. Give more images." in capsys.readouterr().err


def test_a_stage_that_found_its_result_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """A rerun reads as one."""
    with console.watching() as watch:
        watch.begin("ingest")
        watch.end(Entry("ingest", "a" * 64, False, 0.5, 0.4))
    assert capsys.readouterr().err == "ingest    was there already aaaaaaaaaaaa in 0.5 s\n"


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """With time left, on stderr."""
    stream = io.StringIO()
    terminal = Console(file=stream, force_terminal=True, width=120)
    monkeypatch.setattr(console, "screen", lambda to_stderr=False: terminal)
    with console.watching() as watch:
        watch.begin("train")
        watch.training(progress(500))
        watch.end(Entry("train", "f" * 64, True, 75.0, 70.0))
    assert "500 of 1,000 images" in stream.getvalue() or "made ffffffffffff" in stream.getvalue()
    assert "━" in stream.getvalue()


def test_a_figure_is_shown_with_interval_and_unit() -> None:
    """Three digits are enough to read; a figure that could not be formed is a dash."""
    finding = Finding("c", "m", "privacy", "PASS", value=0.51234, low=0.491, high=0.544, unit="AUC")
    assert summary.figure(finding) == "0.512 [0.491, 0.544] AUC"
    assert summary.figure(Finding("c", "m", "privacy", "INCONCLUSIVE")) == "-"


@pytest.mark.parametrize(("answer", "code"), [("PASS", 0), ("FAIL", 3), ("INCONCLUSIVE", 4)])
def test_the_end_of_a_run_says_everything(
    job: Callable[..., Job], judges: Any, answer: str, code: int
) -> None:
    """What came in, the training, each finding with limit and status, the verdict, where things lie."""
    judges.answer = answer
    work = job()
    outcome = stages.run(work)
    stream = io.StringIO()
    summary.show(Console(file=stream, width=120), outcome, work.ledger)
    text = stream.getvalue()
    assert "600 files: 600 images" in text
    assert "r3gan, 80 images seen" in text
    assert "some power" in text
    assert answer in text
    place = outcome.released or outcome.blocked
    assert f"{place}/report.html" in text
    assert str(outcome.judgement.report) in text
    assert summary.exit_code(outcome) == code


def test_the_json_of_a_run_is_plain_and_holds_no_restricted_figure(
    job: Callable[..., Job], judges: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One object: exit code, stages, counts, verdict, findings that may leave, places."""
    work = job()
    outcome = stages.run(work)
    secret = Finding("attacks", "least p", "privacy", "PASS", value=0.125, restricted=True)
    verdict = outcome.judgement.verdict
    object.__setattr__(verdict, "findings", (*verdict.findings, secret))
    answer = json.loads(json.dumps(summary.as_json(outcome, work.workspace, work.ledger)))
    assert answer["exit_code"] == 0
    assert answer["verdict"] == "PASS"
    assert answer["counts"]["images"] == 600
    assert [entry["stage"] for entry in answer["stages"]] == list(stages.STAGES)
    assert [finding["check"] for finding in answer["findings"]] == ["copies"]
    assert Path(answer["report"]).exists()


def test_many_figures_of_one_check_are_one_line() -> None:
    """Passed under one limit they are told as a range; anything that did not pass keeps its own line."""
    names = ["planted, noticed: exact", "planted, noticed: noise", "planted, noticed: blur"]
    passed = [
        Finding("c", name, "controls", "PASS", value=v / 8) for name, v in zip(names, (8, 7, 8), strict=True)
    ]
    assert summary._rows(passed, "PASS") == [("planted, noticed: 3 figures", "0.875 to 1")]
    assert len(summary._rows(passed, "FAIL")) == 3
    assert len(summary._rows(passed[:2], "PASS")) == 2
