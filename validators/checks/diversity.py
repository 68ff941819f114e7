"""Is each class as diverse as in reality?"""

from collections.abc import Sequence

import numpy as np

from phantomset.validators.context import Context
from phantomset.validators.finding import Check, Finding, Status
from phantomset.validators.measures.vendi import vendi
from phantomset.validators.policy import PROFILES

SPACE = "classifier"
LEAST_IMAGES, MOST_IMAGES = 50, 500


def _run(context: Context) -> Sequence[Finding]:
    space = SPACE if SPACE in context.extractors else "texture"
    return [
        _of_class(context, space, label, name)
        for label, name in enumerate(context.evidence.train.label_names)
    ]


def _of_class(context: Context, space: str, label: int, name: str) -> Finding:
    rng = context.rng("diversity", label)
    parts = {
        part: context.features(space, part)[getattr(context.evidence, part).labels == label]
        for part in ("synthetic", "holdout")
    }
    n = min(MOST_IMAGES, *map(len, parts.values()))
    limits = PROFILES[context.rules.fidelity].diversity
    decides: Status = "REPORTED" if limits is None else "INCONCLUSIVE"
    ratio, advice, status = None, context.extractors[space].shortcoming, decides
    if advice and limits is None:
        status = "NOT_EVALUATED"
    if n < LEAST_IMAGES:
        advice = f"{n} images of this class; {LEAST_IMAGES} synthetic and as many holdout images are needed."
    else:
        synthetic, holdout = (vendi(x[rng.choice(len(x), n, replace=False)]) for x in parts.values())
        ratio = synthetic / holdout
        if limits is not None and not advice:
            status = "PASS" if limits[0] <= ratio <= limits[1] else "FAIL"
        if status == "FAIL":
            advice = "The class is " + ("collapsed" if ratio < 1 else "more scattered than in reality") + "."
    return Finding(
        check="diversity",
        metric="Vendi score, synthetic over holdout",
        axis="fidelity",
        status=status,
        value=None if ratio is None else float(np.round(ratio, 6)),
        group=name,
        unit="ratio",
        direction="1 is best",
        limit="" if limits is None else f"{limits[0]} to {limits[1]}",
        n=n,
        baseline=1.0,
        advice=advice,
    )


CHECK = Check(
    name="diversity",
    question="Is each class as diverse as in reality?",
    axis="fidelity",
    required=False,
    run=_run,
    source="Friedman and Dieng 2023, cosine kernel, at equal sizes",
)
