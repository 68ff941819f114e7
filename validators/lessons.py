"""What classifiers learn from S, from T or from both, told on H: the runs that utility is read from."""

from collections.abc import Callable
from typing import Literal

import numpy as np

from phantomset.validators.classifier import train_classifier
from phantomset.validators.finding import Evidence

Side = Literal["synthetic", "train", "both"]
"""What is learned from: synthetic images alone, real ones alone, as many of each together."""

SEEDS = 3


def teach(
    evidence: Evidence,
    side: Side,
    rng: Callable[..., np.random.Generator],
    seed_of: Callable[..., int],
) -> np.ndarray:
    """Return class probabilities on H, ``(seeds, N, K)`` float64, of classifiers trained on one side.

    Every side has the same network, the same number of steps and, of S and of T each, equally many images:
    as many as the smaller has. So "both" sees each image half as often, and any gain is the set's.

    Args:
        evidence: with at least two classes in T and in S.
        side: what is learned from.
        rng, seed_of: of a named step of the judgement.
    """
    size = min(len(evidence.synthetic), len(evidence.train))
    images: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    for name in ("train", "synthetic") if side == "both" else (side,):
        part = getattr(evidence, name)
        rows = rng("utility", name).choice(len(part), size, replace=False)
        images.append(part.images[rows])
        labels.append(part.labels[rows])
    x, y = np.concatenate(images), np.concatenate(labels)
    classes = len(evidence.train.label_names)
    return np.stack(
        [
            train_classifier(x, y, classes, seed_of("utility", side, seed)).probabilities(
                evidence.holdout.images
            )
            for seed in range(SEEDS)
        ]
    )


def absent_classes(evidence: Evidence) -> list[str]:
    """Return the names of the classes that T has and S has not."""
    absent = np.setdiff1d(np.unique(evidence.train.labels), np.unique(evidence.synthetic.labels))
    return [evidence.train.label_names[label] for label in absent]


def has_two_classes(evidence: Evidence) -> bool:
    """Say whether T and H have two classes each: with fewer there is nothing to learn, or nothing to ask."""
    return all(len(np.unique(part.labels)) > 1 for part in (evidence.train, evidence.holdout))
