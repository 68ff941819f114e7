"""Feature spaces for fidelity: fitted on R, and believed only after they have seen what they should."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import nn

from phantomset.data.records import ImageSet
from phantomset.validators.classifier import Classifier, train_classifier
from phantomset.validators.features import LARGEST_PX
from phantomset.validators.ladder import to_uint8
from phantomset.validators.measures.frechet import frechet
from phantomset.validators.measures.kernel import kid
from phantomset.validators.wavelets import wavelet_features
from phantomset.validators.weights import Weights, load

NULL_DRAWS = 20
SEEN = 2.0
"""The strongest step must lie at that many times the greatest real-real distance."""

OUTPUT_WEIGHT = 2.0
MOST_IMAGES, KERNEL_IMAGES = 2000, 500
COMPONENTS = 48
DISTINCT = 15

Features = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True)
class Extractor:
    """A feature space and its standing.

    Attributes:
        name: "classifier", "texture", or that of weights which were brought.
        features: uint8 images ``(N, C, H, W)`` to ``(N, D)`` float64, in units of R's deviations.
        missed: what it should have seen and did not; empty when it qualifies.
        null: greatest Fréchet distance between random halves of H.
        seen: distance over the greatest real-real one, by step of the ladder: Fréchet or kernel distance,
            whichever sees more.
    """

    name: str
    features: Features
    missed: tuple[str, ...] = ()
    null: float = 0.0
    seen: dict[str, float] | None = None

    @property
    def qualified(self) -> bool:
        """Whether its figures may decide."""
        return not self.missed


def fit_extractors(
    reference: ImageSet,
    holdout: ImageSet,
    seed: int,
    rng: np.random.Generator,
    brought: Sequence[Weights] = (),
) -> tuple[dict[str, Extractor], Classifier | None]:
    """Return the extractors, fitted on R and qualified on H, and the classifier of R.

    ``classifier``: last convolution and class outputs of a network trained on R's labels, 48 + K features;
    sees classes, modes and artefacts. ``texture``: a wavelet bank that learned nothing, 48 features (54 for
    RGB); sees what a network overlooks, and is not asked about classes. With one class there is no
    classifier. Then those whose weights were brought, by their names: 48 components of what they see in R;
    they are not asked about classes either.

    Raises:
        RecipeError: a file of weights is missing, or is not the one that was named.
    """
    texture = _standardised(lambda images: wavelet_features(_grey_scale(images)), reference.images)
    found = {"texture": _qualify("texture", texture, holdout, rng, sees_classes=False)}
    if len(np.unique(reference.labels)) < 2:
        return found | _brought(brought, reference, holdout, rng), None
    classes = len(reference.label_names)
    judge = train_classifier(reference.images, reference.labels, classes, seed)
    seen, told = (_standardised(part, reference.images) for part in (judge.features, judge.outputs))

    def learned(images: np.ndarray) -> np.ndarray:
        # Few outputs among many features: at single weight the loss of a class would drown.
        return np.concatenate([seen(images), OUTPUT_WEIGHT * told(images)], axis=1)

    found = {"classifier": _qualify("classifier", learned, holdout, rng, sees_classes=True), **found}
    return found | _brought(brought, reference, holdout, rng), judge


def _brought(
    brought: Sequence[Weights], reference: ImageSet, holdout: ImageSet, rng: np.random.Generator
) -> dict[str, Extractor]:
    """Return the extractors whose weights were brought, qualified as the others are."""
    return {
        each.name: _qualify(
            each.name, _components(load(each), reference.images), holdout, rng, sees_classes=False
        )
        for each in brought
    }


def _components(features: Features, images: np.ndarray) -> Features:
    """Return the features' first components in R, at most 48, each in units of R's deviation.

    A network has more features than there are holdout images, and distances between Gaussians need five rows
    for each. Components under 5% of the first one's deviation are not blown up.
    """
    fitted = features(images)
    mean = fitted.mean(0)
    _, spread, directions = np.linalg.svd(fitted - mean, full_matrices=False)
    deviation = spread[:COMPONENTS] / len(images) ** 0.5
    scale = np.maximum(deviation, max(0.05 * deviation[0], 1e-6))
    return lambda other: (features(other) - mean) @ directions[:COMPONENTS].T / scale


def _grey_scale(images: np.ndarray) -> torch.Tensor:
    """Return images in [0, 1], averaged down to at most 64 px a side."""
    x = torch.from_numpy(np.ascontiguousarray(images)).float() / 255
    shrink = max(x.shape[2:]) / (2 * LARGEST_PX)
    if shrink <= 1:
        return x
    size = tuple(max(12, round(side / shrink)) for side in x.shape[2:])
    return nn.functional.interpolate(x, size=size, mode="area")


def _standardised(features: Features, images: np.ndarray) -> Features:
    fitted = features(images)
    mean, deviation = fitted.mean(0), np.maximum(fitted.std(0), 1e-6)
    return lambda other: (features(other) - mean) / deviation


# Qualification --------------------------------------------------------------------------------------


def blurred(images: np.ndarray) -> np.ndarray:
    """Return images blurred by 1 px at 28 px."""
    width = min(images.shape[2:]) / 28
    return to_uint8(ndimage.gaussian_filter(images.astype(np.float64), (0, 0, width, width)))


def flattened(images: np.ndarray) -> np.ndarray:
    """Return images with 0.8 of their contrast."""
    x = images.astype(np.float64)
    mean = x.mean((1, 2, 3), keepdims=True)
    return to_uint8(mean + 0.8 * (x - mean))


def chequered(images: np.ndarray) -> np.ndarray:
    """Return images with a chequerboard of 8 grey levels, the trace of a careless upsampling."""
    board = np.indices(images.shape[2:]).sum(0) % 2
    return to_uint8(images + 8.0 * (2 * board - 1))


def noisy(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return images with noise of 20 grey levels."""
    return to_uint8(images + 20 * rng.standard_normal(images.shape))


