"""Failures whose cause is known, in whole runs of a toy: the event says what failed, and the run heals."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from phantomset.ganmodels import engine
from phantomset.ganmodels.family import FamilySettings
from phantomset.ganmodels.plan import TrainingPlan

from .toy import Faults, toy, waves

Train = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Train the toy with its faults; return all events."""

    def start(faults: Faults, counts: tuple[int, ...], budget_images: int) -> list[dict[str, Any]]:
        monkeypatch.setattr(engine, "load", lambda *_: toy(faults))
        plan = TrainingPlan(budget_images, threads=1)
        progress = engine.train(waves(counts), "toy", FamilySettings(), plan, tmp_path)
        return [event for report in progress for event in report.events]

    return start


def test_a_small_class_that_repeats_itself_is_named(train: Train) -> None:
    """One image of twenty is of class 2; from image 25,600 on its fakes are nearly one. It is met by name.

    Some 5 pairs a check: the newest 84 are all narrow after 17 checks of 1,280 images, at 48,000.
    """
    events = train(Faults(repeats=2, repeats_from=400), (190, 190, 20), 60_000)
    assert [event["code"] for event in events] == ["collapse"]
    assert events[0]["message"].startswith("spread of class 'class 2' 0.")
    assert "roll-back 1" in events[0]["message"]
    assert 40_000 <= events[0]["images"] <= 56_000


def test_a_small_class_that_varies_is_left_alone(train: Train) -> None:
    """The same sizes of classes in health: no event at all."""
    assert train(Faults(), (190, 190, 20), 60_000) == []
