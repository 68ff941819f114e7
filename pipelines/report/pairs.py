"""The closest real and synthetic images, for the restricted report alone."""

from dataclasses import dataclass

import numpy as np

from phantomset.data.seeds import stream

MAX_SYNTHETIC, MAX_REAL = 20_000, 5_000
"""Of more images than this a sample is drawn, and the page says so: a report must not outlast its verdict."""

BLOCK = 512


@dataclass(frozen=True, slots=True)
class Neighbours:
    """For each of N real images its nearest synthetic one.

    Attributes:
        real: ``(N,)`` positions of the real images that were looked at.
        nearest: ``(N,)`` positions of their nearest synthetic images.
        distance: ``(N,)`` float, 0 for equal up to brightness and contrast, about 1.41 for unrelated, 2 at
        most.
    """

    real: np.ndarray
    nearest: np.ndarray
    distance: np.ndarray


def neighbours(real: np.ndarray, synthetic: np.ndarray, seed: int = 0) -> Neighbours:
    """Return the nearest synthetic image of each real one, both ``(N, C, H, W)`` uint8.

    The distance is that of z-normalised pixels, ``sqrt(2 - 2 r)`` with r their correlation. It is what the
    eye compares side by side, and not the statistic of any check.
    """
    rows = _sample(len(real), MAX_REAL, seed, "real")
    columns = _sample(len(synthetic), MAX_SYNTHETIC, seed, "synthetic")
    keys = _normalised(synthetic[columns])
    nearest = np.empty(len(rows), np.int64)
    correlation = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), BLOCK):
        block = _normalised(real[rows[start : start + BLOCK]]) @ keys.T
        nearest[start : start + BLOCK] = columns[block.argmax(1)]
        correlation[start : start + BLOCK] = block.max(1)
    distance = np.sqrt(np.clip(2 - 2 * correlation.astype(float), 0, 4))
    return Neighbours(rows, nearest, distance)


def _sample(count: int, most: int, seed: int, part: str) -> np.ndarray:
    if count <= most:
        return np.arange(count)
    return np.sort(stream(seed, "report", part).choice(count, most, replace=False))


def _normalised(images: np.ndarray) -> np.ndarray:
    """Return each image as a row of mean 0 and length 1; a flat image is a row of zeros, like nothing."""
    flat = images.reshape(len(images), -1).astype(np.float32)
    flat -= flat.mean(1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return flat / np.where(length > 0, length, 1)
