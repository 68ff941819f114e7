"""A tiny set written in one output form, and what a reader must find of it."""

from pathlib import Path

import numpy as np
import pytest

from phantomset.data import catalogue
from phantomset.data.records import ImageSet
from phantomset.pipelines.publisher import About, divided

from .drafts import images

SHARES = {"train": 0.6, "validation": 0.2, "test": 0.2}
ODD = ("T2/FLAIR", "a:b", 'say "x", y', "שלום", "x" * 200, "NUL", "..", "a\nb")
MISSING = 1
"""The class without an image."""

Loaded = list[tuple[np.ndarray, int]]

whole_or_split = pytest.mark.parametrize("split", [False, True], ids=["whole", "split"])
plain_or_odd = pytest.mark.parametrize(
    ("labels", "channels"), [(("a", "b", "c"), 3), (ODD, 1)], ids=["plain", "odd"]
)
"""Plain labels with coloured images, odd ones with grey images."""


def published(
    name: str, folder: Path, labels: tuple[str, ...] = ("a", "b", "c"), channels: int = 1, split: bool = False
) -> tuple[ImageSet, About]:
    """Write a set whose class 1 has no image, and return it."""
    synthetic = images(6 * len(labels), 4, labels=labels, channels=channels, side=9)
    synthetic = synthetic.take(synthetic.labels != MISSING)
    parts = divided(synthetic, SHARES if split else {}, "0" * 64)
    about = About("tiny", "0" * 64, "CC-BY-4.0", parts)
    catalogue.load("phantomset.pipelines.publishers", name).write(synthetic, about, folder)
    return synthetic, about


def agree(loaded: Loaded, synthetic: ImageSet, positions: np.ndarray) -> None:
    """Hold that what was loaded is the set at these positions, in any order, pixel by pixel."""

    def key(pixels: np.ndarray, label: int) -> tuple[int, bytes]:
        return int(label), np.asarray(pixels, np.uint8).reshape(9, 9, -1).tobytes()

    expected = [
        key(synthetic.images[index].transpose(1, 2, 0), synthetic.labels[index]) for index in positions
    ]
    assert sorted(key(pixels, label) for pixels, label in loaded) == sorted(expected)
    assert len(set(expected)) == len(expected)
