"""Exact nearest neighbours by blocked matrix products: never approximate, bounded in memory."""

from collections import Counter

import numpy as np
import torch
from torch import Tensor

from phantomset.validators.measures.shortlists import Search, precisions

BLOCK_ELEMENTS = 2**21
"""Distances held at once (8 MiB in float32): small enough for the caches, large enough for the product."""

PAIR_ELEMENTS = 2**15
"""Coordinates of pairs that are subtracted at once in float64 (256 KiB)."""


def squared_distances(queries: Tensor, candidates: Tensor) -> Tensor:
    """Return squared Euclidean distances ``(N, M)``, never negative, of ``(N, D)`` to ``(M, D)``.

    By ``|a|² + |b|² - 2ab``, so a distance near zero keeps few digits: `nearest` measures the closest
    pairs in float64.
    """
    norms = candidates.square().sum(1)
    product = torch.addmm(norms, queries, candidates.T, alpha=-2)
    return product.add_(queries.square().sum(1, keepdim=True)).clamp_(min=0)


def nearest(
    queries: np.ndarray,
    candidates: np.ndarray,
    count: int = 1,
    *,
    skip_self: bool = False,
    device: str = "cpu",
) -> tuple[np.ndarray, np.ndarray]:
    """Return the exact nearest candidates of each query: distances ``(N, count)`` float64, positions int64.

    Args:
        queries: ``(N, D)`` features.
        candidates: ``(M, D)`` features.
        count: neighbours per query, 1..M.
        skip_self: queries are the candidates; no row is its own neighbour.
        device: where products run, cpu or cuda. The answer is the same to the bit: those that products of few
            digits leave are measured in float64 on the CPU, ties going to the earlier candidate.

    Raises:
        ValueError: too few candidates, differing columns, or features that are not finite.
    """
    needed = count + skip_self
    _check(queries, candidates, needed)
    search, steps = Search.of(queries, candidates, device), precisions(device)
    distance, index = np.empty((len(queries), count)), np.empty((len(queries), count), np.int64)
    left, columns = torch.arange(len(queries)), torch.arange(len(candidates))
    most = 4 * needed + 16 + len(candidates) // 128  # to measure more takes longer than the next precision
    for dtype in steps:
        if dtype == steps[-1]:
            columns, most = _few_of_a_kind(candidates, needed), len(candidates)
        crowded = [left[:0]]
        for row, column, many in search.shortlists(left, columns, needed, most, dtype):
            crowded.append(many)
            if skip_self:
                row, column = row[row != column], column[row != column]
            far = _pair_distances(search.queries, search.candidates, row, column)
            order = np.lexsort((column, far, row))  # among equals the first comes first
            first = np.flatnonzero(np.diff(row, prepend=-1))
            best, here = order[first[:, None] + np.arange(count)], row[first]
            distance[here], index[here] = far[best], column[best]
        left = torch.cat(crowded)
        if not len(left):
            break
    return distance, index


def _few_of_a_kind(candidates: np.ndarray, most: int) -> Tensor:
    """Return the positions of all candidates but those that ``most`` equal ones precede."""
    seen: Counter[bytes] = Counter()
    kept = []
    for position, features in enumerate(candidates):
        seen[features.tobytes()] += 1
        if seen[features.tobytes()] <= most:
            kept.append(position)
    return torch.tensor(kept)


def _pair_distances(queries: Tensor, candidates: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Return the Euclidean distance ``(K,)`` of each pair, in float64."""
    distance = torch.empty(len(row), dtype=torch.float64)
    some = max(1, PAIR_ELEMENTS // max(1, queries.shape[1]))
    for start in range(0, len(row), some):
        here = slice(start, start + some)
        gap = queries.index_select(0, row[here]).double().sub_(candidates.index_select(0, column[here]))
        distance[here] = torch.linalg.vector_norm(gap, dim=1)
    return distance


def _check(queries: np.ndarray, candidates: np.ndarray, needed: int) -> None:
    if queries.ndim != 2 or candidates.ndim != 2 or queries.shape[1] != candidates.shape[1]:
        raise ValueError(f"nearest: features {queries.shape} and {candidates.shape} do not fit each other.")
    if len(candidates) < needed:
        raise ValueError(f"nearest: {len(candidates)} candidates; {needed} needed.")
    if not (np.isfinite(queries).all() and np.isfinite(candidates).all()):
        raise ValueError("nearest: features are not finite.")
