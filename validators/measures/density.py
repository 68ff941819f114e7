"""Gaussian kernel density of features, as a log density without its constant."""

import numpy as np
from torch import Tensor

SMALLEST_SUM = 1e-300


def gaussian_kernels(distances: Tensor, bandwidth: float) -> Tensor:
    """Return ``exp(-d² / 2h²)`` in float64 for Euclidean distances of any shape.

    The normalising constant of the Gaussian is left out: it cancels in a ratio of densities (DOMIAS,
    van Breugel et al. 2023).

    Raises:
        ValueError: the bandwidth is not positive.
    """
    if not bandwidth > 0:
        raise ValueError(f"gaussian_kernels: bandwidth {bandwidth}; a positive one is needed.")
    return distances.double().square().div_(-2 * bandwidth**2).exp_()


def log_density(kernel_sums: np.ndarray, points: int) -> np.ndarray:
    """Return the log of the mean kernel, from sums over ``points`` kernels; finite far from all, too."""
    return np.log(np.maximum(kernel_sums, SMALLEST_SUM) / points)
