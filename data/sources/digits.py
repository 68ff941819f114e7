"""scikit-learn's handwritten digits: 1,797 real images that come with a dependency, so they work offline."""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from phantomset.data.digest import digest_of
from phantomset.data.pixels.arrays import numbered
from phantomset.data.records import RawImage, Rejected
from phantomset.data.source import ReadContext, Source, SourceSettings

_WHITE = 16
"""The brightest value of the set: each pixel counts the ink in a block of 4 x 4."""


class Settings(SourceSettings, frozen=True):
    """``source: {format: digits}``: nothing to set."""

    format: Literal["digits"] = "digits"


def read(settings: Settings, context: ReadContext) -> Iterator[RawImage | Rejected]:
    """Yield the 8 x 8 images in the set's order, labelled "0" to "9"."""
    del settings, context
    images, labels = load()
    for key, values, label in zip(numbered("digits", len(images)), images, labels.tolist(), strict=True):
        yield RawImage(key, values / np.float32(_WHITE), None, str(label))


def fingerprint(settings: Settings) -> str:
    """Return the digest of the set as the installed scikit-learn carries it."""
    del settings
    return digest_of("digits", *load())


def load() -> tuple[np.ndarray, np.ndarray]:
    """Return images ``(N, 8, 8)`` float32 in [0, 16] and labels ``(N,)`` int64 in [0, 9]."""
    from sklearn.datasets import load_digits  # pyright: ignore[reportMissingTypeStubs]

    found: Any = load_digits()
    return np.asarray(found.images, dtype=np.float32), np.asarray(found.target, dtype=np.int64)


SOURCE = Source("digits", Settings, read, fingerprint)
