"""Which candidates may be among the nearest: by products of few digits, with a proof that none is missed.

Points are moved so that the candidates' mean is the origin, scaled by a power of two, and rounded to
bfloat16, float32 or float64. x̂ is what becomes of x; how far it is from x, rx, is known. By the triangle
inequality

    |d(x, y) - d(x̂, ŷ)| <= rx + ry.                                                                   (1)

d(x̂, ŷ)² = |x̂|² + |ŷ|² - 2x̂ŷ is one product of rows of n = D + 6 numbers: each norm is cut into three that
the precision holds. It is summed in float32 (float64 for float64) with unit roundoff u, in whatever order,
and the sum s is wrong by at most

    |s - d(x̂, ŷ)²| <= 4nu (|x̂| + |ŷ|)² + 2⁻¹⁰⁰ = E:                                                  (2)

nu / (1 - nu) <= 2nu times the sum of the absolute terms, which is at most (|x̂| + |ŷ|)² (1 + 2⁻⁷) (Higham,
Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1); (n + 4)u (|x̂|² + |ŷ|²) for the norms
and their parts; and the last term for what underflows. Then s is rounded to the precision, whose spacing at 1
is e. So if k candidates have rounded sums of at most t, the k nearest are within

    U = √(t (1 + e/2) + E) + rx + max ry,

and by (1) and (2) all of these have sums of at most (U + rx + max ry)² + E. Rounding keeps the order:
comparing rounded sums with the rounded limit misses none.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

BLOCK_BYTES = 2**26
"""Memory for the distances of some queries to all candidates."""

TILE, RUN = 2048, 64
"""Columns that are multiplied, and whose least values are taken, while they are in the caches."""

POINTS = 256
"""Points that are rounded at once, in float64."""

ORDERED = {torch.bfloat16: torch.int16, torch.float32: torch.int32, torch.float64: torch.int64}
"""Read as integers, positive numbers keep their order and negative ones are below them; much faster."""


def precisions(device: str) -> list[torch.dtype]:
    """Return the precisions worth trying on a device, the fastest first, float64 last.

    bfloat16 only where the processor multiplies it; there oneDNN sums in float32, which CUDA need not.
    """
    able = torch.cpu.get_capabilities() if device == "cpu" else {}
    fast = bool(able.get("amx_bf16") or able.get("avx512_bf16"))
    full = torch.get_float32_matmul_precision() == "highest"  # else float32 products have fewer digits
    return [torch.bfloat16] * fast + [torch.float32] * full + [torch.float64]


@dataclass(frozen=True, slots=True)
class Rounded:
    """Points as they are multiplied.

    Attributes:
        points: ``(N, D)`` in some precision.
        length: ``(N,)`` float64, their norms.
        lost: ``(N,)`` float64, at least the distance from what they were.
    """

    points: Tensor
    length: Tensor
    lost: Tensor


@dataclass(frozen=True, slots=True)
class Search:
    """Two sets of points, the origin ``(D,)`` float64, and a unit in which no coordinate is above 1."""

    queries: Tensor
    candidates: Tensor
    origin: Tensor
    scale: float
    device: str

    @classmethod
    def of(cls, queries: np.ndarray, candidates: np.ndarray, device: str) -> "Search":
        """Return the search among finite features ``(N, D)`` and ``(M, D)``; products run on the device."""
        most = max(max(part.max(initial=0), -part.min(initial=0)) for part in (queries, candidates))
        power = int(np.clip(np.frexp(float(most))[1] + 1, -1000, 1000))
        origin = torch.from_numpy(candidates.mean(0, dtype=np.float64))
        return cls(torch.from_numpy(queries), torch.from_numpy(candidates), origin, 2.0**-power, device)

    def shortlists(
        self, rows: Tensor, columns: Tensor, count: int, most: int, dtype: torch.dtype
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield pairs ``(row, column)`` in the order of rows, some rows at a time, and rows that are crowded.

        Args:
            rows: which queries, ascending.
            columns: which candidates.
            count: the pairs hold so many nearest ones of each row, all that are as near, and few others.
            most: a row with more pairs is crowded: it has none.
            dtype: the precision of the products.
        """
        right = self._rounded(self.candidates, columns, dtype)
        factor = torch.cat([right.points, _squared_in_three(right.length, dtype), _ones(right)], 1)
        run = RUN
        while run > 1 and len(columns) < 4 * run * count:
            run //= 2
        runs = -(-len(columns) // run)
        size = max(1, min(len(rows), BLOCK_BYTES // (runs * run * dtype.itemsize)))
        # After the last candidate the last run stays infinitely far.
        block = torch.full((size, runs * run), torch.inf, dtype=dtype, device=self.device)
        for own in rows.split(size):
            left = self._rounded(self.queries, own, dtype)
            other = torch.cat([left.points * -2, _ones(left), _squared_in_three(left.length, dtype)], 1)
            sums = block[: len(own)]
            lows = _multiply(other, factor, sums, run)
            pair, at, crowded = _within(_limit(lows, left, right, count), sums, lows, most)
            yield own[pair.cpu()], columns[at.cpu()], own[crowded.cpu()]

    def _rounded(self, points: Tensor, index: Tensor, dtype: torch.dtype) -> Rounded:
        shape, device = (len(index), points.shape[1]), self.device
        result = Rounded(
            torch.empty(shape, dtype=dtype, device=device),
            *torch.empty((2, len(index)), dtype=torch.float64, device=device),
        )
        for start in range(0, len(index), POINTS):
            here = slice(start, start + POINTS)
            exact = (points[index[here]] - self.origin).mul_(self.scale).to(device)
            result.points[here] = exact
            kept = result.points[here].double()
            result.length[here] = torch.linalg.vector_norm(kept, dim=1)
            result.lost[here] = torch.linalg.vector_norm(exact.sub_(kept), dim=1)
        result.lost.add_(result.length, alpha=2**-50)  # for what float64 itself rounds
        return result


def _ones(points: Rounded) -> Tensor:
    return torch.ones_like(points.points[:, :1]).expand(-1, 3)


def _squared_in_three(length: Tensor, dtype: torch.dtype) -> Tensor:
    """Return squared norms ``(N, 3)`` as sums of three numbers of a precision."""
    rest, parts = length.square(), []
    for _ in range(3):
        parts.append(rest.to(dtype))
        rest = rest - parts[-1]
    return torch.stack(parts, 1)


def _multiply(rows: Tensor, columns: Tensor, sums: Tensor, run: int) -> Tensor:
    """Fill the squared distances ``(n, M)``; return the least of each run of columns, as ordered integers."""
    lows = []
    ordered = sums.view(ORDERED[sums.dtype])
    for start in range(0, len(columns), TILE):
        own = columns[start : start + TILE]
        _product(rows, own, sums[:, start : start + len(own)])
        lows.append(ordered[:, start : start + TILE].unflatten(1, (-1, run)).amin(2))
    return torch.cat(lows, 1)


def _product(rows: Tensor, columns: Tensor, out: Tensor) -> None:
    """Fill the product ``(n, m)`` of ``(n, D)`` and ``(m, D)``."""
    if rows.device.type == "cpu" and rows.dtype != torch.bfloat16:
        # numpy's OpenBLAS is a seventh faster than torch's MKL on the processors of AMD.
        np.matmul(rows.numpy(), columns.numpy().T, out=out.numpy())
    else:
        torch.mm(rows, columns.T, out=out)


def _limit(lows: Tensor, left: Rounded, right: Rounded, count: int) -> Tensor:
    """Return the greatest sum ``(n, 1)`` that one of the nearest can have, as an ordered integer."""
    dtype = left.points.dtype
    least = lows.topk(count, largest=False, sorted=False).values.amax(1).clamp_(min=0).view(dtype).double()
    unit = torch.finfo(torch.promote_types(dtype, torch.float32)).eps / 2
    terms = left.points.shape[1] + 6
    error = 4 * terms * unit * (left.length + right.length.amax()).square() + 2.0**-100
    moved = left.lost + right.lost.amax()
    reach = (least * (1 + torch.finfo(dtype).eps / 2) + error).sqrt() + 2 * moved
    return (reach.square() + error).mul_(1 + 2**-50).to(dtype).view(ORDERED[dtype])[:, None]


def _within(limit: Tensor, sums: Tensor, lows: Tensor, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows and columns of the sums within the limit, and which rows have too many, and so none."""
    near = lows <= limit
    crowded = near.sum(1) > most
    near[crowded] = False
    row, group = near.nonzero(as_tuple=True)
    values = sums.view(lows.dtype).unflatten(1, (lows.shape[1], -1))[row, group]
    pair, at = (values <= limit[row]).nonzero(as_tuple=True)
    row, column = row[pair], group[pair] * values.shape[1] + at
    crowded |= torch.bincount(row, minlength=len(sums)) > most
    kept = ~crowded[row]
    return row[kept], column[kept], crowded.nonzero()[:, 0]
