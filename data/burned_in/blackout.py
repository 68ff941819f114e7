"""Rectangles of an image set to black."""

import numpy as np

from phantomset.data.deidentify import Box


def blacken(unit: np.ndarray, boxes: tuple[Box, ...]) -> np.ndarray:
    """Return an image ``(H, W)`` or ``(H, W, C)`` with the rectangles set to 0, grown to whole pixels."""
    if not boxes:
        return unit
    height, width = unit.shape[:2]
    masked = unit.copy()
    for left, top, right, bottom in boxes:
        rows = slice(int(np.floor(top * height)), int(np.ceil(bottom * height)))
        masked[rows, int(np.floor(left * width)) : int(np.ceil(right * width))] = 0
    return masked
