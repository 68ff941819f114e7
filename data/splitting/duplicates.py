"""Near-duplicates: one picture after a change of grey values, size or noise, a shift, a mirror.

Each image is a thumbnail. Two descriptors find candidates: the signs of 255 low cosine coefficients (a
perceptual hash), and the magnitudes of low Fourier coefficients, which neither a shift nor a mirror nor an
inversion changes. Candidates are then registered: the correlation of their fine structure at the best shift.
Sources: Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010; Lewis, "Fast
normalized cross-correlation", 1995.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from PIL import Image

from phantomset.data.pixels.canonical import picture_of

THUMB_PX = 32

DUPLICATE = 0.95
"""From this likeness on, two images are one picture."""

REVIEW = 0.90
"""From here to `DUPLICATE` a pair is listed for a person to look at, and joined to nothing."""

SAME_SIGNS = 151
"""Equal minus unequal bits of 255, from which on a pair is looked at more closely."""

FINE_PX = 48
"""Pictures with a smaller side than this show so little that strangers' bits agree more often."""

_BY_CHANCE, _BY_CHANCE_WHERE_SMALL = 111, 151
"""So much agreement of bits says nothing yet: strangers' chest films reach it."""

_CHAIN, _DENSE = 10, 0.5
"""Copies of one picture are all alike. More pictures than that, of whose pairs a smaller share is alike, are
a chain of strangers, each like the next."""

_CHAINED = DUPLICATE - 0.001

_SURE = 0.98
_STRICTER = 0.01
_A_BIT = 0.001
_COSINES = 16
_WAVES = 8
_NEAREST = 10
_LIKE = 0.95
_WORTH_REFINING = 0.7
_REACH = THUMB_PX // 8
"""Shifts up to an eighth of the side are looked for."""

_SIGMA = THUMB_PX / 16
_FLAT = 2.0
"""Images with a smaller deviation of grey values have no structure to compare."""

_END = 10
"""Grey levels from the darkest and the brightest value of a picture, within which it may be clipped."""

_ENOUGH = 0.5
"""Of the shared pixels so many must be left to tell copies by."""

_BLOCK = 1_000_000
_AT_ONCE = 1024
"""Images whose spectra are in memory together, some 20 KiB each."""


class Pair(NamedTuple):
    """Two images, by position, and how alike they are: 0 to 1, 1 is the same picture.

    ``is_sure``: nothing can have deceived. Of small pictures it is asked that the bits agree and that the
    correlation is higher still: shirts of 28 px reach 0.97 with those of another class.
    """

    first: int
    second: int
    score: float
    is_sure: bool


def thumbnail(image: np.ndarray, picture: Image.Image | None = None) -> np.ndarray:
    """Return a ``(32, 32)`` uint8 thumbnail of an image ``(C, H, W)``: uint8, or float in [0, 1].

    It is made from the picture as the source gave it: at 28 px strangers' chest films correlate to 0.93.
    ``picture`` is what `picture_of` makes of a grey image, where it was made already.
    """
    picture = picture or picture_of(image[0] if len(image) == 1 else image.mean(axis=0))
    across, down = picture.width // THUMB_PX, picture.height // THUMB_PX
    if picture.size == (across * THUMB_PX, down * THUMB_PX):
        small = np.asarray(picture.reduce((across, down)))  # the same means of blocks, in half the time
    else:
        kind = Image.Resampling.BOX if across and down else Image.Resampling.BILINEAR
        small = np.asarray(picture.resize((THUMB_PX, THUMB_PX), kind))
    white = 255 if image.dtype.kind == "f" else 1
    return np.rint(np.clip(small * white, 0, 255)).astype(np.uint8)


