"""Which images stand on a contact sheet, and which are compared with samples."""

import numpy as np

from phantomset.data.records import ImageSet


def some(images: ImageSet, most: int) -> ImageSet:
    """Return at most so many of the images, evenly spread."""
    return images.take(np.linspace(0, len(images) - 1, min(most, len(images))).astype(int))


def of_each_class(images: ImageSet, labels: np.ndarray) -> ImageSet:
    """Return the first images of each class, as many as ``labels (N,)`` has of it, in the classes' order."""
    classes, counts = np.unique(labels, return_counts=True)
    members = [np.flatnonzero(images.labels == each) for each in classes]
    picked = [np.resize(each, count) for each, count in zip(members, counts, strict=True)]
    return images.take(np.concatenate(picked))


def beside(source: np.ndarray, made: np.ndarray, columns: int) -> np.ndarray:
    """Return rows of ``columns`` sources, each above the row of what they became; both ``(N, C, H, W)``."""
    rows = [part.reshape(-1, columns, *made.shape[1:]) for part in (source, made)]
    return np.stack(rows, axis=1).reshape(-1, *made.shape[1:])
