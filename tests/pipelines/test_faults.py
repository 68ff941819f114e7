"""Killed, with a full disk, or beside others: nothing half-written is ever seen under ``releases/``."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from phantomset.data import catalogue

from . import faults


def answers(mode: str, tmp_path: Path) -> tuple[list[dict[str, Any]], str]:
    """Run `faults` in a process of its own; return what it printed, and what it said on stderr."""
    command = [sys.executable, "-W", "ignore", faults.__file__, mode, str(tmp_path / "w"), "7"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1_200)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


@pytest.mark.slow
def test_a_publisher_killed_at_twenty_moments_leaves_nothing_half_written(tmp_path: Path) -> None:
    """kill -9 at 20 random steps, the last included: what is seen is whole; the next one sweeps up."""
    *stopped, last = answers("killed", tmp_path)[0]
    assert len(stopped) == faults.MOMENTS
    assert {answer["code"] for answer in stopped} <= {-9, 0}
    assert sum(answer["code"] == -9 for answer in stopped) >= faults.MOMENTS // 2
    for answer in stopped:
        assert all(problems == [] for problems in answer["seen"].values()), answer
    assert (last["code"], last["left"]) == (0, [])
    assert "killed/v1" in last["seen"]


@pytest.mark.slow
def test_a_disk_that_fills_up_at_any_step_is_told(tmp_path: Path) -> None:
    """From some random steps on nothing can be written: a message with advice, nothing seen, nothing left."""
    found, said = answers("full", tmp_path)
    for answer in found:
        assert answer["code"] in (0, 2), said
        assert answer["left"] == []
        assert all(problems == [] for problems in answer["seen"].values()), answer
    assert any(answer["code"] == 2 for answer in found)
    assert "The disk is full: free some space" in said
    assert "Error:" not in said


@pytest.mark.slow
def test_publishers_at_once_get_numbers_of_their_own(tmp_path: Path) -> None:
    """Four processes under one name: four whole versions, each number given once."""
    ((answer,), said) = answers("together", tmp_path)
    assert answer["codes"] == [0] * 4, said
    assert answer["seen"] == {f"together/v{number}": [] for number in (1, 2, 3, 4)}


def test_publishing_looks_at_no_real_image(tmp_path: Path) -> None:
    """A tripwire on every opening and listing: of the restricted part its own record alone is touched."""
    ((answer,), said) = answers("watched", tmp_path)
    assert answer["touched"] == ["released"], said
    assert answer["then"] == ["objects", "released"]
    assert len(answer["formats"]) == len(list(catalogue.names("phantomset.pipelines.publishers")))
