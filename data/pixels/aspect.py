"""Square pixels: the step before any geometry."""

import numpy as np
from PIL import Image

from phantomset.data.quarantine.ledger import Unfit


def square(unit: np.ndarray, row_mm: float, column_mm: float) -> np.ndarray:
    """Return the image with square pixels: the axis with the coarser spacing gets more of them.

    Args:
        unit: ``(H, W)`` or ``(H, W, 3)`` float32 in [0, 1].
        row_mm: distance of neighbouring rows, in mm, or in any unit that both share.
        column_mm: distance of neighbouring columns.

    Raises:
        Unfit: SPACING_INVALID; no pixel of an image is finer than 10 nm or coarser than 1 m.
    """
    if not all(1e-5 <= value <= 1e3 for value in (row_mm, column_mm)) or not 0.1 <= row_mm / column_mm <= 10:
        raise Unfit("SPACING_INVALID")
    height, width = unit.shape[:2]
    ratio = row_mm / column_mm
    size = (width, round(height * ratio)) if ratio > 1 else (round(width / ratio), height)
    if size == (width, height):
        return unit
    planes = [unit] if unit.ndim == 2 else [unit[..., channel] for channel in range(unit.shape[2])]
    resized = [
        np.asarray(Image.fromarray(np.ascontiguousarray(plane)).resize(size, Image.Resampling.BICUBIC))
        for plane in planes
    ]
    return np.clip(resized[0] if unit.ndim == 2 else np.stack(resized, axis=-1), 0, 1)
