"""Vendi score: the effective number of distinct images."""

import numpy as np


def vendi_from_kernel(kernel: np.ndarray) -> float:
    """Return ``exp(H(eigenvalues of K / n))``, in [1, n], of a kernel ``(n, n)`` with ones on the diagonal.

    Source: Friedman and Dieng 2023. Higher is more diverse; grows with n, so compare at equal n only.
    """
    return _exponential_entropy(np.linalg.eigvalsh(kernel / len(kernel)))


def vendi(features: np.ndarray) -> float:
    """Return the Vendi score of features ``(N, D)`` under the cosine kernel, in [1, min(N, D)].

    Rows of zeros have no direction; they count as one and the same image.
    """
    x = features.astype(np.float64)
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    unit = np.where(norm > 0, x / np.where(norm > 0, norm, 1), np.eye(1, x.shape[1]))
    # XXᵀ and XᵀX have the same eigenvalues apart from zeros: take the smaller.
    gram = unit.T @ unit if unit.shape[1] < len(unit) else unit @ unit.T
    return _exponential_entropy(np.linalg.eigvalsh(gram / len(unit)))


def _exponential_entropy(values: np.ndarray) -> float:
    values = values[values > 1e-12]
    return float(np.exp(-(values * np.log(values)).sum()))