def near_duplicates(thumbnails: np.ndarray, sides: Sequence[int] | None = None, every: int = 1) -> list[Pair]:
    """Return the pairs with a likeness of at least `REVIEW`, sorted.

    Time grows with N squared (a matrix product of 255 columns), memory with N: some 2 KiB an image.

    Args:
        thumbnails: ``(N, 32, 32)`` uint8.
        sides: the smaller side in pixels of each picture that they were made from; None: none is small.
        every: only every n-th image is compared, with all of them.
    """
    if len(thumbnails) < 2:
        return []
    deviations = [part.std(axis=(1, 2), dtype=np.float32) for part in _blocks(thumbnails)]
    rough = np.flatnonzero(np.concatenate(deviations) >= _FLAT)
    if len(rough) < 2:
        return []
    views = _Views(thumbnails if len(rough) == len(thumbnails) else thumbnails[rough])
    small = np.zeros(len(rough), dtype=bool) if sides is None else np.asarray(sides)[rough] < FINE_PX
    rows, step = np.flatnonzero(rough % every == 0), max(1, _BLOCK // len(rough))
    if not len(rows):
        return []
    parts = [views.candidates(rows[start : start + step]) for start in range(0, len(rows), step)]
    pairs = np.unique(np.sort(np.concatenate(parts), axis=1), axis=0)
    found: list[Pair] = []
    for start in range(0, len(pairs), 512):
        part = pairs[start : start + 512]
        correlation, agreeing = views.registered(part), views.agreeing(part)
        is_small = small[part[:, 0]] | small[part[:, 1]]
        scores = likeness(correlation, agreeing, is_small)
        sure = ~is_small | (correlation >= _SURE) & (agreeing >= SAME_SIGNS)
        found += [
            Pair(int(rough[i]), int(rough[j]), score, is_sure)
            for (i, j), score, is_sure in zip(part.tolist(), scores.tolist(), sure.tolist(), strict=True)
            if score >= REVIEW
        ]
    return sorted(found)


def likeness(correlation: np.ndarray, agreeing: np.ndarray, is_small: np.ndarray) -> np.ndarray:
    """Return how alike pairs are, ``(P,)``: what registration says, and what the bits add to it.

    Each can deceive alone: a dark spot on plain skin correlates with any other, and strangers' chest films
    agree in bits. Correlation alone is asked for 0.96; each bit beyond chance makes up for 0.001 of it, so
    that noise or a narrower window, which lower the correlation, hide no copy.
    """
    by_chance = np.where(is_small, _BY_CHANCE_WHERE_SMALL, _BY_CHANCE)
    return np.minimum(1.0, correlation - _STRICTER + _A_BIT * np.maximum(0, agreeing - by_chance))


class _Views:
    """What is computed once for each image; spectra are made for each batch of pairs."""

    def __init__(self, thumbnails: np.ndarray) -> None:
        self._thumbnails = thumbnails
        odd = (np.arange(_COSINES**2) % _COSINES % 2 == 1)[1:]
        signs = np.concatenate([_signs(block) for block in _blocks(thumbnails)])
        # a mirror changes the sign of the odd columns, an inversion all signs
        self._even, self._odd = signs[:, ~odd], signs[:, odd]
        self._magnitudes = np.concatenate([_magnitudes(b.astype(np.float32)) for b in _blocks(thumbnails)])

    def agreeing(self, pairs: np.ndarray) -> np.ndarray:
        """Return equal minus unequal bits of each pair, mirrored or not, inverted or not, ``(P,)``."""
        first, second = pairs[:, 0], pairs[:, 1]
        even = np.abs((self._even[first] * self._even[second]).sum(axis=1, dtype=np.int32))
        return even + np.abs((self._odd[first] * self._odd[second]).sum(axis=1, dtype=np.int32))

    def candidates(self, rows: np.ndarray) -> np.ndarray:
        """Return the pairs of these rows whose bits agree, and the most alike in their waves, ``(P, 2)``."""
        like = self._magnitudes[rows] @ self._magnitudes.T
        agree = np.zeros_like(like)
        for signs in (self._even, self._odd):
            ours = signs[rows].astype(np.float32)
            for start in range(0, len(signs), _AT_ONCE):
                part = slice(start, start + _AT_ONCE)
                agree[:, part] += np.abs(ours @ signs[part].astype(np.float32).T)
        agree[np.arange(len(rows)), rows] = 0
        like[np.arange(len(rows)), rows] = 0
        first, second = np.nonzero(agree >= SAME_SIGNS)
        same = np.stack([rows[first], second], axis=1)
        most = min(_NEAREST, like.shape[1] - 1)
        nearest = np.argpartition(-like, most - 1, axis=1)[:, :most]
        first, rank = np.nonzero(np.take_along_axis(like, nearest, axis=1) >= _LIKE)
        near = np.stack([rows[first], nearest[first, rank]], axis=1)
        return np.concatenate([same, near])

    def registered(self, pairs: np.ndarray) -> np.ndarray:
        """Return the correlation of each pair after the best shift, mirrored or not, inverted or not."""
        used, place_of = np.unique(pairs, return_inverse=True)
        first, second = place_of.reshape(pairs.shape).T
        values = self._thumbnails[used].astype(np.float32)
        plain, mirrored = _spectra(values)
        scores = np.zeros(len(pairs), dtype=np.float32)
        for spectra, is_mirrored in ((plain, False), (mirrored, True)):
            around = _correlations(spectra[first], plain[second])
            best = around.reshape(len(pairs), -1).max(axis=1)
            worth = np.flatnonzero(best >= _WORTH_REFINING)
            if len(worth):
                ones = values[first[worth]]
                ones = ones[:, :, ::-1] if is_mirrored else ones
                best[worth] = np.maximum(best[worth], _refined(ones, values[second[worth]], around[worth]))
            scores = np.maximum(scores, best)
        return scores


def _blocks(thumbnails: np.ndarray) -> Iterator[np.ndarray]:
    """Yield a thousand at a time: whatever is made of all of them as floats takes 80 MiB for 20,000."""
    for start in range(0, len(thumbnails), _AT_ONCE):
        yield thumbnails[start : start + _AT_ONCE]


def _signs(block: np.ndarray) -> np.ndarray:
    """Return the signs of the low cosine coefficients but the first, ``(N, 255)``, 1 or -1."""
    from scipy import fft  # pyright: ignore[reportMissingTypeStubs]

    cosines: np.ndarray = cast(Any, fft).dctn(block.astype(np.float32), axes=(1, 2), norm="ortho")
    low = cosines[:, :_COSINES, :_COSINES].reshape(len(block), -1)[:, 1:]
    return np.where(low > 0, np.int8(1), np.int8(-1))


def _spectra(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the spectra of the fine structure of pictures, and of their mirror images."""
    fine = values - _blurred(values)
    centred = fine - fine.mean(axis=(1, 2), keepdims=True)
    window = np.sqrt(np.outer(_taper(), _taper())).astype(np.float32)
    plain, mirrored = (np.fft.rfft2(_unit(side * window)) for side in (centred, centred[:, :, ::-1]))
    return plain.astype(np.complex64), mirrored.astype(np.complex64)


def _taper() -> np.ndarray:
    return np.hanning(THUMB_PX + 2)[1:-1]


def _unit(values: np.ndarray) -> np.ndarray:
    """Each image with mean 0 and length 1."""
    centred = values - values.mean(axis=(1, 2), keepdims=True)
    return centred / np.maximum(np.sqrt((centred**2).sum(axis=(1, 2), keepdims=True)), 1e-6)


def _magnitudes(values: np.ndarray) -> np.ndarray:
    """Return ``(N, D)``: logarithms of the low Fourier magnitudes, mirrored columns added up, length 1."""
    waves = np.abs(np.fft.rfft2(values * np.outer(_taper(), _taper()).astype(np.float32)))
    low = waves[:, :_WAVES, :_WAVES].copy()
    low[:, 1:] += waves[:, :-_WAVES:-1, :_WAVES]
    logs = np.log1p(low.reshape(len(values), -1)[:, 1:])
    logs -= logs.mean(axis=1, keepdims=True)
    return (logs / np.maximum(np.linalg.norm(logs, axis=1, keepdims=True), 1e-6)).astype(np.float32)


def _correlations(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return |correlation| ``(P, 2R + 1, 2R + 1)`` at each shift of at most R pixels; none is the middle."""
    whole = np.fft.irfft2(first * np.conj(second), s=(THUMB_PX, THUMB_PX))
    wide = np.roll(whole, (_REACH, _REACH), axis=(1, 2))
    return np.abs(wide[:, : 2 * _REACH + 1, : 2 * _REACH + 1])


def _refined(first: np.ndarray, second: np.ndarray, around: np.ndarray) -> np.ndarray:
    """Return |correlation| ``(P,)`` of what pairs of images share at the best shift, to parts of a pixel.

    Once with all of its pixels, and once without those where a window was clipped: there nothing can be told.
    Pairs that share the same rows and columns are filtered together: a call each is ten times dearer.
    """
    down, right = _best_shifts(around)
    other = _moved(second, down, right)
    inside = _inside(first) * (_moved(_inside(second), down, right) > 1 - 1e-3)
    by_part: dict[tuple[int, int, int, int], list[int]] = defaultdict(list)
    for place, shift in enumerate(zip(down.tolist(), right.tolist(), strict=True)):
        by_part[*_common(shift[0]), *_common(shift[1])].append(place)
    scores = np.zeros(len(first), dtype=np.float32)
    for (top, bottom, left, end), places in by_part.items():
        part = np.s_[places, top:bottom, left:end]
        ones, others, clear = first[part], other[part], inside[part]
        scores[places] = _correlation(ones, others, np.ones_like(ones[:1]))
        enough = np.flatnonzero(clear.mean(axis=(1, 2)) >= _ENOUGH)
        if len(enough):
            told = _correlation(ones[enough], others[enough], clear[enough])
            scores[np.asarray(places)[enough]] = np.maximum(scores[places][enough], told)
    return scores


def _best_shifts(around: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows and the columns ``(P,)``, to parts of a pixel, at which two images correlate most."""
    pairs, side = np.arange(len(around)), around.shape[2]
    row, column = np.divmod(around.reshape(len(around), -1).argmax(axis=1), side)
    down = row - _REACH + _vertices(around[pairs, :, column], row)
    return down, column - _REACH + _vertices(around[pairs, row], column)


def _correlation(first: np.ndarray, second: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return |correlation| ``(P,)`` of the fine structure of images ``(P, H, W)``.

    ``weights`` are ``(P, H, W)`` or ``(1, H, W)``: where they are 0, nothing counts.
    """
    ground = np.maximum(_blurred(weights), 1e-3)
    a, b = (_fine(values, weights, ground) for values in (first, second))
    return abs(_total(a * b)) / np.maximum(np.sqrt(_total(a * a) * _total(b * b)), 1e-6)


def _total(values: np.ndarray) -> np.ndarray:
    return values.reshape(len(values), -1).sum(axis=1)


def _inside(values: np.ndarray) -> np.ndarray:
    """Return 1 where a picture is well between its darkest and its brightest value, else 0."""
    low, high = (end(values, axis=(1, 2), keepdims=True) for end in (np.min, np.max))
    return ((values > low + _END) & (values < high - _END)).astype(np.float32)


def _fine(values: np.ndarray, weights: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """Return what differs from the ground around it, with mean 0."""
    fine = weights * (values - _blurred(values * weights) / ground)
    means = _total(fine) / _total(weights)
    return weights * (fine - means[:, None, None])


def _blurred(images: np.ndarray) -> np.ndarray:
    from scipy import ndimage  # pyright: ignore[reportMissingTypeStubs]

    return cast(Any, ndimage).gaussian_filter(images, (0, _SIGMA, _SIGMA), mode="nearest")


def _vertices(lines: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return how far the vertex of a parabola through three neighbours lies from the middle one, ``(P,)``."""
    rows, middle = np.arange(len(lines)), np.clip(places, 1, lines.shape[1] - 2)
    before, here, after = (lines[rows, middle + step].astype(np.float64) for step in (-1, 0, 1))
    bend = before - 2 * here + after
    told = (middle == places) & (bend != 0)
    return np.where(told, np.clip((before - after) / np.where(told, 2 * bend, 1), -0.5, 0.5), 0.0)


def _moved(values: np.ndarray, down: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return images moved by parts of pixels, linearly interpolated, wrapped around at the edges."""
    for axis, way in ((1, down), (2, right)):
        whole = np.floor(way).astype(np.int64)
        part = np.expand_dims(way - whole, (1, 2))
        from_where = (np.arange(THUMB_PX) - whole[:, None]) % THUMB_PX
        near, far = (
            np.take_along_axis(values, np.expand_dims(place % THUMB_PX, 3 - axis), axis=axis)
            for place in (from_where, from_where - 1)
        )
        values = (1 - part).astype(np.float32) * near + part.astype(np.float32) * far
    return values


def _common(way: float) -> tuple[int, int]:
    """From which to which row or column both images are there after a move, without the outermost."""
    margin = int(np.ceil(abs(way))) + 1
    return margin if way > 0 else 1, THUMB_PX - (margin if way < 0 else 1)


def can_be_told(thumbnails: np.ndarray, owners: Sequence[str], sides: Sequence[int] | None = None) -> bool:
    """Say whether near-duplicates can be told in this kind of image.

    Drawings and digits are so alike that strangers pass for copies: of some 600 images, each compared with
    all, at most 5% (or four) may be joined to an image of another owner.
    """
    every = max(1, -(-len(thumbnails) // 600))
    pairs = [p[:2] for p in near_duplicates(thumbnails, sides, every) if p.score >= DUPLICATE]
    joined = {
        row for pair in pairs for row in pair if owners[pair[0]] != owners[pair[1]] and row % every == 0
    }
    return len(joined) <= max(4, 0.05 * len(thumbnails) / every)


def told_apart(
    thumbnails: np.ndarray, owners: Sequence[str], sides: Sequence[int] | None = None
) -> list[Pair] | None:
    """Return the `near_duplicates` `without_chains`; None where they cannot be told (`can_be_told`)."""
    if not can_be_told(thumbnails, owners, sides):
        return None
    return without_chains(near_duplicates(thumbnails, sides), len(thumbnails))


def without_chains(pairs: Sequence[Pair], count: int) -> list[Pair]:
    """Return all pairs of ``count`` pictures; in a chain those that are not sure are for people to look at.

    Their likeness is set just below `DUPLICATE`. Trousers of 28 px are each like the next: joined, 444 of
    16,000 pictures of clothes stood in one part, and train and holdout were no longer alike.
    """
    from scipy import sparse  # pyright: ignore[reportMissingTypeStubs]

    joined = np.array([pair[:2] for pair in pairs if pair.score >= DUPLICATE], dtype=np.int64).reshape(-1, 2)
    links = sparse.coo_array((np.ones(len(joined)), joined.T), shape=(count, count))
    group = sparse.csgraph.connected_components(links, directed=False)[1]
    sizes, alike = np.bincount(group, minlength=count), np.bincount(group[joined[:, 0]], minlength=count)
    is_chain = (sizes > _CHAIN) & (alike < _DENSE * sizes * (sizes - 1) / 2)
    return [
        pair._replace(score=min(pair.score, _CHAINED))
        if is_chain[group[pair.first]] and not pair.is_sure
        else pair
        for pair in pairs
    ]
