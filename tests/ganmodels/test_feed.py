"""Which images a step sees."""

import numpy as np
import pytest
import torch

from phantomset.data.records import ImageSet
from phantomset.ganmodels.feed import Feed, as_pixels, as_signal, epoch_order

CPU = torch.device("cpu")


def _feed(labels: list[int], batch_size: int, sampling: str = "natural") -> Feed:
    count = len(labels)
    pixels = np.arange(count, dtype=np.uint8).repeat(4).reshape(count, 1, 2, 2)
    images = ImageSet(pixels, np.array(labels), np.arange(count), ("a", "b", "c"))
    return Feed(images, batch_size, 7, sampling, CPU)  # type: ignore[arg-type]


def test_an_epoch_shows_every_image_once() -> None:
    """Over 10 draws of 10 images none is missing, also when the epoch ends inside a batch."""
    feed = _feed([0, 1] * 5, 4)
    draws = np.concatenate([feed.positions(step) for step in range(10)])
    for epoch in range(4):
        assert sorted(draws[epoch * 10 : epoch * 10 + 10]) == list(range(10))


def test_a_batch_may_be_larger_than_the_set() -> None:
    """Three images fill a batch of eight: two whole epochs and a part of the third."""
    counts = np.bincount(_feed([0, 1, 0], 8).positions(0), minlength=3)
    assert counts.sum() == 8
    assert set(counts) == {2, 3}


def test_a_step_does_not_depend_on_the_steps_before() -> None:
    """Step 9 asked for first is step 9 asked for in its turn: there is no position to lose in a resume."""
    fresh, used = _feed([0, 1] * 5, 4), _feed([0, 1] * 5, 4)
    for step in range(9):
        used.positions(step)
    assert np.array_equal(fresh.positions(9), used.positions(9))


def test_labels_belong_to_their_images() -> None:
    """Each image carries its own number as pixels; its label comes along."""
    labels = [0, 1, 2, 1, 0, 2, 1]
    signal, drawn = _feed(labels, 5).batch(1)
    numbers = as_pixels(signal)[:, 0, 0, 0].long()
    assert drawn.tolist() == [labels[number] for number in numbers]


def test_equal_sampling() -> None:
    """With 2, 4 and 30 images of three classes, an epoch of 36 draws holds 12 of each, evenly inside."""
    labels = np.array([0] * 2 + [1] * 4 + [2] * 30)
    order = epoch_order(labels, 0, 0, "equal")
    assert np.bincount(labels[order]).tolist() == [12, 12, 12]
    counts = np.bincount(order, minlength=36)
    assert set(counts[:2]) == {6}
    assert set(counts[2:6]) == {3}
    assert counts[6:].max() == 1


@pytest.mark.parametrize("sampling", ["natural", "equal"])
def test_epochs_differ_and_are_seeded(sampling: str) -> None:
    """Another epoch or seed is another order; the same is the same."""
    labels = np.arange(40) % 2
    first = epoch_order(labels, 0, 0, sampling)  # type: ignore[arg-type]
    assert np.array_equal(first, epoch_order(labels, 0, 0, sampling))  # type: ignore[arg-type]
    assert not np.array_equal(first, epoch_order(labels, 0, 1, sampling))  # type: ignore[arg-type]
    assert not np.array_equal(first, epoch_order(labels, 1, 0, sampling))  # type: ignore[arg-type]


def test_levels_survive_the_way_to_signal_and_back() -> None:
    """All 256 levels map to [-1, 1] and back to themselves; what lies outside is cut off."""
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    signal = as_signal(levels)
    assert (signal.min(), signal.max()) == (-1.0, 1.0)
    assert torch.equal(as_pixels(signal), levels)
    assert as_pixels(torch.tensor([[[[-3.0, 3.0, 0.0]]]])).flatten().tolist() == [0, 255, 128]
