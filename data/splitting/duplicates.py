"""Near-duplicates: one picture after a change of grey values, size or noise, a shift, a mirror.

Each image is a thumbnail. Two descriptors find candidates: the signs of 255 low cosine coefficients (a
perceptual hash), and the magnitudes of low Fourier coefficients, which neither a shift nor a mirror nor an
inversion changes. Candidates are then registered: the correlation of their fine structure at the best shift.
Sources: Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010; Lewis, "Fast
normalized cross-correlation", 1995.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from PIL import Image

THUMB_PX = 32

DUPLICATE = 0.95
"""From this registered correlation on, two images are one picture. Strangers' chest films stay below 0.90."""

REVIEW = 0.90
"""From here to `DUPLICATE` a pair is listed for a person to look at, and joined to nothing."""

SAME_SIGNS = 151
"""Equal minus unequal bits of 255; strangers' chest films reach 143."""

SAME_BOTH = 0.85
"""Where the bits agree as well, this correlation suffices: noise lowers the one and not the other."""

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

_BLOCK = 4_000_000


class Pair(NamedTuple):
    """Two images, by position, and how alike they are: 0 to 1, 1 is the same picture.

    ``is_sure``: the bits agree, and the correlation alone reaches `DUPLICATE`. One of the two can deceive:
    small chest films of strangers agree in their bits, a dark spot on plain skin correlates with any other.
    """

    first: int
    second: int
    score: float
    is_sure: bool


def thumbnail(image: np.ndarray) -> np.ndarray:
    """Return a ``(32, 32)`` uint8 thumbnail of an image ``(C, H, W)`` uint8."""
    grey = image[0] if len(image) == 1 else np.rint(image.mean(axis=0)).astype(np.uint8)
    small = Image.fromarray(np.ascontiguousarray(grey))
    shrinks = min(grey.shape) >= THUMB_PX
    kind = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
    return np.asarray(small.resize((THUMB_PX, THUMB_PX), kind))


