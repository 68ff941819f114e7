"""A contact sheet of samples: one row a class, the same noise every time."""

import io

import numpy as np
from PIL import Image

GAP_PX = 2

GROUND = 32
"""Grey of a place where there is no image."""


def contact_sheet(images: np.ndarray, columns: int) -> bytes:
    """Return a PNG of images ``(N, C, H, W)`` uint8, row by row, enlarged to at least 56 px each."""
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    sheet = np.full((rows * (height + GAP_PX), columns * (width + GAP_PX), channels), GROUND, np.uint8)
    for position, image in enumerate(images.transpose(0, 2, 3, 1)):
        top = position // columns * (height + GAP_PX)
        left = position % columns * (width + GAP_PX)
        sheet[top : top + height, left : left + width] = image
    picture = Image.fromarray(sheet[..., 0] if channels == 1 else sheet)
    scale = max(1, -(-56 // max(height, width)))
    picture = picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)
    stream = io.BytesIO()
    picture.save(stream, "PNG", optimize=True)
    return stream.getvalue()
