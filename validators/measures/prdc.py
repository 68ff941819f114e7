"""Precision, recall, density and coverage by k nearest neighbours."""

from typing import NamedTuple

import numpy as np
import torch

from phantomset.validators.measures.neighbours import BLOCK_ELEMENTS, nearest, squared_distances


class Prdc(NamedTuple):
    """Four shares; higher is better. Density may pass 1, the others lie in [0, 1]."""

    precision: float
    recall: float
    density: float
    coverage: float


def prdc(real: np.ndarray, fake: np.ndarray, k: int = 5) -> Prdc:
    """Return precision, recall, density, coverage of ``fake (M, D)`` against ``real (N, D)``.

    Coverage is the share of real images whose k-neighbour ball holds a fake one; density counts how many
    balls a fake image lies in, over k.

    Raises:
        ValueError: k or fewer rows on either side.

    Source: Naeem et al. 2020; precision and recall after Kynkäänniemi et al. 2019.
    """
    found = _meet(real, fake, k)
    return Prdc(
        precision=float((found.balls > 0).mean()),
        recall=float(found.recalled.mean()),
        density=float(found.balls.mean()) / k,
        coverage=float(found.covered.mean()),
    )


def covered(real: np.ndarray, fake: np.ndarray, k: int = 5) -> np.ndarray:
    """Return which rows of ``real (N, D)`` hold a row of ``fake (M, D)`` in their ball, ``(N,)`` bool."""
    return _meet(real, fake, k).covered


class _Meeting(NamedTuple):
    """How two sets meet: balls around real rows that each fake one lies in, ``(M,)``; which real rows hold a
    fake one, and which lie in a fake one's ball, ``(N,)`` bool each."""

    balls: np.ndarray
    covered: np.ndarray
    recalled: np.ndarray


def _meet(real: np.ndarray, fake: np.ndarray, k: int) -> _Meeting:
    # Centred, because the product form of a distance loses digits far from the origin.
    centre = real.mean(0, dtype=np.float64)
    real, fake = (real - centre).astype(np.float64), (fake - centre).astype(np.float64)
    ball_real, ball_fake = (_squared_balls(x, k) for x in (real, fake))
    real_t, fake_t = torch.from_numpy(real), torch.from_numpy(fake)
    rows = max(1, BLOCK_ELEMENTS // len(fake))
    balls = torch.zeros(len(fake), dtype=torch.int64)
    holds, lies = (torch.zeros(len(real), dtype=torch.bool) for _ in range(2))
    for start in range(0, len(real), rows):
        block = slice(start, start + rows)
        distance = squared_distances(real_t[block], fake_t)
        inside = distance < ball_real[block, None]
        balls += inside.sum(0)
        holds[block] = inside.any(1)
        lies[block] = (distance < ball_fake[None]).any(1)
    return _Meeting(balls.numpy(), holds.numpy(), lies.numpy())


def _squared_balls(points: np.ndarray, k: int) -> torch.Tensor:
    """Return the squared distance of each row to its k-th neighbour, a hair less.

    The neighbour itself lies on the ball, not in it; the two ways to compute its distance may differ by a
    rounding error.
    """
    radius = nearest(points, points, k, skip_self=True)[0][:, -1]
    return torch.from_numpy(radius**2 * (1 - 1e-9))
