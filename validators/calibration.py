"""What a distance is held against: how far the images of the reference are."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

Pairs = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Float64 distances ``(K,)`` of the k-th image of one array to the k-th of another."""

Vectors = Callable[[np.ndarray], Tensor]
"""Float64 vectors ``(K, D)`` of images."""

OUTLINE = 10
"""So many first coordinates of a vector are its largest components, which noise hardly moves."""

ROUNDING = 1e-3
"""Below this share of the least distance within R a float32 distance is rounding, not distance."""

SAME = 1e-2
"""Nearer to an image of R than this share of the least distance within R, an image is a copy of it."""


class Calibration(Protocol):
    """Turns distances d into calibrated ones q, near 1 for unrelated images, towards 0 for a copy."""

    def of_block(self, start: int, block: Tensor) -> Tensor:
        """Return q ``(rows, M)`` of real images from distances ``(rows, n_R + M)``; may overwrite these."""
        ...

    def of_pairs(self, real: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return q ``(K,)`` in float64 of real images, at ``rows``, to those of the sets at ``columns``."""
        ...


class ByDistance:
    """``q(x, s) = d(x, s) / √(d(x, R) d(s, R))``; instead of 0, d to R is the least distance within R.

    Source: calibration after Chen et al. 2020 (GAN-Leaks), here of both sides.
    """

    def __init__(
        self, pairs: Pairs, images: np.ndarray, to_reference: np.ndarray, least: float, real: int, n_r: int
    ) -> None:
        """Take the sets' images, their distances to R ``(M,)``, the least within R, and how many are real."""
        self._pairs, self._images, self._least, self._n_r = pairs, images, least, n_r
        self._scale = 1 / np.sqrt(self._never_zero(to_reference))
        self._columns = torch.from_numpy(self._scale).float()
        self._real_to_r = np.empty(real)

    def of_block(self, start: int, block: Tensor) -> Tensor:
        """See `Calibration`."""
        here = slice(start, start + len(block))
        self._real_to_r[here] = self._never_zero(block[:, : self._n_r].amin(1).numpy())
        rows = torch.from_numpy(1 / np.sqrt(self._real_to_r[here])).float()
        return block[:, self._n_r :].mul_(self._columns).mul_(rows[:, None])

    def of_pairs(self, real: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """See `Calibration`."""
        distance = self._pairs(real[rows], self._images[columns])
        return distance * self._scale[columns] / np.sqrt(self._real_to_r[rows])

    def _never_zero(self, distance: np.ndarray) -> np.ndarray:
        return np.where(distance < ROUNDING * self._least, self._least, distance)


@dataclass(frozen=True, slots=True)
class ByLines:
    """``q(x, s) = max_r max(|⟨x - s, x - r⟩| / |x - r|, |P(x - s)|) / |x - r|`` over the r of R nearest to s.

    How far s is from x on the line to r, or in the `OUTLINE` P, by the length of the line: 1 is where r is.
    Noise is at right angles to nearly every line: however far it has moved a copy of x, there it stays near
    0. An image of somebody else is not nearer to x than to all its neighbours in R.

    Attributes:
        vectors: encodes images.
        images: the sets' ``(M, C, H, W)``.
        reference: R's ``(n_R, C, H, W)``.
        outlines: first coordinates ``(N, 10)`` of the real images and ``(M, 10)`` of the sets'.
        neighbours: ``(M, K)``, which of R's.
        gaps: ``(M, K)``, how far these are.
        shortest: a shorter line from r to x, which then is a copy of r, says nothing.
    """

    vectors: Vectors
    images: np.ndarray
    reference: np.ndarray
    outlines: tuple[Tensor, Tensor]
    neighbours: np.ndarray
    gaps: np.ndarray
    shortest: float

    @classmethod
    def of(
        cls,
        vectors: Vectors,
        images: np.ndarray,
        reference: np.ndarray,
        outlines: tuple[Tensor, Tensor],
        near: tuple[np.ndarray, np.ndarray],
        least: float,
    ) -> "ByLines":
        """Take the distances to the K + 1 nearest images of R, which these are, and the least within R.

        All lines from r to a copy of r end where they begin, so that a copy takes the next K.
        """
        gaps, which = near
        shortest = SAME * least
        first = (gaps[:, :1] < shortest) + np.arange(gaps.shape[1] - 1)
        which, gaps = (np.take_along_axis(part, first, 1) for part in (which, gaps))
        return cls(vectors, images, reference, outlines, which, gaps, shortest)

    def of_block(self, start: int, block: Tensor) -> Tensor:
        """See `Calibration`; by the law of cosines three distances tell the place on a line."""
        squared = block.square_()
        to_r, to_set = squared[:, : len(self.reference)].T.contiguous(), squared[:, len(self.reference) :]
        real, made = self.outlines
        outline = torch.cdist(real[start : start + len(block)], made)
        q = torch.zeros_like(to_set)
        for near, gap in zip(self.neighbours.T, self.gaps.T, strict=True):
            length = to_r[torch.from_numpy(near)].T
            along = (length + to_set - torch.from_numpy(gap).float().square()).abs_().div_(2 * length)
            torch.maximum(q, self._on_line(along, outline, length), out=q)
        return q

    def of_pairs(self, real: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """See `Calibration`; by inner products."""
        x, s = self.vectors(real[rows]), self.vectors(self.images[columns])
        outline = torch.linalg.vector_norm((x - s)[:, :OUTLINE], dim=1)
        q = torch.zeros(len(rows), dtype=torch.float64)
        for near in self.neighbours[columns].T:
            line = x - self.vectors(self.reference[near])
            length = line.square().sum(1)
            q = torch.maximum(q, self._on_line(((x - s) * line).sum(1).abs() / length, outline, length))
        return q.numpy()

    def _on_line(self, along: Tensor, outline: Tensor, length: Tensor) -> Tensor:
        """Return q by one line of a squared length, from the place along it and the distance in outline."""
        return torch.maximum(along, outline / length.sqrt()).masked_fill_(length < self.shortest**2, 0)
