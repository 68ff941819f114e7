"""Feature spaces for fidelity: fitted on R, and believed only after they have seen what they should."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from phantomset.data.digest import digest_of
from phantomset.data.records import ImageSet
from phantomset.validators.classifier import CHANNELS, Classifier, train_classifier
from phantomset.validators.pictures import LARGEST_PX
from phantomset.validators.qualification import Exam, Features, qualify
from phantomset.validators.wavelets import wavelet_features
from phantomset.validators.weights import Weights, load

OUTPUT_WEIGHT = 2.0
COMPONENTS = 48


@dataclass(frozen=True, slots=True)
class Extractor:
    """A feature space and its standing.

    Attributes:
        name: "classifier", "texture", or that of weights which were brought.
        features: uint8 images ``(N, C, H, W)`` to ``(N, D)`` float64, in units of R's deviations.
        digest: of the weights and of everything else that was fitted; what the exam is about.
        exam: what it saw of the holdout.
    """

    name: str
    features: Features
    digest: str
    exam: Exam

    @property
    def qualified(self) -> bool:
        """Whether its figures may decide."""
        return not self.exam.missed

    @property
    def shortcoming(self) -> str:
        """What it missed, in a sentence; empty when it qualifies."""
        return f"The {self.name} extractor did not see: {', '.join(self.exam.missed)}." * (not self.qualified)


@dataclass(frozen=True, slots=True)
class Fitted:
    """A feature space and what its figures depend on: names, digests and arrays."""

    features: Features
    identity: tuple[Any, ...]

    def examined(self, name: str, holdout: ImageSet, rng: np.random.Generator, classes: bool) -> Extractor:
        """Return the extractor of that name, qualified on H."""
        exam = qualify(self.features, holdout, rng, classes)
        return Extractor(name, self.features, digest_of("extractor", name, *self.identity), exam)


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
    found = {"texture": texture(reference.images).examined("texture", holdout, rng, classes=False)}
    judge = None
    if len(np.unique(reference.labels)) >= 2:
        judge = train_classifier(reference.images, reference.labels, len(reference.label_names), seed)
        learned = _learned(judge, reference)
        found = {"classifier": learned.examined("classifier", holdout, rng, classes=True), **found}
    for each in brought:
        space = _components(load(each), reference.images, each.identity)
        found[each.name] = space.examined(each.name, holdout, rng, classes=False)
    return found, judge


def texture(reference: np.ndarray) -> Fitted:
    """Return the wavelet bank, in units of the deviations of R's images: the space that costs no training."""
    return _standardised(lambda images: wavelet_features(_grey_scale(images)), reference)


def _learned(judge: Classifier, reference: ImageSet) -> Fitted:
    """Return what the classifier's last convolution sees and what it tells, standardised."""
    # Few outputs among many features: at single weight the loss of a class would drown.
    weights = np.repeat([1.0, OUTPUT_WEIGHT], [CHANNELS[-1], len(reference.label_names)])
    state = {name: value.numpy() for name, value in judge.network.state_dict().items()}
    fitted = _standardised(judge.activations, reference.images, weights)
    return Fitted(fitted.features, (*fitted.identity, *state.values()))


def _components(features: Features, images: np.ndarray, identity: tuple[Any, ...]) -> Fitted:
    """Return the features' first components in R, at most 48, each in units of R's deviation.

    A network has more features than there are holdout images, and distances between Gaussians need five rows
    for each. Components under 5% of the first one's deviation are not blown up.
    """
    fitted = features(images)
    mean = fitted.mean(0)
    _, spread, directions = np.linalg.svd(fitted - mean, full_matrices=False)
    deviation = spread[:COMPONENTS] / len(images) ** 0.5
    projection = directions[:COMPONENTS].T / np.maximum(deviation, max(0.05 * deviation[0], 1e-6))
    return Fitted(lambda other: (features(other) - mean) @ projection, (*identity, mean, projection))


def _grey_scale(images: np.ndarray) -> torch.Tensor:
    """Return images in [0, 1], averaged down to at most 64 px a side."""
    x = torch.from_numpy(np.ascontiguousarray(images)).float() / 255
    shrink = max(x.shape[2:]) / (2 * LARGEST_PX)
    if shrink <= 1:
        return x
    size = tuple(max(12, round(side / shrink)) for side in x.shape[2:])
    return nn.functional.interpolate(x, size=size, mode="area")


def _standardised(features: Features, images: np.ndarray, weights: np.ndarray | float = 1.0) -> Fitted:
    fitted = features(images)
    mean, deviation = fitted.mean(0), np.maximum(fitted.std(0), 1e-6)
    return Fitted(lambda other: (features(other) - mean) / deviation * weights, (mean, deviation, weights))
