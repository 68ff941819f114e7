"""Kinds of images that a set leaves out: cells of the feature space without any of its images."""

import warnings
from dataclasses import dataclass

import numpy as np
from scipy.cluster.vq import kmeans2, vq

PER_CELL = 25
"""Reference images that a cell has, about."""

ITERATIONS = 20


@dataclass(frozen=True, slots=True)
class Dropped:
    """How two sets of one size fall into the cells.

    Attributes:
        share: share of the real images in cells that hold no image of the judged set, in [0, 1]; lower is
            better.
        p: chance of so large a chi-squared statistic if both were drawn from one source, in (0, 1].
    """

    share: float
    p: float


def cells(reference: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the centres of the cells, ``(K, D)``: k-means of features ``(N, D)``, 25 of them a cell.

    Source: Richardson and Weiss 2018 (number of statistically different bins).
    """
    count = max(2, len(reference) // PER_CELL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a cell that lost its images keeps its place, and does no harm
        centres, _ = kmeans2(reference, count, iter=ITERATIONS, minit="++", rng=rng)
    return centres


def dropped(
    centres: np.ndarray, real: np.ndarray, judged: np.ndarray, permutations: int, rng: np.random.Generator
) -> Dropped:
    """Return what a set leaves out, and whether it fills the cells otherwise than real images do.

    Args:
        centres: of the cells, ``(K, D)``.
        real, judged: features ``(n, D)`` and ``(n, D)`` of equally many images, each independent of the
            others: one a patient.
        permutations: of who is real.
        rng: of this step.
    """
    own, made = (np.bincount(vq(part, centres)[0], minlength=len(centres)) for part in (real, judged))
    total = own + made
    share = float(own[made == 0].sum() / len(real))
    seen = _chi_squared(own, total)
    # Who is real is drawn anew: each cell's share of the real images is then multivariate hypergeometric.
    drawn = rng.multivariate_hypergeometric(total, len(real), size=permutations)
    above = int((_chi_squared(drawn, total) >= seen - 1e-9).sum())
    return Dropped(share, (1 + above) / (1 + permutations))


def _chi_squared(own: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Return the statistic of two samples of one size over the last axis."""
    half = np.maximum(total, 1) / 2
    return ((own - total / 2) ** 2 / half).sum(-1) * 2
