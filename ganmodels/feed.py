"""Real images for each step: resident on the device, in an order that follows from seed and step alone."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from phantomset.data.records import ImageSet
from phantomset.data.seeds import stream
from phantomset.ganmodels.plan import ClassSampling


class Feed:
    """The training images, uint8 on the device; step s gets the draws ``s * batch_size`` and on.

    There is no position to save: after a resume, step s gets what it would have got.
    """

    def __init__(
        self, images: ImageSet, batch_size: int, seed: int, sampling: ClassSampling, device: torch.device
    ) -> None:
        self._known = images.labels.astype(np.int64)
        self._pixels = torch.from_numpy(np.ascontiguousarray(images.images)).to(device)
        self._labels = torch.from_numpy(self._known).to(device)
        self._counts = dict(zip(*map(list, np.unique(images.labels, return_counts=True)), strict=True))
        self._batch_size = batch_size
        self._order = lru_cache(maxsize=2)(lambda epoch: epoch_order(images.labels, seed, epoch, sampling))

    @property
    def count(self) -> int:
        """How many images there are."""
        return len(self._labels)

    def count_of(self, label: int) -> int:
        """How many of them are of a class."""
        return self._counts.get(label, 0)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return images ``(B, C, H, W)`` float32 in [-1, 1], channels last, and labels ``(B,)`` of a step."""
        index = torch.from_numpy(self.positions(step)).to(self._pixels.device)
        return as_signal(self._pixels[index]), self._labels[index]

    def labels(self, step: int) -> np.ndarray:
        """Return the labels ``(B,)`` int64 of a step, from the host."""
        return self._known[self.positions(step)]

    def positions(self, step: int) -> np.ndarray:
        """Return ``(B,)`` int64: which images a step draws. An epoch may end inside a batch."""
        parts, draw, missing = [], step * self._batch_size, self._batch_size
        while missing:
            epoch, offset = divmod(draw, len(self._labels))
            parts.append(self._order(epoch)[offset : offset + missing])
            draw, missing = draw + len(parts[-1]), missing - len(parts[-1])
        return np.concatenate(parts)


def as_signal(pixels: Tensor) -> Tensor:
    """Return uint8 images ``(B, C, H, W)`` as float32 in [-1, 1], channels last."""
    return pixels.to(torch.float32, memory_format=torch.channels_last).mul_(2 / 255).sub_(1)


def as_pixels(signal: Tensor) -> Tensor:
    """Return images in [-1, 1] as uint8, rounded to the nearest level; what lies outside is cut off."""
    return signal.float().add(1).mul(255 / 2).round().clamp(0, 255).to(torch.uint8)


def epoch_order(labels: np.ndarray, seed: int, epoch: int, sampling: ClassSampling) -> np.ndarray:
    """Return ``(N,)`` int64 positions for one epoch of N draws.

    natural: a permutation. equal: every class equally often (to within 1), the images of a class in the order
    of permutations of their own, so that none is drawn twice before each was drawn once.
    """
    rng = stream(seed, "order", epoch)
    count = len(labels)
    if sampling == "natural":
        return rng.permutation(count)
    classes = np.unique(labels)
    draws: list[np.ndarray] = []
    for rank, label in enumerate(np.roll(classes, epoch)):
        members = np.flatnonzero(labels == label)
        share = count // len(classes) + (rank < count % len(classes))
        rounds = [rng.permutation(members) for _ in range(-(-share // len(members)))]
        draws.append(np.concatenate(rounds)[:share])
    return rng.permutation(np.concatenate(draws))
