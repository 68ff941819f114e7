"""Exact nearest neighbours by blocked matrix products: never approximate, bounded in memory."""

import numpy as np
import torch
from torch import Tensor

BLOCK_ELEMENTS = 2**21
"""Distances held at once (8 MiB in float32): small enough for the caches, large enough for the product."""

ROWS_ELEMENTS = 2**24
"""Distances of all candidates to some queries (64 MiB), of which the least are then sought."""

TILE, RUN = 2048, 64
"""Columns that are multiplied, and whose least values are taken, while they are in the caches."""


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
    # |b|² - 2ab ranks as the distance does; with a column more it is one product.
    norms = candidate.square().sum(1, keepdim=True)
    left = torch.cat([query, torch.ones(len(query), 1)], 1)
    right = torch.cat([candidate * -2, norms], 1)
    rows = max(1, ROWS_ELEMENTS // len(candidate))
    ranks = torch.empty((min(rows, len(query)), len(candidate)))
    found: list[Tensor] = []
    for start in range(0, len(query), rows):
        some = left[start : start + rows]
        block = ranks[: len(some)]
        tiles = [block[:, tile : tile + TILE] for tile in range(0, len(candidate), TILE)]
        lows: list[Tensor] = []
        for tile, own in zip(tiles, right.split(TILE), strict=True):
            torch.mm(some, own.T, out=tile)
            lows.append(_lows(tile))
        if skip_self:
            here = torch.arange(len(some))
            block[here, here + start] = torch.inf
            lows = [_lows(tile) for tile in tiles]
        found.append(_least(block, torch.cat(lows, 1), count))
    index = torch.cat(found).sort(1).values.numpy()  # among equals the first comes first
    distance = pair_distances(queries, candidates, index)
    order = np.argsort(distance, axis=1, kind="stable")
    return np.take_along_axis(distance, order, 1), np.take_along_axis(index, order, 1)


def _lows(tile: Tensor) -> Tensor:
    """Return the least value of each full run of `RUN` columns, ``(rows, runs)``."""
    runs = tile.shape[1] // RUN
    return tile[:, : runs * RUN].unflatten(1, (runs, RUN)).amin(2) if runs else tile[:, :0]


def _least(block: Tensor, lows: Tensor, count: int) -> Tensor:
    """Return the columns ``(rows, count)`` of the least values of ``(rows, M)``.

    Only the `count` runs with the least lows can hold them, and the columns after the last full run.
    """
    runs = lows.shape[1]
    if runs <= count:
        return block.topk(count, dim=1, largest=False).indices
    best = lows.topk(count, dim=1, largest=False).indices[:, :, None]
    rest = torch.arange(runs * RUN, block.shape[1]).expand(len(block), -1)
    columns = torch.cat([(best * RUN + torch.arange(RUN)).flatten(1), rest], 1)
    return columns.gather(1, block.gather(1, columns).topk(count, dim=1, largest=False).indices)


def pair_distances(queries: np.ndarray, candidates: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return Euclidean distances ``(N, K)`` in float64 of each query to its candidates ``index (N, K)``."""
    query, candidate, at = torch.from_numpy(queries), torch.from_numpy(candidates), torch.from_numpy(index)
    distance = torch.empty(index.shape, dtype=torch.float64)
    for column in range(index.shape[1]):
        for start in range(0, len(queries), 1024):
            rows = slice(start, start + 1024)
            gap = query[rows].double() - candidate[at[rows, column]]
            distance[rows, column] = torch.linalg.vector_norm(gap, dim=1)
    return distance.numpy()


def _float32(features: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(features, dtype=np.float32))


def _check(queries: np.ndarray, candidates: np.ndarray, needed: int) -> None:
    if queries.ndim != 2 or candidates.ndim != 2 or queries.shape[1] != candidates.shape[1]:
        raise ValueError(f"nearest: features {queries.shape} and {candidates.shape} do not fit each other.")
    if len(candidates) < needed:
        raise ValueError(f"nearest: {len(candidates)} candidates; {needed} needed.")
    if not (np.isfinite(queries).all() and np.isfinite(candidates).all()):
        raise ValueError("nearest: features are not finite.")
