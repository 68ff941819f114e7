"""Can a classifier tell the synthetic images from real patients' images?"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from phantomset.data.records import ImageSet
from phantomset.validators.classifier import train_classifier
from phantomset.validators.context import Context
from phantomset.validators.finding import Check, Finding
from phantomset.validators.lessons import SEEDS
from phantomset.validators.measures.rates import auc, weighted_auc

DRAWS = 500
LEAST = 50
"""Synthetic images, and patients, on each side of the question."""


def _run(context: Context) -> Sequence[Finding]:
    asked = Finding(
        check="detector",
        metric="AUC of a detector of synthetic images",
        axis="fidelity",
        status="NOT_EVALUATED",
        unit="AUC",
        bounds=(0, 1),
        direction="0.5 is best",
        advice="Ask for it in the recipe: gate.utility: full. It trains four classifiers more.",
    )
    if context.rules.utility != "full":
        return [asked]
    evidence = context.evidence
    learn, ask = _halves(evidence.synthetic, context.rng("detector", "synthetic"))
    if min(len(ask), context.holdout_patients, context.reference_patients // 2) < LEAST:
        return [
            replace(asked, advice=f"{2 * LEAST} synthetic images and {LEAST} patients a side are needed.")
        ]
    real = _one_each(evidence.holdout, context.rng("detector", "holdout")).images
    seeds = [context.seed_of("detector", seed) for seed in range(SEEDS)]
    pairs = [_scores(evidence.train, learn, ask.images, real, seed) for seed in seeds]
    low, high = _interval(pairs, context.rng("detector", "bootstrap"))
    return [
        replace(
            asked,
            status="REPORTED",
            advice="",
            value=float(np.mean([auc(*pair) for pair in pairs])),
            low=low,
            high=high,
            n=len(real),
            baseline=_control(context, real, seeds[0]),
            details={"seeds": SEEDS},
        )
    ]


def _scores(
    real: ImageSet, made: ImageSet, unseen_made: np.ndarray, unseen_real: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return how synthetic unseen images of both kinds look to a network that learned from equally many."""
    size = min(len(real), len(made))
    rng = np.random.default_rng(seed)
    rows = (rng.choice(len(part), size, replace=False) for part in (real, made))
    images = np.concatenate([part.images[own] for part, own in zip((real, made), rows, strict=True)])
    network = train_classifier(images, np.repeat([0, 1], size), 2, seed)
    told_made, told_real = (network.outputs(part) for part in (unseen_made, unseen_real))
    return told_made[:, 1] - told_made[:, 0], told_real[:, 1] - told_real[:, 0]


def _control(context: Context, real: np.ndarray, seed: int) -> float:
    """Return the same AUC where half of the reference patients pose as the synthetic set."""
    learn, ask = _halves(context.evidence.reference, context.rng("detector", "control"))
    unseen = _one_each(ask, context.rng("detector", "control", "unseen")).images
    return auc(*_scores(context.evidence.train, learn, unseen, real, seed))


def _halves(part: ImageSet, rng: np.random.Generator) -> tuple[ImageSet, ImageSet]:
    """Return two halves of a set, no patient in both; a synthetic image is by itself."""
    is_synthetic = part.patients.min() < 0
    units = np.arange(len(part)) if is_synthetic else np.unique(part.patients, return_inverse=True)[1]
    is_first = rng.permutation(int(units.max()) + 1) < (units.max() + 1) // 2
    return part.take(is_first[units]), part.take(~is_first[units])


def _one_each(part: ImageSet, rng: np.random.Generator) -> ImageSet:
    """Return one image of each patient, drawn at random: the patient is the unit, and images are alike."""
    order = rng.permutation(len(part))
    _, first = np.unique(part.patients[order], return_index=True)
    return part.take(np.sort(order[first]))


def _interval(
    pairs: Sequence[tuple[np.ndarray, np.ndarray]], rng: np.random.Generator
) -> tuple[float, float]:
    """Return the 95% interval of the mean AUC, by a bootstrap over images, patients and seeds."""
    sides = [len(part) for part in pairs[0]]
    weights = [rng.multinomial(n, np.full(n, 1 / n), DRAWS).astype(np.float32) for n in sides]
    areas = np.stack([weighted_auc(*pair, *weights) for pair in pairs])
    drawn = areas[rng.integers(0, len(pairs), (DRAWS, len(pairs))), np.arange(DRAWS)[:, None]].mean(1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


CHECK = Check(
    name="detector",
    question="Can a classifier tell the synthetic images from real patients' images?",
    axis="fidelity",
    required=False,
    run=_run,
    source="Lopez-Paz and Oquab 2017 (classifier two-sample test); baseline: real patients in its place",
)
