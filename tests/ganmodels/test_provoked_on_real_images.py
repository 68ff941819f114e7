"""Failures provoked on real images, at the thresholds of every run: it recovers, or says what is wrong."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phantomset.data.records import ImageSet
from phantomset.ganmodels import checkpoint, stability
from phantomset.ganmodels.engine import train
from phantomset.ganmodels.families import dcgan, r3gan, vanilla
from phantomset.ganmodels.family import FamilySettings
from phantomset.ganmodels.plan import TrainingPlan

pytestmark = pytest.mark.slow


def _images(path: Path, classes: int, per_class: slice) -> ImageSet:
    """Return those images of each class, by their order in the file."""
    with np.load(path, allow_pickle=False) as stored:
        images, labels = stored["train_images"], stored["train_labels"].reshape(-1).astype(np.int64)
    chosen = np.concatenate([np.flatnonzero(labels == label)[per_class] for label in range(classes)])
    names = tuple(f"class {label}" for label in range(classes))
    return ImageSet(images[chosen][:, None], labels[chosen], chosen, names)


def _events(
    images: ImageSet,
    name: str,
    settings: FamilySettings,
    budget: int,
    folder: Path,
    device: str,
    held_out: ImageSet | None = None,
) -> list[dict[str, Any]]:
    """Train; return all events."""
    plan = TrainingPlan(budget, threads=1)
    progress = train(images, name, settings, plan, folder, device, held_out)
    return [event for report in progress for event in report.events]


def test_fifty_radiographs_are_known_by_heart(datasets: Path, device: str, tmp_path: Path) -> None:
    """34 to learn, 16 held out, the default family: told as soon as it may be, and more is augmented."""
    path = datasets / "pneumoniamnist.npz"
    learn, held_out = _images(path, 2, slice(17)), _images(path, 2, slice(17, 25))
    events = _events(learn, "r3gan", r3gan.Settings(), 25_600, tmp_path, device, held_out)
    assert [event["code"] for event in events] == ["over-fit"]
    assert events[0]["images"] > stability.OVERFIT_IMAGES
    assert events[0]["message"].startswith("augmentation + 0.1")


def test_ten_digits_collapse(datasets: Path, device: str, tmp_path: Path) -> None:
    """`vanilla` makes a few images of ink: told after its slow start, and given up at the end, by class."""
    learn = _images(datasets / "mnist.npz", 10, slice(400))
    events = _events(learn, "vanilla", vanilla.Settings(), 48_000, tmp_path, device)
    assert [event["code"] for event in events] == ["collapse", "given-up"]
    assert events[0]["message"].startswith("spread of class 'class 0' 0.")
    assert 3 * stability.WARM_UP_IMAGES < events[0]["images"] < 4 * stability.WARM_UP_IMAGES
    assert "spread of class 'class 0' 0." in events[1]["message"]


def test_a_family_that_leaves_grain(datasets: Path, device: str, tmp_path: Path) -> None:
    """`vanilla` makes each pixel by itself: its power at the highest frequencies is told at the end."""
    learn = _images(datasets / "pneumoniamnist.npz", 2, slice(950))
    (event,) = _events(learn, "vanilla", vanilla.Settings(), 102_400, tmp_path, device)
    assert (event["code"], event["images"]) == ("noise-drift", 102_400)
    assert event["advice"]


def test_a_critic_fifty_times_as_fast_is_held(datasets: Path, device: str, tmp_path: Path) -> None:
    """Spectral norms hold `dcgan`'s critic at a step of .02: no event, and samples as varied as the real."""
    learn = _images(datasets / "pneumoniamnist.npz", 2, slice(950))
    assert _events(learn, "dcgan", dcgan.Settings(learning_rate_critic=0.02), 25_600, tmp_path, device) == []
    assert 0.8 < checkpoint.read_statistics(tmp_path)[-1]["spread"] < 1.25