def near_duplicates(thumbnails: np.ndarray) -> list[Pair]:
    """Return the pairs with a score of at least `REVIEW`, sorted; ``thumbnails`` is ``(N, 32, 32)`` uint8.

    Time grows with N squared (a matrix product of 255 columns), memory with N.
    """
    values = thumbnails.astype(np.float32)
    rough = np.flatnonzero(values.std(axis=(1, 2)) >= _FLAT)
    if len(rough) < 2:
        return []
    views = _Views(values[rough])
    found: dict[tuple[int, int], tuple[float, bool]] = {}
    step = max(1, _BLOCK // len(rough))
    parts = [views.candidates(slice(start, start + step)) for start in range(0, len(rough), step)]
    alike = {(int(i), int(j)) for same, _ in parts for i, j in same}
    pairs = np.unique(np.sort(np.concatenate([part for both in parts for part in both]), axis=1), axis=0)
    for start in range(0, len(pairs), 2048):
        part = pairs[start : start + 2048]
        for (i, j), score in zip(part.tolist(), views.registered(part).tolist(), strict=True):
            if (i, j) in alike and score >= SAME_BOTH:
                found[i, j] = max(score, DUPLICATE), score >= DUPLICATE
            elif score >= REVIEW:
                found[i, j] = score, False
    return sorted(Pair(int(rough[i]), int(rough[j]), *alike) for (i, j), alike in found.items())


class _Views:
    """What is computed once for each image. Half of memory is `spectra`: 4 KiB an image."""

    def __init__(self, values: np.ndarray) -> None:
        from scipy import fft, ndimage  # pyright: ignore[reportMissingTypeStubs]

        cosines: np.ndarray = cast(Any, fft).dctn(values, axes=(1, 2), norm="ortho")
        signs = np.where(cosines[:, :_COSINES, :_COSINES] > 0, np.float32(1), np.float32(-1))
        flat = signs.reshape(len(values), -1)[:, 1:]
        odd = (np.arange(_COSINES**2) % _COSINES % 2 == 1)[1:]
        # a mirror changes the sign of the odd columns, an inversion all signs
        self._even, self._odd = np.ascontiguousarray(flat[:, ~odd]), np.ascontiguousarray(flat[:, odd])
        self._magnitudes = _magnitudes(values)
        self._values = values
        fine: np.ndarray = values - cast(Any, ndimage).gaussian_filter(
            values, (0, _SIGMA, _SIGMA), mode="nearest"
        )
        window = np.sqrt(np.outer(_taper(), _taper())).astype(np.float32)
        centred = fine - fine.mean(axis=(1, 2), keepdims=True)
        self._spectra = np.fft.rfft2(_unit(centred * window)).astype(np.complex64)
        self._mirrored = np.fft.rfft2(_unit(centred[:, :, ::-1] * window)).astype(np.complex64)

    def candidates(self, rows: slice) -> tuple[np.ndarray, np.ndarray]:
        """Return the pairs of these rows whose bits agree, and those worth registering; each ``(P, 2)``."""
        agree = np.abs(self._even[rows] @ self._even.T)
        agree += np.abs(self._odd[rows] @ self._odd.T)
        like = self._magnitudes[rows] @ self._magnitudes.T
        start = int(rows.start)
        numbers = np.arange(start, start + len(like))
        agree[np.arange(len(numbers)), numbers] = 0
        like[np.arange(len(numbers)), numbers] = 0
        same = np.argwhere(agree >= SAME_SIGNS)
        same[:, 0] += start
        most = min(_NEAREST, like.shape[1] - 1)
        nearest = np.argpartition(-like, most - 1, axis=1)[:, :most]
        first, rank = np.nonzero(np.take_along_axis(like, nearest, axis=1) >= _LIKE)
        near = np.stack([numbers[first], nearest[first, rank]], axis=1)
        return same[same[:, 0] < same[:, 1]], near

    def registered(self, pairs: np.ndarray) -> np.ndarray:
        """Return the correlation of each pair after the best shift, mirrored or not, inverted or not."""
        first, second = pairs[:, 0], pairs[:, 1]
        scores = np.zeros(len(pairs), dtype=np.float32)
        for spectra, is_mirrored in ((self._spectra, False), (self._mirrored, True)):
            around = _correlations(spectra[first], self._spectra[second])
            best = around.reshape(len(pairs), -1).max(axis=1)
            for place in np.flatnonzero((best >= _WORTH_REFINING) & (best < DUPLICATE)):
                one, other = self._values[first[place]], self._values[second[place]]
                refined = _refined(one[:, ::-1] if is_mirrored else one, other, around[place])
                best[place] = max(best[place], refined)
            scores = np.maximum(scores, best)
        return scores


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


def _refined(first: np.ndarray, second: np.ndarray, around: np.ndarray) -> float:
    """Return |correlation| of the part that two images share at the best shift, to parts of a pixel."""
    row, column = np.unravel_index(int(around.argmax()), around.shape)
    down = float(row - _REACH + _vertex(around[:, column], int(row)))
    right = float(column - _REACH + _vertex(around[row], int(column)))
    shared = (_common(down), _common(right))
    a, b = _fine(first[shared]), _fine(_moved(second, down, right)[shared])
    return float(abs((a * b).sum()) / max(float(np.sqrt((a * a).sum() * (b * b).sum())), 1e-6))


def _fine(values: np.ndarray) -> np.ndarray:
    from scipy import ndimage  # pyright: ignore[reportMissingTypeStubs]

    fine: np.ndarray = values - cast(Any, ndimage).gaussian_filter(values, _SIGMA, mode="nearest")
    return fine - fine.mean()


def _vertex(line: np.ndarray, place: int) -> float:
    """Return how far the vertex of a parabola through three neighbours lies from the middle one."""
    if not 0 < place < len(line) - 1:
        return 0.0
    before, middle, after = (float(value) for value in line[place - 1 : place + 2])
    bend = before - 2 * middle + after
    return 0.0 if bend == 0 else float(np.clip((before - after) / (2 * bend), -0.5, 0.5))


def _moved(values: np.ndarray, down: float, right: float) -> np.ndarray:
    """Return an image moved by parts of pixels, linearly interpolated, wrapped around at the edges."""
    for axis, way in ((0, down), (1, right)):
        whole = int(np.floor(way))
        part = way - whole
        near = np.roll(values, whole, axis=axis)
        values = near if part == 0 else (1 - part) * near + part * np.roll(near, 1, axis=axis)
    return values


def _common(way: float) -> slice:
    """The rows or columns that both images have after a move, without the outermost."""
    margin = int(np.ceil(abs(way))) + 1
    return slice(margin if way > 0 else 1, THUMB_PX - (margin if way < 0 else 1))


def is_selective(thumbnails: np.ndarray, owners: Sequence[str]) -> bool:
    """Return whether near-duplicates can be told in this kind of image.

    Drawings and digits are so alike that strangers pass for copies. From every n-th image, some 600, it is
    reckoned how many of all images would be joined to an image of another owner: at most 5% may.
    """
    step = -(-len(thumbnails) // 600)
    part, names = thumbnails[::step], owners[::step]
    pairs = [pair for pair in near_duplicates(part) if pair.score >= DUPLICATE]
    strangers = sum(names[pair.first] != names[pair.second] for pair in pairs)
    return 2 * strangers * step <= max(4 * step, 0.05 * len(names))
