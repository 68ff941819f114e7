"""Fréchet distance between Gaussians fitted to two feature sets."""

import numpy as np


def frechet_distance(mean_a: np.ndarray, cov_a: np.ndarray, mean_b: np.ndarray, cov_b: np.ndarray) -> float:
    """Return ``|μ₁-μ₂|² + tr(Σ₁ + Σ₂ - 2 (Σ₁^½ Σ₂ Σ₁^½)^½)``, at least 0; lower is better.

    Args:
        mean_a, mean_b: ``(D,)``.
        cov_a, cov_b: ``(D, D)``, symmetric, positive semi-definite.

    Source: Dowson and Landau 1982; for images Heusel et al. 2017. The square root of a distance is not taken.
    """
    root = _root(cov_a)
    cross = np.linalg.eigvalsh(root @ cov_b @ root)
    trace = np.trace(cov_a) + np.trace(cov_b) - 2 * np.sqrt(np.maximum(cross, 0)).sum()
    return float(max(0.0, np.square(mean_a - mean_b).sum() + trace))


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Return the Fréchet distance of features ``(N, D)`` and ``(M, D)``; lower is better.

    Biased upward in small sets: compare only at equal sizes.

    Raises:
        ValueError: fewer than 2 rows, differing columns, or features that are not finite.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(f"frechet: features {a.shape} and {b.shape} do not fit each other.")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("frechet: features are not finite.")
    a, b = a.astype(np.float64), b.astype(np.float64)
    covariances = [np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b)]
    return frechet_distance(a.mean(0), covariances[0], b.mean(0), covariances[1])


def _root(matrix: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
