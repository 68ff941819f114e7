"""What is gained or lost when a classifier learns from other images: AUROC against AUROC, with interval."""

from dataclasses import dataclass

import numpy as np

from phantomset.validators.measures.classification import class_auc
from phantomset.validators.measures.rates import weighted_auc


@dataclass(frozen=True, slots=True)
class Gain:
    """One comparison of two ways to learn.

    Attributes:
        value: AUROC of the way that is judged, in [0, 1].
        baseline: AUROC of the way that it is compared with.
        low, high: 95% interval of ``value - baseline``; above 0 is a gain.
    """

    value: float
    baseline: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Draws:
    """Bootstrap samples that all comparisons share, so that they can be compared with one another.

    Attributes:
        weights: ``(B, N)`` how often each image is in each sample: by its patient.
        seeds: ``(B, S)`` which of the S trained classifiers stand in each sample.
    """

    weights: np.ndarray
    seeds: np.ndarray


def draw(patients: np.ndarray, seeds: int, samples: int, rng: np.random.Generator) -> Draws:
    """Return bootstrap samples over patients and over the seeds of the classifiers.

    With a few seeds the spread between them is told a little too small (by (S - 1) / S); with three it is
    two thirds.

    Args:
        patients: ``(N,)`` code of each image's patient.
        seeds: S, how many classifiers were trained.
        samples: B.
        rng: of this step.
    """
    _, owner = np.unique(patients, return_inverse=True)
    count = int(owner.max()) + 1
    drawn = rng.multinomial(count, np.full(count, 1 / count), samples)
    return Draws(drawn[:, owner].astype(np.float32), rng.integers(0, seeds, (samples, seeds)))


def gain(
    truth: np.ndarray,
    judged: np.ndarray,
    against: np.ndarray,
    draws: Draws,
    classes: tuple[int, ...],
) -> Gain | None:
    """Return how two ways to learn compare: one class against the rest, averaged over classes and seeds.

    Args:
        truth: ``(N,)`` labels of the images that both were asked about.
        judged, against: ``(S, N, K)`` probabilities of S classifiers each.
        draws: bootstrap samples of these N images.
        classes: which classes count; one that all N images have, or none, is left out.

    Returns:
        None where no class is left.
    """
    asked = [label for label in classes if 0 < (truth == label).sum() < len(truth)]
    if not asked:
        return None
    value, baseline = (
        float(np.mean([class_auc(truth, run)[asked] for run in runs])) for runs in (judged, against)
    )
    differences = [
        _areas(truth == label, judged[..., label], draws) - _areas(truth == label, against[..., label], draws)
        for label in asked
    ]
    low, high = np.nanquantile(np.mean(differences, axis=0), [0.025, 0.975])
    return Gain(value, baseline, float(low), float(high))


def _areas(own: np.ndarray, scores: np.ndarray, draws: Draws) -> np.ndarray:
    """Return the AUROC of each bootstrap sample, ``(B,)``: the mean over the classifiers that it drew."""
    weights = draws.weights
    each = np.stack([weighted_auc(s[own], s[~own], weights[:, own], weights[:, ~own]) for s in scores])
    return each[draws.seeds, np.arange(len(weights))[:, None]].mean(1)
