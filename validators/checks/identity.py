"""P0. Is a synthetic image, pixel for pixel, a real one?"""

from collections.abc import Sequence

import numpy as np

from phantomset.data.digest import digest_of
from phantomset.validators.context import Context
from phantomset.validators.finding import Check, Finding


def _digests(images: np.ndarray) -> list[str]:
    return [digest_of(image) for image in images]


def _run(context: Context) -> Sequence[Finding]:
    evidence = context.evidence
    synthetic = _digests(evidence.synthetic.images)
    hits = {}
    for part in ("train", "holdout", "reference"):
        known = set(_digests(getattr(evidence, part).images))
        hits[part] = [position for position, digest in enumerate(synthetic) if digest in known]
    outside = len(hits["holdout"]) + len(hits["reference"])
    status, advice = "PASS", ""
    if hits["train"]:
        status, advice = "FAIL", "The set holds images of training patients; change the model or its data."
    elif outside:
        status = "INCONCLUSIVE"
        advice = (
            f"{outside} synthetic images are images of patients that the generator should not know: the "
            "split or the set is not what it claims to be. Ingest again and train on the new split."
        )
    return [
        Finding(
            check="identity",
            metric="synthetic images identical to a real one",
            axis="privacy",
            status=status,
            value=float(len(hits["train"]) + outside),
            unit="images",
            bounds=(0, float(len(synthetic))),
            direction="lower is better",
            limit="0",
            n=len(synthetic),
            baseline=0.0,
            advice=advice,
            details={part: positions for part, positions in hits.items() if positions},
        )
    ]


CHECK = Check(
    name="identity",
    question="Is a synthetic image, pixel for pixel, a real one?",
    axis="privacy",
    required=True,
    run=_run,
    source="FIPS 180-4 (SHA-256 of pixels and shape)",
)
