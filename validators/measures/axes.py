"""Axes along which points differ most, and how far."""

import torch
from torch import Tensor


def principal(centred: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the first axes ``(D, K)`` and deviations ``(K,)``, by the smaller of the two Gram matrices."""
    n, width = centred.shape
    if width <= n:
        values, vectors = torch.linalg.eigh(centred.T @ centred)
        axes = vectors.flip(1)[:, :count]
    else:
        values, vectors = torch.linalg.eigh(centred @ centred.T)
        axes = centred.T @ vectors.flip(1)[:, :count]
        axes = axes / torch.linalg.vector_norm(axes, dim=0).clamp_min(1e-12)
    return axes, (values.flip(0)[:count].clamp_min(0) / (n - 1)).sqrt()


def shrunk_axes(differences: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Return variances ``(K,)`` and axes ``(K, K)`` of differences ``(N, K)`` around zero.

    Few differences say little: their covariance is drawn towards a sphere by ``share``.
    """
    covariance = differences.T @ differences / len(differences)
    sphere = torch.eye(len(covariance), dtype=covariance.dtype) * covariance.diagonal().mean()
    values, axes = torch.linalg.eigh((1 - share) * covariance + share * sphere)
    return values.clamp_min(1e-12), axes
