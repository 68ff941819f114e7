"""Windows of a picture in which text is read: all of it is seen, and letters of every size."""

from itertools import pairwise

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from phantomset.data.burned_in.reader import TextBox
from phantomset.data.burned_in.tiles import tiles

LARGEST = 384


def _with_text(height: int, width: int, size_px: int, grey: int, colour: str = "L") -> np.ndarray:
    """A name a third from the left and the top, on a ground of 90 grey levels."""
    picture = Image.new(colour, (width, height), (90,) * 3 if colour == "RGB" else 90)
    fill = (grey,) * 3 if colour == "RGB" else grey
    font = ImageFont.load_default(size_px)
    ImageDraw.Draw(picture).text((width // 3, height // 3), "MILLER", fill=fill, font=font)
    return np.asarray(picture)


@pytest.mark.parametrize("shape", [(28, 28), (384, 384), (100, 384, 3), (40, 700)])
def test_windows_are_square_and_no_larger_than_they_may_be(shape: tuple[int, ...]) -> None:
    """A picture that fits is one window, as high as it is wide; the rest of it is the picture's median."""
    chance = np.random.default_rng(0)
    picture = chance.integers(0, 256, shape, dtype=np.uint8)
    for tile in tiles(picture, LARGEST):
        height, width = tile.pixels.shape[:2]
        assert height == width <= LARGEST
        assert tile.pixels.shape[2:] == shape[2:]
    first = next(tiles(picture, LARGEST)).pixels
    assert np.array_equal(first[: shape[0]], picture[:, : first.shape[1]])
    assert (first[shape[0] :] == np.median(picture[:, : first.shape[1]]).astype(np.uint8)).all()


def test_every_place_is_seen_with_what_stands_around_it() -> None:
    """In 1,000 x 2,500 pixels every square of 96 lies in one window as a whole; so three of the largest
    letters that such a window is for are never cut in all of them.
    """
    chance = np.random.default_rng(0)
    noise = chance.integers(0, 256, (1000, 2500), dtype=np.uint8)
    full = [tile for tile in tiles(noise, LARGEST) if round(tile.width * 2500) == LARGEST]
    for axis, length in (("left", 2500), ("top", 1000)):
        starts = sorted({round(getattr(tile, axis) * length) for tile in full})
        assert starts[0] == 0
        assert starts[-1] + LARGEST == length
        assert all(later - LARGEST <= earlier - 96 for earlier, later in pairwise(starts))


def test_a_picture_is_shown_at_a_quarter_until_it_fits() -> None:
    """2,500 pixels are shown as 2,500, 625 and 157: a letter of 400 pixels has 25 in the last."""
    noise = np.random.default_rng(0).integers(0, 256, (1000, 2500), dtype=np.uint8)
    noise[:, :1250] //= 2  # shapes that are left at a sixteenth of the size
    assert {round(LARGEST / tile.width) for tile in tiles(noise, LARGEST) if tile.width < 1} == {2500, 625}
    *_, last = tiles(noise, LARGEST)
    assert (last.left, last.top, last.width) == (0, 0, 1)
    assert last.pixels.shape == (157, 157)
    assert abs(int(last.pixels[10, 10]) - noise[160:176, 160:176].mean()) <= 1


@pytest.mark.parametrize(("size_px", "colour"), [(8, "L"), (16, "RGB"), (32, "L"), (64, "L"), (150, "L")])
@pytest.mark.parametrize("grey", [50, 130])
def test_windows_with_letters_are_read_and_plain_ones_are_not(size_px: int, colour: str, grey: int) -> None:
    """40 grey levels off a plain ground with some noise, 8 to 150 px high: one that shows them 8 to 40 px
    high is read; of the others, more than 30 at full size, hardly any that shows no letter.
    """
    picture = _with_text(1600, 1600, size_px, grey, colour)
    noise = np.random.default_rng(0).normal(0, 2, picture.shape)
    read = list(tiles(np.clip(picture + noise, 0, 255).astype(np.uint8), LARGEST))
    centre = 1 / 3 + size_px / 1600
    there = [
        tile
        for tile in read
        if tile.left < centre < tile.left + tile.width and tile.top < centre < tile.top + tile.height
    ]
    assert any(8 <= size_px * LARGEST / (tile.width * 1600) <= 40 for tile in there)
    begins, ends = 1 / 3, 1 / 3 + 5 * size_px / 1600
    without = [tile for tile in read if tile.left > ends or tile.left + tile.width < begins]
    assert len(without) <= 1


def test_a_place_in_a_window_is_one_in_the_picture() -> None:
    """The middle half of a window that begins at (616, 0) of 1,000 x 384; never outside of the picture."""
    noise = np.random.default_rng(0).integers(0, 256, (384, 1000), dtype=np.uint8)
    last = [tile for tile in tiles(noise, LARGEST) if tile.width < 1][-1]
    there = last.on_picture(TextBox((0.25, 0.25, 0.75, 0.75), 5, 0.9))
    assert there.box == pytest.approx(((616 + 96) / 1000, 0.25, (616 + 288) / 1000, 0.75))
    low = next(tiles(noise[:100], 1000))
    assert low.on_picture(TextBox((0, 0, 1, 1), 5, 0.9)).box == (0, 0, 1, 1)
