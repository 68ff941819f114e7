"""A picture cut into windows of the size at which the reader reads.

The networks see a window as a whole: of a name 16 pixels high they find nothing in a picture of 1,500 pixels,
and everything in a window of 384 around it (docs/benchmarks.md, "Burned-in text"). So a picture of any size
is read in such windows, and again at a quarter of its size, until it fits into one: large letters are read
there.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from phantomset.data.burned_in.reader import TextBox

_SHARED = 96
"""Pixels that two windows share: three of the largest letters are whole in one of them."""

_STEP = 4
"""From one size of a picture to the next, and from the smallest letters that are read to the largest."""

_STROKE, _FAINTEST, _FEWEST = 9, 6, 24
"""Letters are strokes narrower than so many pixels and, after a mean over three pixels that calms noise, at
least so many grey levels off what is around them; so many pixels are a letter or two. A window of a larger
picture without any is not read."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A square window of a picture.

    Attributes:
        pixels: ``(s, s)`` or ``(s, s, 3)`` uint8; where a picture is narrower its median stands beside it.
        left, top: of the window, as shares of the picture.
        width, height: of the window, as multiples of the picture's.
    """

    pixels: np.ndarray
    left: float
    top: float
    width: float
    height: float

    def on_picture(self, found: TextBox) -> TextBox:
        """Return a place in this window as a place in the picture."""
        left, top, right, bottom = found.box
        across = (min(1.0, self.left + x * self.width) for x in (left, right))
        down = (min(1.0, self.top + y * self.height) for y in (top, bottom))
        (x0, x1), (y0, y1) = across, down
        return replace(found, box=(x0, y0, x1, y1))


def tiles(picture: np.ndarray, largest: int) -> Iterator[Tile]:
    """Yield the windows in which text may stand.

    Args:
        picture: ``(H, W)`` or ``(H, W, 3)`` uint8.
        largest: side of a window, in pixels.
    """
    while True:
        height, width = picture.shape[:2]
        side = min(largest, max(height, width))
        is_one = side == max(height, width)
        for top in _starts(height, side):
            for left in _starts(width, side):
                pixels = picture[top : top + side, left : left + side]
                if is_one or _has_strokes(pixels):
                    yield Tile(_square(pixels, side), left / width, top / height, side / width, side / height)
        if is_one:
            return
        picture = _reduced(picture)


def _starts(length: int, side: int) -> list[int]:
    """Where windows begin along a side, evenly, so that they share enough and end with it."""
    if length <= side:
        return [0]
    count = -(-(length - _SHARED) // (side - _SHARED))
    return np.linspace(0, length - side, count).round().astype(int).tolist()


def _square(pixels: np.ndarray, side: int) -> np.ndarray:
    height, width = pixels.shape[:2]
    if height == width:
        return pixels
    whole = np.full((side, side, *pixels.shape[2:]), np.median(pixels), dtype=np.uint8)
    whole[:height, :width] = pixels
    return whole


def _has_strokes(pixels: np.ndarray) -> bool:
    """Return whether enough pixels stand out from all wider shapes around them, bright or dark."""
    from scipy import ndimage  # pyright: ignore[reportMissingTypeStubs]

    filters = cast(Any, ndimage)
    grey: np.ndarray = filters.uniform_filter(
        pixels if pixels.ndim == 2 else pixels.mean(axis=2), 3, output=np.int16
    )
    bright: np.ndarray = grey - filters.grey_opening(grey, _STROKE)
    dark: np.ndarray = filters.grey_closing(grey, _STROKE) - grey
    return max(int((bright >= _FAINTEST).sum()), int((dark >= _FAINTEST).sum())) >= _FEWEST


def _reduced(picture: np.ndarray) -> np.ndarray:
    """The means of blocks; what is left over at the right and the bottom counts as far as it goes."""
    from PIL import Image

    return np.asarray(Image.fromarray(picture).reduce(_STEP))