def _qualify(
    name: str, features: Features, holdout: ImageSet, rng: np.random.Generator, sees_classes: bool
) -> Extractor:
    """Return the extractor with what it saw: the strongest step of each rung, against real-real halves."""
    chosen = rng.permutation(len(holdout))[:MOST_IMAGES]
    images, labels = holdout.images[chosen], holdout.labels[chosen]
    real = features(images)
    half = len(real) // 2
    if half < 2 * 5:
        return Extractor(name, features, missed=("enough holdout images to be qualified",))
    halves = [(real[o[:half]], real[o[half:]]) for o in _orders(len(real), rng)]
    null, kernel_null = (max(distance(a, b) for a, b in halves) for distance in (frechet, _kernel_distance))
    first, second = real[:half], real[half:]
    steps = {
        "blur": features(blurred(images[half:])),
        "noise": features(noisy(images[half:], rng)),
        "contrast": features(flattened(images[half:])),
        "chequerboard": features(chequered(images[half:])),
        "few distinct images": second[np.arange(len(second)) % DISTINCT],
    }
    rarest = int(np.bincount(labels, minlength=len(holdout.label_names)).argmin())
    kept = second[labels[half:] != rarest]
    if sees_classes and 2 <= len(kept) < len(second):
        steps["class left out"] = kept
    seen = {
        step: max(
            frechet(first, altered) / max(null, 1e-12),
            _kernel_distance(first, altered) / max(kernel_null, 1e-12),
        )
        for step, altered in steps.items()
    }
    missed = [step for step, ratio in seen.items() if not ratio > SEEN]
    if not np.allclose(features(images[:8]), real[:8], atol=1e-5):
        missed.append("the same figures twice")
    return Extractor(name, features, tuple(missed), null, seen)


def _kernel_distance(a: np.ndarray, b: np.ndarray) -> float:
    return kid(a[:KERNEL_IMAGES], b[:KERNEL_IMAGES])


def _orders(count: int, rng: np.random.Generator) -> list[np.ndarray]:
    return [rng.permutation(count) for _ in range(NULL_DRAWS)]
