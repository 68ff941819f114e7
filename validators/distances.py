"""Exact least distances between image sets in a representation, streamed in blocks."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from phantomset.data.records import ImageSet
from phantomset.validators.calibration import OUTLINE, ByDistance, ByLines, Calibration
from phantomset.validators.crew import side_by_side
from phantomset.validators.features import Space
from phantomset.validators.finding import EvidenceError
from phantomset.validators.measures.density import gaussian_kernels
from phantomset.validators.measures.neighbours import BLOCK_ELEMENTS
from phantomset.validators.mirrors import mirrored
from phantomset.validators.policy import LEAST_REFERENCE

ENCODED_AT_ONCE = 32
"""Queries with variants encoded together: with 50 variants of 24x24 px that is 4 MiB."""

EVEN_COLUMNS = 64
"""Blocks have a multiple of so many columns: products of odd widths take half as long again."""

ROWS_ELEMENTS = 2**22
"""Distances in a block of rows, where queries have no variants."""

SHORTLIST = 100
"""Where a space has a coarse one, so many of each set are compared with a query."""

REFINED = 64
"""So many of the closest pairs are measured again in float64; farther ones differ by a millionth or two."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """Images as candidates: ``fine (M, P, D)``, and in the coarse space, where there is one."""

    fine: Tensor
    coarse: Tensor

    @classmethod
    def of(cls, space: Space, images: np.ndarray) -> "Encoded":
        """Encode uint8 images ``(M, C, H, W)`` in float32."""
        fine = space.candidates(images, torch.float32)
        return cls(fine, space.coarse.candidates(images, torch.float32) if space.coarse else fine)


def blocks(
    space: Space, queries: np.ndarray | Tensor, candidates: Encoded, sets: Sequence[slice]
) -> Iterator[tuple[int, Tensor]]:
    """Yield ``(first row, distances (rows, M) float32)`` of queries to candidates, in order.

    Only products of the two sets are computed: the time grows with N·V·M, the memory with one block. In a
    space with a coarse one, all but the `SHORTLIST` coarsely nearest of each set are infinitely far.

    Args:
        space: the representation.
        queries: uint8 images ``(N, C, H, W)``, or, where nothing moves, encoded ones ``(N, P, D)``.
        candidates: M images.
        sets: which of these are looked at together, all of them.
    """
    if not space.coarse:
        yield from _streamed(space, queries, candidates.fine)
        return
    rough, starts = _all_pairs(space.coarse, queries, candidates.coarse)
    exact = _shortlisted(space, np.asarray(queries), candidates.fine, sets)
    yield from zip(starts, side_by_side(lambda start: exact(start, rough(start)), starts), strict=True)


def _streamed(space: Space, queries: np.ndarray | Tensor, candidates: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield `blocks` in a space as it is, without regard to a coarse one."""
    block, starts = _all_pairs(space, queries, candidates)
    yield from zip(starts, side_by_side(block, starts), strict=True)


