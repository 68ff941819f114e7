"""Small image sets whose classes the eye can tell apart."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from phantomset.data.records import ImageSet
from phantomset.ganmodels.engine import train
from phantomset.ganmodels.families import r3gan
from phantomset.ganmodels.plan import Progress, TrainingPlan


def draw_bars(count: int, shape: tuple[int, int, int], classes: int = 2, seed: int = 0) -> ImageSet:
    """Return noisy images, one bright bar each, whose place along the height is the class."""
    rng = np.random.default_rng(seed)
    channels, height, width = shape
    labels = np.arange(count, dtype=np.int64) % classes
    images = rng.integers(0, 60, (count, channels, height, width), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        top = int(label) * height // classes
        left = int(rng.integers(0, width // 2))
        image[:, top : top + max(1, height // classes // 2), left : left + width // 2] += 150
    names = tuple(f"bar {number}" for number in range(classes))
    return ImageSet(images, labels, np.arange(count, dtype=np.int64), names)


def draw_noise(count: int, seed: int) -> ImageSet:
    """Images without any likeness: all that a critic can learn of them is which it was shown."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    pixels = rng.integers(0, 256, (count, 1, 8, 8), dtype=np.uint8)
    return ImageSet(pixels, labels, np.arange(count), ("a", "b"))


Bars = Callable[..., ImageSet]


@pytest.fixture
def bars() -> Bars:
    """The function ``(count, (C, H, W), classes=2, seed=0) -> ImageSet``."""
    return draw_bars


@pytest.fixture
def small() -> ImageSet:
    """64 grey images of 8 x 8 px in 2 classes."""
    return draw_bars(64, (1, 8, 8))


@pytest.fixture
def noise() -> Callable[[int, int], ImageSet]:
    """The function ``(count, seed) -> ImageSet``."""
    return draw_noise


@pytest.fixture
def run(tmp_path: Path, device: str) -> Callable[..., Iterator[Progress]]:
    """Train r3gan, by default 40 steps of 16 images in ``tmp_path``."""

    def start(images: ImageSet, folder: Path = tmp_path, **changes: object) -> Iterator[Progress]:
        settings = changes.pop("settings", r3gan.Settings())
        plan = TrainingPlan(**{"budget_images": 640, "batch_size": 16, "threads": 1, **changes})
        return train(images, "r3gan", settings, plan, folder, device)

    return start
