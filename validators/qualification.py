"""What a feature space must have seen before its figures may decide."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import ndimage

from phantomset.data.records import ImageSet
from phantomset.validators.ladder import to_uint8
from phantomset.validators.measures.frechet import frechet
from phantomset.validators.measures.kernel import mmd_unbiased, polynomial_kernel

NULL_DRAWS = 20
SEEN, SEEN_EARLY = 2.0, 1.0
"""The strongest step of every rung must lie at more than so many times the greatest real-real distance, and
the middle step of four."""

EARLY_RUNGS = 4
STEADY = 10.0
"""The greatest of the real-real distances over their median: above, chance decides what is far."""

ALTERED_IMAGES, FIRST_IMAGES, KERNEL_IMAGES = 400, 900, 500
LEAST_IMAGES = 10
EXACT = 1e-5
COLLAPSED = 1e-6

BLURS_PX, NOISES, CONTRASTS, BOARDS = (0.3, 0.6, 1.0), (5, 10, 20), (0.97, 0.9, 0.8), (1, 3, 8)
DISTINCT, DISTINCT_DRAWS = (200, 50, 15), 20
"""Different images among 400, of fewer in proportion; on average over so many choices of them."""

KEPT = (0.5, 0.25, 0.0)
"""Shares of the rarest class that are left."""

Features = Callable[[np.ndarray], np.ndarray]
Distance = Callable[[np.ndarray], float]
Steps = Sequence[Sequence[np.ndarray]]
"""Feature sets of a rung's steps, mildest first; a step that depends on a choice has several."""


@dataclass(frozen=True, slots=True)
class Exam:
    """What a feature space saw.

    Attributes:
        missed: what it should have seen and did not; empty when it qualifies.
        frechet, kernel: by rung, the distances of the mildest, the middle and the strongest step, each over
            the greatest of 20 real-real ones. Kernel distances can be negative.
        null, kernel_null: those greatest real-real distances.
        unsteadiness: the greatest real-real Fréchet distance over the median one.
    """

    missed: tuple[str, ...] = ()
    frechet: dict[str, tuple[float, ...]] | None = None
    kernel: dict[str, tuple[float, ...]] | None = None
    null: float = 0.0
    kernel_null: float = 0.0
    unsteadiness: float = 0.0


def blurred(images: np.ndarray, width: float) -> np.ndarray:
    """Return images blurred by some pixels at 28 px."""
    width = width * min(images.shape[2:]) / 28
    return to_uint8(ndimage.gaussian_filter(images.astype(np.float64), (0, 0, width, width)))


def flattened(images: np.ndarray, factor: float) -> np.ndarray:
    """Return images with a part of their contrast."""
    x = images.astype(np.float64)
    mean = x.mean((1, 2, 3), keepdims=True)
    return to_uint8(mean + factor * (x - mean))


def chequered(images: np.ndarray, level: float) -> np.ndarray:
    """Return images with a chequerboard of some grey levels, the trace of a careless upsampling."""
    board = np.indices(images.shape[2:]).sum(0) % 2
    return to_uint8(images + level * (2.0 * board - 1.0))


