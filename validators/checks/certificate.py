"""Can the set stand in for real training images, add to them, or neither? In words, by a rule."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from phantomset.validators.context import Context
from phantomset.validators.finding import Check, Finding
from phantomset.validators.lessons import absent_classes, has_two_classes
from phantomset.validators.measures.gain import Draws, Gain, draw, gain
from phantomset.validators.policy import LEAST_HOLDOUT_FAMILY
from phantomset.validators.subgroups import by_attribute

DRAWS = 500
MARGIN = 0.03
"""AUROC that may be lost where the set replaces real images: the margin of the profile `research`."""

GAIN = 0.01
"""AUROC that adding the set would have to bring, at least, to be worth the while."""

RULE = (
    "AUROC on unseen real patients, with 95% intervals over patients and seeds of the classifier. "
    f"Can replace: learning from the set alone loses at most {MARGIN}, for certain, and no class or subgroup "
    "loses more for certain. Use as augmentation: else, where real images together with the set teach more "
    f"than real images alone, for certain. Does not help: else, where a loss above {MARGIN} is certain and a "
    f"gain of {GAIN} by adding the set is ruled out. Cannot be told: else."
)

SENTENCES = {
    "can replace": "A classifier that learns from this set alone does as well on unseen real patients as one "
    "that learns from as many real images.",
    "use as augmentation": "Added to real images the set helps; alone it does not stand in for them.",
    "does not help": "The set neither stands in for real images nor adds to them, for this task.",
    "cannot be told": "There are too few unseen real patients, or too much chance between trainings, to say "
    "what the set is good for.",
}
"""The words of the certificate, and what each says."""

ALONE, ADDED = "AUROC, trained on synthetic instead of real", "AUROC, trained on real and synthetic"


@dataclass(frozen=True, slots=True)
class Compared:
    """A group of unseen real images, and what the set teaches about it: alone, and added to real images."""

    group: str
    images: int
    is_subgroup: bool
    alone: Gain
    added: Gain


def _run(context: Context) -> Sequence[Finding]:
    asked = Finding(
        check="certificate",
        metric="utility certificate",
        axis="utility",
        status="NOT_EVALUATED",
        direction="can replace is best",
        advice="Ask for it in the recipe: gate.utility: full. It trains three classifiers more.",
    )
    if context.rules.utility != "full":
        return [asked]
    if absent_classes(context.evidence) or not has_two_classes(context.evidence):
        return [replace(asked, advice="A class is missing, so there is nothing to compare.")]
    compared = list(_compare(context))
    words = decide(compared)
    certificate = replace(
        asked,
        status="REPORTED",
        n=context.holdout_patients,
        advice="",
        details={"words": words, "sentence": SENTENCES[words], "rule": RULE},
    )
    return [certificate, *(finding for each in compared for finding in _findings(each))]


def decide(compared: Sequence[Compared]) -> str:
    """Return the words of the certificate; the first of ``compared`` is the whole holdout."""
    whole = compared[0]
    loses_somewhere = any(each.alone.high < -MARGIN for each in compared)
    if whole.alone.low >= -MARGIN and not loses_somewhere:
        return "can replace"
    if whole.added.low > 0:
        return "use as augmentation"
    return "does not help" if loses_somewhere and whole.added.high < GAIN else "cannot be told"


def _compare(context: Context) -> Iterator[Compared]:
    """Yield the whole holdout, each class, and each subgroup with enough patients."""
    holdout = context.evidence.holdout
    runs = context.taught("synthetic", "both", "train")
    draws = draw(holdout.patients, len(runs[0]), DRAWS, context.rng("certificate"))
    every = tuple(range(len(holdout.label_names)))
    rows = np.ones(len(holdout), bool)
    groups = [("all", rows, every, False)]
    groups += [(name, rows, (label,), False) for label, name in enumerate(holdout.label_names)]
    for found in by_attribute(context):
        own = found.rows[len(context.evidence.train) :]
        if len(np.unique(holdout.patients[own])) >= LEAST_HOLDOUT_FAMILY:
            groups.append((found.name, own, every, True))
    for name, own, classes, is_subgroup in groups:
        sample = Draws(draws.weights[:, own], draws.seeds)
        synthetic, both, real = (run[:, own] for run in runs)
        alone = gain(holdout.labels[own], synthetic, real, sample, classes)
        added = gain(holdout.labels[own], both, real, sample, classes)
        if alone and added:
            yield Compared(name, int(own.sum()), is_subgroup, alone, added)


def _findings(compared: Compared) -> list[Finding]:
    return [
        Finding(
            check="certificate",
            metric=metric,
            axis="utility",
            status="REPORTED",
            value=found.value,
            group=compared.group,
            low=found.baseline + found.low,
            high=found.baseline + found.high,
            unit="AUROC",
            bounds=(0, 1),
            direction="higher is better",
            n=compared.images,
            baseline=found.baseline,
            restricted=compared.is_subgroup,
            details={"gain_low": found.low, "gain_high": found.high},
        )
        for metric, found in ((ALONE, compared.alone), (ADDED, compared.added))
    ]


CHECK = Check(
    name="certificate",
    question="Can the set stand in for real training images, add to them, or neither?",
    axis="utility",
    required=False,
    run=_run,
    source="Esteban et al. 2017 (train on synthetic, test on real); Piaggio et al. 2012 (non-inferiority)",
)