def _all_pairs(
    space: Space, queries: np.ndarray | Tensor, candidates: Tensor
) -> tuple[Callable[[int], Tensor], range]:
    """Return what computes a block of distances, from its first row, and where the blocks begin."""
    norms = candidates.square().sum(2)  # (M, P)
    parts = [_halves(space, candidates[:, p]) for p in range(candidates.shape[1])]
    rows = ENCODED_AT_ONCE
    if not space.moves:
        rows = max(rows, ROWS_ELEMENTS // max(1, len(candidates)))

    def block(start: int) -> Tensor:
        some = queries[start : start + rows]
        left = some[:, None] if isinstance(some, Tensor) else space.queries(some, torch.float32)
        squared = torch.full((len(left), len(candidates)), torch.inf)
        halves = [_halves(space, left[:, :, p]) for p in range(len(parts))]
        # Few columns at a time, so that candidates and products of all rows stay in the caches.
        width = max(1, BLOCK_ELEMENTS // (len(left) * left.shape[1]))
        width = max(1, width // EVEN_COLUMNS) * EVEN_COLUMNS
        for column in range(0, len(candidates), width):
            own = slice(column, column + width)
            for p, right in enumerate(parts):
                part = _squared(halves[p], [half[own] for half in right], norms[own, p], space.scales[p])
                torch.minimum(squared[:, own], part, out=squared[:, own])
        return squared.sqrt_()

    return block, range(0, len(queries), rows)


def _shortlisted(
    space: Space, queries: np.ndarray, candidates: Tensor, sets: Sequence[slice]
) -> Callable[[int, Tensor], Tensor]:
    """Return what compares queries with few candidates alone, chosen by coarse distances; one part."""
    norms, scale = candidates[:, 0].square().sum(1), space.scales[0]
    right = _halves(space, candidates[:, 0])

    def block(start: int, far: Tensor) -> Tensor:
        left = _halves(space, space.queries(queries[start : start + len(far)], torch.float32)[:, :, 0])
        columns = torch.cat([_nearest(far, own) for own in sets], 1)  # (n, K)
        squared = torch.stack(
            [
                _squared(
                    [half[row : row + 1] for half in left], [half[own] for half in right], norms[own], scale
                )[0]
                for row, own in enumerate(columns)
            ]
        )
        return torch.full_like(far, torch.inf).scatter_(1, columns, squared.sqrt_())

    return block


def _nearest(distances: Tensor, own: slice) -> Tensor:
    """Return the columns of the `SHORTLIST` least distances among some columns, ``(n, K)``."""
    size = own.stop - own.start
    return own.start + distances[:, own].topk(min(SHORTLIST, size), 1, largest=False, sorted=False).indices


def _halves(space: Space, vectors: Tensor) -> list[Tensor]:
    """Return vectors ``(..., D)`` as they are multiplied: where they are `folded`, each half by itself."""
    halves = vectors.chunk(2, -1) if space.mirrors else (vectors,)
    return [half.contiguous() for half in halves]


def _squared(left: Sequence[Tensor], right: Sequence[Tensor], norms: Tensor, scale: float) -> Tensor:
    """Return squared distances ``(n, M)`` of ``(n, V, D)`` to ``(M, D)``, least over V, in a unit."""
    count, variants = left[0].shape[:2]
    product = left[0].flatten(0, 1) @ right[0].T
    if len(left) > 1:  # the greater of the products with a variant and with its mirror image
        product += (left[1].flatten(0, 1) @ right[1].T).abs_()
    if variants > 1:  # all variants have one length, so the largest product is the nearest
        product = product.view(count, variants, -1).amax(1)
    length = sum(half[:, 0].square().sum(1, keepdim=True) for half in left)
    return product.mul_(-2).add_(norms).add_(length).clamp_(min=0).mul_(scale**-2)


def pair_distances(space: Space, queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Return the distance ``(K,)`` of the k-th query to the k-th candidate, in float64."""
    found = []
    for start in range(0, len(queries), ENCODED_AT_ONCE):
        rows = slice(start, start + ENCODED_AT_ONCE)
        left = space.queries(queries[rows], torch.float64)
        left = torch.cat([left, mirrored(left)], 1) if space.mirrors else left
        right = space.candidates(candidates[rows], torch.float64)
        gap = torch.linalg.vector_norm(left - right[:, None], dim=3)
        found.append((gap / torch.tensor(space.scales, dtype=torch.float64)).amin((1, 2)).numpy())
    return np.concatenate(found) if found else np.empty(0)


@dataclass(frozen=True, slots=True)
class Candidates:
    """A synthetic, planted or posing set, to be seen from the real images.

    Attributes:
        images: ``(M, C, H, W)`` uint8.
        tail: how many of the last images are kept apart, so that others can take their place.
        rows: ``(N,)`` bool, which real images look at the set; None for all.
    """

    images: np.ndarray
    tail: int = 0
    rows: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """Calibrated distances q of N real to M synthetic images, reduced as they were computed.

    About 1 for unrelated images, towards 0 for a copy: `Calibration`.

    Attributes:
        head: ``(N,)`` least q over the first M - K columns; infinite where there are none.
        head_index: ``(N,)`` which column that was, -1 for none.
        tail: ``(N, K)`` q of the last columns.
        votes: ``(M,)`` which real image is nearest, by q.
        vote_q: ``(M,)`` and how near.
        kernel_head: ``(N,)`` sum of Gaussian kernels over the head; zeros without a bandwidth.
        kernel_tail: ``(N, K)`` each kernel of the tail.
    """

    head: np.ndarray
    head_index: np.ndarray
    tail: np.ndarray
    votes: np.ndarray
    vote_q: np.ndarray
    kernel_head: np.ndarray
    kernel_tail: np.ndarray

    def without_tail(self) -> "Table":
        """Return the table of the same set undivided: no kernels, the tail's least q in the head."""
        last = len(self.votes) - self.tail.shape[1] + self.tail.argmin(1) if self.tail.shape[1] else -1
        least = self.tail.min(1, initial=np.inf)
        return replace(
            Table.empty(len(self.head), 0, 0),
            head=np.minimum(self.head, least),
            head_index=np.where(self.head <= least, self.head_index, last),
            votes=self.votes,
            vote_q=self.vote_q,
        )

    @classmethod
    def empty(cls, n: int, size: int, tail: int) -> "Table":
        """Return a table before any real image was looked at."""
        return cls(
            head=np.full(n, np.inf),
            head_index=np.full(n, -1),
            tail=np.full((n, tail), np.inf, np.float32),
            votes=np.zeros(size, np.int64),
            vote_q=np.full(size, np.inf, np.float32),
            kernel_head=np.zeros(n),
            kernel_tail=np.zeros((n, tail), np.float32),
        )

    def take(self, start: int, q: Tensor, kernels: Tensor | None) -> None:
        """Fold a block of rows ``(rows, M)`` in; infinite q are not looked at."""
        here, width, values = slice(start, start + len(q)), q.shape[1] - self.tail.shape[1], q.numpy()
        if width:  # numpy finds positions several times faster than torch, torch the least values
            where = values[:, :width].argmin(1)
            self.head_index[here] = where
            self.head[here] = values[np.arange(len(q)), where]
        self.tail[here] = values[:, width:]
        better = np.flatnonzero(q.amin(0).numpy() < self.vote_q)
        who = values[:, better].argmin(0)
        self.votes[better], self.vote_q[better] = who + start, values[who, better]
        if kernels is not None:
            self.kernel_head[here] = kernels[:, :width].sum(1).numpy()
            self.kernel_tail[here] = kernels[:, width:].numpy()


@dataclass(frozen=True, slots=True)
class Measured:
    """One pass of all real images over R and all sets.

    Attributes:
        kernel_r: ``(N,)`` sum of Gaussian kernels over R; zeros where none was asked for.
        tables: one a set.
    """

    kernel_r: np.ndarray
    tables: tuple[Table, ...]


def measure(
    space: Space,
    real: np.ndarray,
    reference: ImageSet,
    sets: Sequence[Candidates],
    with_kernels: bool = False,
) -> Measured:
    """Return the calibrated distances of all real images to each set, in one pass.

    Args:
        space: the representation.
        real: T and H, ``(N, C, H, W)`` uint8.
        reference: R.
        sets: what to look at.
        with_kernels: also Gaussian kernels, their bandwidth the median nearest distance within R.

    Raises:
        EvidenceError: R has one patient, or images that do not differ.
    """
    images = np.concatenate([part.images for part in sets])
    encoded = Encoded.of(space, np.concatenate([reference.images, images]))
    queries = real if space.moves else space.candidates(real, torch.float32)
    calibration, spacing = _calibrated(space, queries, encoded, reference, images)
    n_r, bandwidth = len(reference), float(np.median(spacing)) if with_kernels else None
    kernel_r = np.zeros(len(real))
    tables = tuple(Table.empty(len(real), len(part.images), part.tail) for part in sets)
    for start, block in blocks(space, queries, encoded, [slice(0, n_r), *_shares(sets, n_r)]):
        here = slice(start, start + len(block))
        kernels = None
        if bandwidth is not None:
            kernels = gaussian_kernels(block, bandwidth)
            kernel_r[here] = kernels[:, :n_r].sum(1).numpy()
            kernels = kernels[:, n_r:]
        q = calibration.of_block(start, block)
        for part, result, own in zip(sets, tables, _slices(sets), strict=True):
            if part.rows is not None:
                q[~torch.from_numpy(part.rows[here]), own] = torch.inf
            result.take(start, q[:, own], None if kernels is None else kernels[:, own])
    for result, own in zip(tables, _slices(sets), strict=True):
        _refine(result, real, calibration, own.start)
    return Measured(kernel_r, tables)


def _shares(sets: Sequence[Candidates], start: int) -> list[slice]:
    """Return the columns of each head and each tail, the first of them at ``start``."""
    ends = start + np.cumsum([size for part in sets for size in (len(part.images) - part.tail, part.tail)])
    return [slice(a, b) for a, b in zip([start, *ends.tolist()], ends.tolist(), strict=False) if b > a]


def _slices(sets: Sequence[Candidates]) -> list[slice]:
    ends = np.cumsum([len(part.images) for part in sets]).tolist()
    return [slice(end - len(part.images), end) for part, end in zip(sets, ends, strict=True)]


def _calibrated(
    space: Space, queries: np.ndarray | Tensor, encoded: Encoded, reference: ImageSet, images: np.ndarray
) -> tuple[Calibration, np.ndarray]:
    """Return what calibrates a space's distances, and those of R's images to other patients' ``(n_R,)``."""
    n_r = len(reference)
    count = min(space.lines + 1, n_r)
    near, which = _to_reference(space, encoded, reference, count)
    spacing = near[:n_r, 0]
    # A reference of one patient has no other to compare with: no spacing, no judgement.
    if not np.isfinite(spacing).all() or not (spacing > 0).any():
        raise EvidenceError(
            f"The reference images come from one patient, or do not differ ({space.name}); "
            f"{LEAST_REFERENCE} reference patients with images of their own are needed."
        )
    least, gaps, which = float(spacing[spacing > 0].min()), near[n_r:], which[n_r:]
    if not space.lines:
        pairs = partial(pair_distances, space)
        return ByDistance(pairs, images, gaps[:, 0], least, len(queries), n_r), spacing
    outlines = torch.as_tensor(queries)[:, 0, :OUTLINE], encoded.fine[n_r:, 0, :OUTLINE]

    def vectors(some: np.ndarray) -> Tensor:
        return space.candidates(some, torch.float64)[:, 0]

    return ByLines.of(vectors, images, reference.images, outlines, (gaps, which), least), spacing


def _to_reference(
    space: Space, encoded: Encoded, reference: ImageSet, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return distances to the nearest R images and which these are, ``(n_R + M, count)``, nearest first.

    R's own are those of other patients. R's images are the queries, as T's and H's are: a blurred image is
    near to every one that may be blurred, and only seen from there is it known to be.
    """
    n_r, patients = len(reference), torch.from_numpy(reference.patients)
    queries = reference.images if space.moves else encoded.fine[:n_r]
    near = torch.full((count, len(encoded.fine)), torch.inf)
    which = torch.zeros(near.shape, dtype=torch.int64)
    for start, block in _streamed(space, queries, encoded.fine):
        own = patients[start : start + len(block)]
        block[:, :n_r][own[:, None] == patients[None]] = torch.inf
        here = torch.arange(start, start + len(block))[:, None].expand(-1, block.shape[1])
        near, order = torch.cat([near, block]).topk(count, 0, largest=False)
        which = torch.cat([which, here]).gather(0, order)
    return near.T.numpy(), which.T.numpy()


def _refine(found: Table, real: np.ndarray, calibration: Calibration, start: int) -> None:
    """Measure the closest pairs of the head again in float64, in place.

    The set's first column is ``start``.
    """
    rows = np.argsort(found.head, kind="stable")[:REFINED]
    rows = rows[found.head_index[rows] >= 0]
    rows = rows[np.isfinite(found.head[rows])]
    found.head[rows] = calibration.of_pairs(real, rows, start + found.head_index[rows])
