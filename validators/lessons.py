"""What classifiers learn from S, from T or from both, told on H: the runs that utility is read from."""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from phantomset.validators.classifier import train_classifier
from phantomset.validators.crew import side_by_side
from phantomset.validators.finding import Evidence

Side = Literal["synthetic", "train", "both"]
"""What is learned from: synthetic images alone, real ones alone, as many of each together."""

SEEDS = 3


def teach(
    evidence: Evidence,
    sides: Sequence[Side],
    rng: Callable[..., np.random.Generator],
    seed_of: Callable[..., int],
) -> dict[Side, np.ndarray]:
    """Return class probabilities on H, ``(seeds, N, K)`` float64, of classifiers trained on each side.

    Every side has the same network, the same number of steps and, of S and of T each, equally many images:
    as many as the smaller has. So "both" sees each image half as often, and any gain is the set's.

    Args:
        evidence: with at least two classes in T and in S.
        sides: what is learned from.
        rng, seed_of: of a named step of the judgement.
    """
    material = {side: _material(evidence, side, rng) for side in sides}
    classes = len(evidence.train.label_names)

    def learned(lesson: tuple[Side, int]) -> np.ndarray:
        side, seed = lesson
        judge = train_classifier(*material[side], classes, seed_of("utility", side, seed))
        return judge.probabilities(evidence.holdout.images)

    found = list(side_by_side(learned, [(side, seed) for side in sides for seed in range(SEEDS)]))
    return {side: np.stack(found[i * SEEDS : (i + 1) * SEEDS]) for i, side in enumerate(sides)}


def _material(
    evidence: Evidence, side: Side, rng: Callable[..., np.random.Generator]
) -> tuple[np.ndarray, np.ndarray]:
    """Return images ``(N, C, H, W)`` and labels ``(N,)`` of a side."""
    size = min(len(evidence.synthetic), len(evidence.train))
    images: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    for name in ("train", "synthetic") if side == "both" else (side,):
        part = getattr(evidence, name)
        rows = rng("utility", name).choice(len(part), size, replace=False)
        images.append(part.images[rows])
        labels.append(part.labels[rows])
    return np.concatenate(images), np.concatenate(labels)


def absent_classes(evidence: Evidence) -> list[str]:
    """Return the names of the classes that T has and S has not."""
    absent = np.setdiff1d(np.unique(evidence.train.labels), np.unique(evidence.synthetic.labels))
    return [evidence.train.label_names[label] for label in absent]


def has_two_classes(evidence: Evidence) -> bool:
    """Say whether T and H have two classes each: with fewer there is nothing to learn, or nothing to ask."""
    return all(len(np.unique(part.labels)) > 1 for part in (evidence.train, evidence.holdout))