def qualify(features: Features, holdout: ImageSet, rng: np.random.Generator, sees_classes: bool) -> Exam:
    """Return what a feature space that was fitted on R sees on H.

    One part of H, at most 400 images, is altered in five ways and three steps each, and for a space that must
    see classes in a sixth: the rarest class grows rarer. The distance to the rest of H, at most 900 images,
    is compared with 20 distances between random parts of the same sizes, the unaltered part's own among
    them. Asked is that

    - each step is farther than the one before, by both distances, but for steps within the real-real ones,
      whose order is chance;
    - the strongest step of every rung lies at more than twice the greatest real-real Fréchet distance, and
      the middle one of at least four rungs above it;
    - the real-real distances do not swing; different images lie at different places; and the same
      images get the same figures twice.

    Args:
        features: uint8 images ``(N, C, H, W)`` to ``(N, D)``.
        holdout: H.
        rng: chooses images, choices and noise.
        sees_classes: whether the loss of a class must be seen as well.
    """
    chosen = rng.permutation(len(holdout))[: ALTERED_IMAGES + FIRST_IMAGES]
    few = min(ALTERED_IMAGES, len(chosen) // 2)
    if few < LEAST_IMAGES:
        return Exam(missed=("enough holdout images to be qualified",))
    images, labels = holdout.images[chosen], holdout.labels[chosen]
    real = features(images)
    if not np.isfinite(real).all():
        return Exam(missed=("real images as finite numbers",))
    rungs = _altered(features, images[:few], rng) | {"few distinct images": _fewer(real[:few], rng)}
    if sees_classes:
        rungs["class left out"] = _rarer(real[:few], labels[:few])
    # The part that is altered, unaltered, is a draw as well: how odd it is by chance is no fault.
    draws = [np.arange(len(real)), *(rng.permutation(len(real)) for _ in range(NULL_DRAWS - 1))]
    null = [frechet(real[order[few:]], real[order[:few]]) for order in draws]
    kernel_null = _kernel_null(real, few, draws)
    by_frechet = _seen(rungs, lambda other: frechet(real[few:], other), max(null))
    by_kernel = _seen(rungs, _kernel_distance(real[few:]), kernel_null)
    missed = _missed(by_frechet, by_kernel)
    unsteadiness = max(null) / max(float(np.median(null)), 1e-12)
    if not unsteadiness <= STEADY:
        missed.append("real images alike whichever are drawn")
    if _collapses(real, images):
        missed.append("different images at different places")
    if not np.allclose(features(images[:8]), real[:8], rtol=EXACT, atol=EXACT):
        missed.append("the same figures twice")
    return Exam(tuple(missed), by_frechet, by_kernel, max(null), kernel_null, unsteadiness)


def _altered(features: Features, images: np.ndarray, rng: np.random.Generator) -> dict[str, Steps]:
    """Return the features of images in which every pixel was touched."""
    grain = rng.standard_normal(images.shape)
    return {
        "blur": [[features(blurred(images, width))] for width in BLURS_PX],
        "noise": [[features(to_uint8(images + level * grain))] for level in NOISES],
        "contrast": [[features(flattened(images, factor))] for factor in CONTRASTS],
        "chequerboard": [[features(chequered(images, level))] for level in BOARDS],
    }


def _fewer(real: np.ndarray, rng: np.random.Generator) -> Steps:
    """Return as many features, of few different images."""
    orders = [rng.permutation(len(real)) for _ in range(DISTINCT_DRAWS)]
    counts = [max(2, round(count * len(real) / ALTERED_IMAGES)) for count in DISTINCT]
    return [[real[order[np.arange(len(real)) % count]] for order in orders] for count in counts]


def _rarer(real: np.ndarray, labels: np.ndarray) -> Steps:
    """Return the features without more and more of the rarest class; none where there is one class."""
    found, counts = np.unique(labels, return_counts=True)
    if len(found) < 2:
        return []
    own = np.flatnonzero(labels == found[counts.argmin()])
    return [[np.delete(real, own[round(share * len(own)) :], axis=0)] for share in KEPT]


def _seen(rungs: dict[str, Steps], distance: Distance, null: float) -> dict[str, tuple[float, ...]]:
    """Return, by rung, the distance of each step over the greatest real-real one."""
    return {
        rung: tuple(float(np.mean([distance(part) for part in parts])) / max(null, 1e-12) for parts in steps)
        for rung, steps in rungs.items()
    }


def _kernel_distance(first: np.ndarray) -> Distance:
    """Return the kernel distance to some features, whose own kernel is computed once."""
    first = first[:KERNEL_IMAGES]
    own = polynomial_kernel(first, first)

    def distance(other: np.ndarray) -> float:
        other = other[:KERNEL_IMAGES]
        return mmd_unbiased(own, polynomial_kernel(other, other), polynomial_kernel(first, other))

    return distance


def _kernel_null(real: np.ndarray, few: int, draws: Sequence[np.ndarray]) -> float:
    """Return the greatest kernel distance between random parts: of one kernel of all, rows are drawn."""
    everything = polynomial_kernel(real, real)
    found = []
    for order in draws:
        first, second = order[few:][:KERNEL_IMAGES], order[:few][:KERNEL_IMAGES]
        parts = (everything[np.ix_(a, b)] for a, b in ((first, first), (second, second), (first, second)))
        found.append(mmd_unbiased(*parts))
    return max(found)


def _missed(by_frechet: dict[str, tuple[float, ...]], by_kernel: dict[str, tuple[float, ...]]) -> list[str]:
    """Return the rungs on which a distance did not do what it must."""
    missed = []
    for rung, ratios in by_frechet.items():
        if not ratios or not ratios[-1] > SEEN:
            missed.append(rung)
        elif not (_in_order(ratios) and _in_order(by_kernel[rung])):
            missed.append(f"{rung} step by step")
    if sum(len(ratios) > 1 and ratios[1] > SEEN_EARLY for ratios in by_frechet.values()) < EARLY_RUNGS:
        missed.append(f"the middle step of {EARLY_RUNGS} rungs")
    return missed


def _in_order(ratios: Sequence[float]) -> bool:
    """Whether each step is farther than the one before, or both lie within the real-real distances."""
    return all(later > earlier or max(earlier, later) < 1 for earlier, later in pairwise(ratios))


def _collapses(real: np.ndarray, images: np.ndarray) -> bool:
    """Whether two images of different pixels have the same features, to a millionth of R's deviation."""
    _, place = np.unique(np.round(real / COLLAPSED), axis=0, return_inverse=True)
    first: dict[int, int] = {}
    return any(
        not np.array_equal(images[row], images[first.setdefault(int(at), row)])
        for row, at in enumerate(place.reshape(-1))
    )
