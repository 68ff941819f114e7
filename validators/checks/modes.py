"""Does the set leave out kinds of images that a class has in reality?"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from phantomset.validators.context import Context
from phantomset.validators.finding import Check, Finding
from phantomset.validators.measures.modes import cells, dropped

LEAST_IMAGES = 50
PERMUTATIONS = 999


def _run(context: Context) -> Sequence[Finding]:
    names = context.evidence.train.label_names
    return [finding for label, name in enumerate(names) for finding in _of_class(context, label, name)]


def _of_class(context: Context, label: int, name: str) -> list[Finding]:
    """Return the share of unseen real images in empty cells, and whether cells are filled as in reality."""
    parts = {part: _features(context, part, label) for part in ("synthetic", "holdout", "train")}
    reference = _features(context, "reference", label)
    n = min(map(len, parts.values()))
    if min(n, len(reference)) < LEAST_IMAGES:
        advice = f"{min(n, len(reference))} images of this class in a part; {LEAST_IMAGES} are needed."
        return [_finding(name, None, None, n, advice)]
    shortcoming = context.extractors[_space(context)].shortcoming
    centres = cells(reference, context.rng("modes", "cells", label))
    rng = context.rng("modes", label)
    equal = {part: found[rng.choice(len(found), n, replace=False)] for part, found in parts.items()}
    made, real = (
        dropped(centres, equal["holdout"], equal[part], PERMUTATIONS, rng) for part in ("synthetic", "train")
    )
    told = [
        _finding(name, made.share, real.share, n, shortcoming),
        _test(name, made.p, real.p, n, len(centres)),
    ]
    return [replace(finding, status="NOT_EVALUATED") for finding in told] if shortcoming else told


def _space(context: Context) -> str:
    return "classifier" if "classifier" in context.extractors else "texture"


def _features(context: Context, part: str, label: int) -> np.ndarray:
    """Return features of a class, one image a patient; synthetic images have no patient."""
    images = getattr(context.evidence, part)
    rows = np.flatnonzero(images.labels == label)
    if part != "synthetic":
        rows = rows[np.unique(images.patients[rows], return_index=True)[1]]
    return context.features(_space(context), part)[rows]


def _finding(name: str, value: float | None, baseline: float | None, n: int, advice: str = "") -> Finding:
    return Finding(
        check="modes",
        metric="share of real images of a kind that the set leaves out",
        axis="fidelity",
        status="NOT_EVALUATED" if value is None else "REPORTED",
        value=value,
        group=name,
        unit="share",
        bounds=(0, 1),
        direction="lower is better",
        n=n,
        baseline=baseline,
        advice=advice,
    )


def _test(name: str, p: float, baseline: float, n: int, count: int) -> Finding:
    return Finding(
        check="modes",
        metric="chance of so unlike frequencies of kinds",
        axis="fidelity",
        status="REPORTED",
        value=p,
        group=name,
        unit="p",
        bounds=(0, 1),
        direction="higher is better",
        n=n,
        baseline=baseline,
        restricted=True,
        details={"cells": count},
    )


CHECK = Check(
    name="modes",
    question="Does the set leave out kinds of images that a class has in reality?",
    axis="fidelity",
    required=False,
    run=_run,
    source="Richardson and Weiss 2018, with cells of R; chi-squared by permutation",
)
