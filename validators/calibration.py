"""What a distance is held against: how far the images of the reference are."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

Pairs = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Float64 distances ``(K,)`` of the k-th image of one array to the k-th of another."""

ROUNDING = 1e-3
"""Below this share of the least distance within R a float32 distance is rounding, not distance."""


SAME = 1e-2
"""Nearer to an image of R than this share of the least distance within R, an image is a copy of it."""


class Calibration(Protocol):
    """Turns distances d into calibrated ones q, near 1 for unrelated images, towards 0 for a copy."""

    def of_block(self, start: int, block: Tensor) -> Tensor:
        """Return q ``(rows, M)`` of real images from distances ``(rows, n_R + M)``; may overwrite these."""
        ...

    def of_pairs(self, pairs: Pairs, real: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return q ``(K,)`` in float64 of real images, at ``rows``, to those of the sets at ``columns``."""
        ...


class ByDistance:
    """``q(x, s) = d(x, s) / √(d(x, R) d(s, R))``; instead of 0, d to R is the least distance within R.

    Source: Chen et al. 2020 (GAN-Leaks), section 4.4, with both sides calibrated.
    """

    def __init__(
        self, images: np.ndarray, to_reference: np.ndarray, least: float, real: int, n_r: int
    ) -> None:
        """Take the sets' images, their distances to R ``(M,)``, the least within R, and how many are real."""
        self._images, self._least, self._n_r = images, least, n_r
        self._scale = 1 / np.sqrt(self._never_zero(to_reference))
        self._columns = torch.from_numpy(self._scale).float()
        self._real_to_r = np.empty(real)

    def of_block(self, start: int, block: Tensor) -> Tensor:
        """See `Calibration`."""
        here = slice(start, start + len(block))
        self._real_to_r[here] = self._never_zero(block[:, : self._n_r].amin(1).numpy())
        rows = torch.from_numpy(1 / np.sqrt(self._real_to_r[here])).float()
        return block[:, self._n_r :].mul_(self._columns).mul_(rows[:, None])

    def of_pairs(self, pairs: Pairs, real: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """See `Calibration`."""
        distance = pairs(real[rows], self._images[columns])
        return distance * self._scale[columns] / np.sqrt(self._real_to_r[rows])

    def _never_zero(self, distance: np.ndarray) -> np.ndarray:
        return np.where(distance < ROUNDING * self._least, self._least, distance)


@dataclass(frozen=True, slots=True)
class ByLines:
    """``q(x, s) = max_r |⟨x - s, x - r⟩| / |x - r|²`` over the images r of R that are nearest to s.

    Where s lies on the line from r (1) to x (0). Noise is at right angles to nearly every line: however far
    it has moved a copy of x, on the lines it stays near 0. An image of somebody else is not nearer to x than
    to all its neighbours in R. By the law of cosines three distances tell the place.

    Attributes:
        images: the sets' ``(M, C, H, W)``.
        reference: R's ``(n_R, C, H, W)``.
        neighbours: ``(M, K)``, which of R's.
        gaps: ``(M, K)``, how far these are.
        shortest: a shorter line from r to x, which then is a copy of r, says nothing.
    """

    images: np.ndarray
    reference: np.ndarray
    neighbours: np.ndarray
    gaps: np.ndarray
    shortest: float

    @classmethod
    def of(
        cls, images: np.ndarray, reference: np.ndarray, which: np.ndarray, gaps: np.ndarray, least: float
    ) -> "ByLines":
        """Take the K + 1 nearest images of R, ``(M, K + 1)``, and the least distance within R.

        All lines from r to a copy of r end where they begin, so that a copy takes the next K.
        """
        shortest = SAME * least
        first = (gaps[:, :1] < shortest) + np.arange(gaps.shape[1] - 1)
        which, gaps = (np.take_along_axis(part, first, 1) for part in (which, gaps))
        return cls(images, reference, which, gaps, shortest)

    def of_block(self, start: int, block: Tensor) -> Tensor:  # noqa: ARG002
        """See `Calibration`."""
        squared = block.square_()
        to_r, to_set = squared[:, : len(self.reference)].T.contiguous(), squared[:, len(self.reference) :]
        q = torch.zeros_like(to_set)
        for near, gap in zip(self.neighbours.T, self.gaps.T, strict=True):
            length = to_r[torch.from_numpy(near)].T
            torch.maximum(q, self._place(to_set, length, torch.from_numpy(gap).float()), out=q)
        return q

    def of_pairs(self, pairs: Pairs, real: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """See `Calibration`."""
        x, s = real[rows], self.images[columns]
        apart = torch.from_numpy(pairs(x, s) ** 2)
        places = []
        for near in self.neighbours[columns].T:
            r = self.reference[near]
            length, gap = torch.from_numpy(pairs(x, r) ** 2), torch.from_numpy(pairs(s, r))
            places.append(self._place(apart, length, gap).numpy())
        return np.max(places, axis=0, initial=0.0)

    def _place(self, apart: Tensor, length: Tensor, gap: Tensor) -> Tensor:
        """Return where s lies, from |x - s|², |x - r|² and |s - r|."""
        place = (length + apart - gap.square()).abs_().div_(2 * length)
        return place.masked_fill_(length < self.shortest**2, 0)
