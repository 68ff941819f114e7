"""Maximum mean discrepancy with polynomial and Gaussian kernels."""

import numpy as np
import torch


def polynomial_kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return ``(a·b / D + 1)³``, ``(N, M)`` float64, the kernel of KID (Bińkowski et al. 2018)."""
    base = a.astype(np.float64) @ b.astype(np.float64).T / a.shape[1] + 1
    return base * base * base  # a power takes ten times as long


def gaussian_kernel(a: np.ndarray, b: np.ndarray, bandwidth: float) -> np.ndarray:
    """Return ``exp(-|a-b|² / 2h²)``, ``(N, M)`` float64, the kernel of CMMD (Jayasumana et al. 2024)."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    squared = np.square(a).sum(1)[:, None] + np.square(b).sum(1)[None] - 2 * a @ b.T
    return np.exp(-np.maximum(squared, 0) / (2 * bandwidth**2))


def mmd_unbiased(aa: np.ndarray, bb: np.ndarray, ab: np.ndarray) -> float:
    """Return the unbiased squared MMD from the three kernel matrices. It can be negative; do not clip."""
    n, m = len(aa), len(bb)
    within = (aa.sum() - np.trace(aa)) / (n * (n - 1)) + (bb.sum() - np.trace(bb)) / (m * (m - 1))
    return float(within - 2 * ab.mean())


def mmd_biased(aa: np.ndarray, bb: np.ndarray, ab: np.ndarray) -> float:
    """Return the biased (V-statistic) squared MMD, at least 0 up to rounding."""
    return float(aa.mean() + bb.mean() - 2 * ab.mean())


def kid(a: np.ndarray, b: np.ndarray) -> float:
    """Return the kernel distance of features ``(N, D)`` and ``(M, D)``, unbiased.

    Lower is better; about 0 for equal distributions, negative by chance.

    Raises:
        ValueError: fewer than 2 rows or differing columns.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(f"kid: features {a.shape} and {b.shape} do not fit each other.")
    return mmd_unbiased(polynomial_kernel(a, a), polynomial_kernel(b, b), polynomial_kernel(a, b))


def kid_permutation_p(
    features: np.ndarray, groups: np.ndarray, is_first: np.ndarray, draws: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Return the KID between two sets of patients' images and its permutation p, labels permuted by patient.

    Args:
        features: ``(N, D)``, all images of both sides.
        groups: ``(N,)`` patient of each image, 0..P-1.
        is_first: ``(P,)`` bool, which patients are on the first side.
        draws: permutations.
    """
    kernel = torch.from_numpy(polynomial_kernel(features, features).astype(np.float32))
    kernel.fill_diagonal_(0)
    labels = np.tile(is_first, (draws + 1, 1))
    rng.permuted(labels[1:], axis=1, out=labels[1:])
    first = torch.from_numpy(labels[:, groups].astype(np.float32).T)
    second = 1 - first
    n, m = first.sum(0), second.sum(0)
    k_first, k_second = kernel @ first, kernel @ second
    within = (first * k_first).sum(0) / (n * (n - 1)) + (second * k_second).sum(0) / (m * (m - 1))
    statistic = (within - 2 * (first * k_second).sum(0) / (n * m)).numpy()
    p = (1 + int((statistic[1:] >= statistic[0]).sum())) / (draws + 1)
    return float(statistic[0]), p
