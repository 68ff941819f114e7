"""What ran is written to runs/, without identifiers and paths."""

import json
from collections.abc import Callable
from pathlib import Path

import yaml

from phantomset.data.workspace import Workspace
from phantomset.pipelines.ledger import Entry, RunLedger
from phantomset.pipelines.recipe import Recipe

ENTRY = Entry("ingest", "abc", True, 1.5, 1.25)


def test_a_run_without_a_finished_stage_leaves_no_folder(
    tmp_path: Path, small: Callable[..., Recipe]
) -> None:
    """The folder appears with the first entry; an event before that is not written."""
    workspace = Workspace.open(tmp_path)
    ledger = RunLedger(workspace, small())
    ledger.log("begin")
    assert ledger.folder is None
    assert list((tmp_path / "runs").iterdir()) == []


def test_entries_and_events_are_lines_of_json(tmp_path: Path, small: Callable[..., Recipe]) -> None:
    """ledger.jsonl holds the stages, log.jsonl the events, recipe.yaml every default."""
    ledger = RunLedger(Workspace.open(tmp_path), small(), ["seed"])
    ledger.add(ENTRY)
    ledger.log("verdict", status="PASS")
    assert ledger.folder is not None
    assert ledger.folder.name.endswith("-small")
    (line,) = (ledger.folder / "ledger.jsonl").read_text().splitlines()
    assert json.loads(line) == {
        "stage": "ingest",
        "digest": "abc",
        "made": True,
        "seconds": 1.5,
        "cpu_seconds": 1.25,
    }
    events = [json.loads(line) for line in (ledger.folder / "log.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events] == ["begin", "verdict"]
    assert events[0]["overridden"] == "seed"
    assert yaml.safe_load((ledger.folder / "recipe.yaml").read_text())["model"]["family"] == "r3gan"


def test_paths_of_the_source_are_kept_back(tmp_path: Path, small: Callable[..., Recipe]) -> None:
    """Neither the folder nor the label table of the source is named."""
    table = {"table": "ward-9.csv", "key": "file", "column": "finding"}
    source = {"format": "dicom", "path": "/hospital/ward-7", "labels": table}
    ledger = RunLedger(Workspace.open(tmp_path), small(source=source))
    ledger.add(ENTRY)
    assert ledger.folder is not None
    text = "".join(path.read_text() for path in ledger.folder.iterdir())
    assert "ward" not in text


def test_two_runs_within_a_second_have_two_folders(tmp_path: Path, small: Callable[..., Recipe]) -> None:
    """Nothing of an earlier run is overwritten."""
    workspace = Workspace.open(tmp_path)
    for _ in range(3):
        RunLedger(workspace, small()).add(ENTRY)
    assert len(list((tmp_path / "runs").iterdir())) == 3
