"""How sharp and how bright images are, and how far two distributions of that lie apart."""

import numpy as np
from scipy import ndimage, stats

LEVELS = 256


def sharpness(images: np.ndarray) -> np.ndarray:
    """Return the sharpness of images ``(N, C, H, W)`` uint8, ``(N,)``: log10 of the Laplacian's variance.

    In grey levels squared, plus one so that a flat image has 0. Higher is sharper; noise counts as sharpness.

    Source: Pech-Pacheco et al. 2000 (variance of the Laplacian).
    """
    grey = images.astype(np.float32).mean(1)
    edges = ndimage.laplace(grey, mode="nearest", axes=(1, 2))
    return np.log10(1 + edges.reshape(len(images), -1).var(1))


def intensities(images: np.ndarray) -> np.ndarray:
    """Return the share of each grey level in images ``(N, C, H, W)`` uint8 together, ``(256,)``."""
    counts = np.bincount(images.reshape(-1), minlength=LEVELS)
    return counts / counts.sum()


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """Return how far two samples ``(N,)`` and ``(M,)`` lie apart, in their unit; 0 is the same.

    The Wasserstein-1 distance: by how much values must move on average to turn one into the other.
    """
    return float(stats.wasserstein_distance(one, other))


def levels_apart(one: np.ndarray, other: np.ndarray) -> float:
    """Return the same of two shares of grey levels ``(256,)``, in grey levels."""
    return float(np.abs(np.cumsum(one - other)).sum())
