"""Gaussian kernel density of features, as a log density without its constant."""

import numpy as np
import torch

from phantomset.validators.measures.neighbours import BLOCK_ELEMENTS, squared_distances


def log_mean_kernel(queries: np.ndarray, points: np.ndarray, bandwidth: float) -> np.ndarray:
    """Return ``log mean_j exp(-|x - y_j|² / 2h²)``, ``(N,)`` float64; queries ``(N, D)``, points ``(M, D)``.

    The normalising constant of the Gaussian is left out: it cancels in a ratio of densities (DOMIAS,
    van Breugel et al. 2023).

    Raises:
        ValueError: the bandwidth is not positive.
    """
    if not bandwidth > 0:
        raise ValueError(f"log_mean_kernel: bandwidth {bandwidth}; a positive one is needed.")
    query = torch.from_numpy(np.asarray(queries, np.float64))
    point = torch.from_numpy(np.asarray(points, np.float64))
    rows = max(1, BLOCK_ELEMENTS // len(point))
    parts = [
        torch.logsumexp(squared_distances(query[i : i + rows], point) / (-2 * bandwidth**2), 1)
        for i in range(0, len(query), rows)
    ]
    return torch.cat(parts).numpy() - np.log(len(point))
