"""Near-duplicates: found after the changes that happen to pictures, and never between strangers."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from phantomset.data.splitting.duplicates import (
    DUPLICATE,
    Pair,
    likeness,
    near_duplicates,
    thumbnail,
    told_apart,
    without_chains,
)


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    """Forty pictures with structure at several scales, (40, 64, 64) uint8."""
    chance = np.random.default_rng(5)
    rough = sum(gaussian_filter(chance.normal(size=(40, 64, 64)), (0, s, s)) * s for s in (1, 3, 8))
    low, high = rough.min(axis=(1, 2), keepdims=True), rough.max(axis=(1, 2), keepdims=True)
    return np.rint(20 + 200 * (rough - low) / (high - low)).astype(np.uint8)


def _shifted(picture: np.ndarray) -> np.ndarray:
    moved = np.zeros_like(picture)
    moved[2:, 3:] = picture[:-2, :-3]
    return moved


CHANGES = {
    "gamma": lambda p: np.rint(255 * (p / 255) ** 1.5).astype(np.uint8),
    "brighter": lambda p: p + 30,
    "noise": lambda p: np.clip(p + np.random.default_rng(1).normal(0, 6, p.shape), 0, 255).astype(np.uint8),
    "mirrored": lambda p: p[:, ::-1],
    "inverted": lambda p: 255 - p,
    "shifted": _shifted,
    "clipped": lambda p: np.interp(p, np.percentile(p, [10, 90]), [0, 255]).astype(np.uint8),
    "colour": lambda p: p,
}


def _pairs(images: list[np.ndarray]) -> set[tuple[int, int]]:
    thumbnails = np.stack([thumbnail(image) for image in images])
    return {pair[:2] for pair in near_duplicates(thumbnails) if pair.score >= DUPLICATE}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found_and_no_stranger(pictures: np.ndarray, change: str) -> None:
    """Each of the first ten pictures is found with its copy, and nothing else is found."""
    stack = [picture[None] for picture in pictures]
    copies = [CHANGES[change](picture)[None] for picture in pictures[:10]]
    if change == "colour":
        copies = [np.repeat(copy, 3, axis=0) for copy in copies]
    assert _pairs(stack + copies) == {(number, 40 + number) for number in range(10)}


@pytest.mark.parametrize(
    ("correlation", "agreeing", "is_small", "expected"),
    [
        (0.96, 20, False, 0.95),
        (0.92, 151, False, 0.95),
        (0.92, 151, True, 0.91),
        (0.90, 137, False, 0.916),
        (0.99, 255, False, 1.0),
    ],
)
def test_likeness_by_hand(correlation: float, agreeing: int, is_small: bool, expected: float) -> None:
    """0.01 off the correlation, and 0.001 more for each bit that agrees beyond 111 (small pictures: 151)."""
    found = likeness(np.array([correlation]), np.array([agreeing]), np.array([is_small]))
    assert found == pytest.approx([expected])


def test_a_thumbnail_holds_the_means_of_blocks() -> None:
    """Where the sides are multiples of 32 each of its pixels is the mean of a block, to the bit."""
    plane = np.random.default_rng(3).random((64, 96), dtype=np.float32)
    means = plane.astype(np.float64).reshape(32, 2, 32, 3).mean(axis=(1, 3))
    assert np.array_equal(thumbnail(plane[None]), np.rint(means * 255))


def test_a_thumbnail_of_floats_is_that_of_bytes(pictures: np.ndarray) -> None:
    """A picture in [0, 1] and the same one in 0 to 255, but for the rounding of halves."""
    floats = thumbnail(pictures[:1].astype(np.float32) / 255).astype(int)
    assert np.abs(floats - thumbnail(pictures[:1])).max() <= 1


def test_flat_and_few_pictures_have_no_copies(pictures: np.ndarray) -> None:
    """Without structure nothing can be compared; one picture alone has no pair."""
    flat = [np.full((1, 64, 64), value, dtype=np.uint8) for value in (3, 90, 200)]
    assert _pairs(flat) == set()
    assert _pairs([pictures[0][None]]) == set()


def test_drawings_are_too_alike(pictures: np.ndarray) -> None:
    """One drawing with a little noise for every patient: strangers pass for copies, so the search is not
    used; copies of one owner do not speak against it.
    """
    chance = np.random.default_rng(2)
    alike = [np.clip(pictures[0] + chance.normal(0, 3, (64, 64)), 0, 255).astype(np.uint8) for _ in range(20)]
    drawings = np.stack([thumbnail(picture[None]) for picture in alike])
    films = np.stack([thumbnail(picture[None]) for picture in pictures])
    assert told_apart(drawings, [str(number) for number in range(20)]) is None
    assert told_apart(drawings, ["one"] * 20)
    assert told_apart(films, [str(number) for number in range(40)]) == []


def test_a_chain_of_strangers_is_not_joined() -> None:
    """Twelve pictures, each like the next: only the sure pair stays one; the others are to be looked at.

    Ten of the kind, or twelve that are all alike, are copies.
    """
    chain = [Pair(i, i + 1, 0.97, is_sure=i == 4) for i in range(11)]
    looked_at = Pair(0, 20, 0.91, is_sure=False)
    told = without_chains([*chain, looked_at], 30)
    assert [pair[:2] for pair in told] == [pair[:2] for pair in [*chain, looked_at]]
    assert [pair[:2] for pair in told if pair.score >= DUPLICATE] == [(4, 5)]
    assert told[-1] == looked_at
    assert without_chains(chain[:9], 30) == chain[:9]
    all_alike = [Pair(i, j, 0.97, is_sure=False) for i in range(12) for j in range(i + 1, 12)]
    assert without_chains(all_alike, 12) == all_alike
