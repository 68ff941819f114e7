"""Exact nearest neighbours by blocked matrix products: never approximate, bounded in memory."""

import numpy as np
import torch
from torch import Tensor

BLOCK_ELEMENTS = 2**21
"""Distances held at once (8 MiB in float32): small enough for the caches, large enough for the product."""


def squared_distances(queries: Tensor, candidates: Tensor) -> Tensor:
    """Return squared Euclidean distances ``(N, M)``, never negative, of ``(N, D)`` to ``(M, D)``.

    By ``|a|² + |b|² - 2ab``, so a distance near zero keeps few digits: `nearest` computes the closest
    pairs again in float64.
    """
    norms = candidates.square().sum(1)
    product = torch.addmm(norms, queries, candidates.T, alpha=-2)
    return product.add_(queries.square().sum(1, keepdim=True)).clamp_(min=0)


def nearest(
    queries: np.ndarray, candidates: np.ndarray, count: int = 1, *, skip_self: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return the exact nearest candidates of each query: distances ``(N, count)`` float64, positions int64.

    Args:
        queries: ``(N, D)`` features.
        candidates: ``(M, D)`` features.
        count: neighbours per query, 1..M.
        skip_self: queries are the candidates; no row is its own neighbour.

    Raises:
        ValueError: too few candidates, differing columns, or features that are not finite.
    """
    _check(queries, candidates, count + skip_self)
    query, candidate = _float32(queries), _float32(candidates)
    rows = max(1, BLOCK_ELEMENTS // len(candidate))
    found: list[Tensor] = []
    for start in range(0, len(query), rows):
        block = squared_distances(query[start : start + rows], candidate)
        if skip_self:
            here = torch.arange(len(block))
            block[here, here + start] = torch.inf
        if count == 1:
            found.append(block.argmin(1, keepdim=True))
        else:
            found.append(block.topk(count, dim=1, largest=False).indices)
    index = torch.cat(found).numpy()
    distance = pair_distances(queries, candidates, index)
    order = np.argsort(distance, axis=1, kind="stable")
    return np.take_along_axis(distance, order, 1), np.take_along_axis(index, order, 1)


def pair_distances(queries: np.ndarray, candidates: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return Euclidean distances ``(N, K)`` in float64 of each query to its candidates ``index (N, K)``."""
    distance = np.empty(index.shape)
    for column in range(index.shape[1]):
        for start in range(0, len(queries), 4096):
            rows = slice(start, start + 4096)
            gap = queries[rows].astype(np.float64) - candidates[index[rows, column]]
            distance[rows, column] = np.sqrt(np.einsum("nd,nd->n", gap, gap))
    return distance


def _float32(features: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(features, dtype=np.float32))


def _check(queries: np.ndarray, candidates: np.ndarray, needed: int) -> None:
    if queries.ndim != 2 or candidates.ndim != 2 or queries.shape[1] != candidates.shape[1]:
        raise ValueError(f"nearest: features {queries.shape} and {candidates.shape} do not fit each other.")
    if len(candidates) < needed:
        raise ValueError(f"nearest: {len(candidates)} candidates; {needed} needed.")
    if not (np.isfinite(queries).all() and np.isfinite(candidates).all()):
        raise ValueError("nearest: features are not finite.")
