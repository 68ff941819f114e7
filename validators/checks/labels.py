"""Do synthetic images show the class that their label says?"""

from collections.abc import Sequence

import numpy as np

from phantomset.validators.context import Context
from phantomset.validators.finding import Check, Finding, Status
from phantomset.validators.measures.classification import balanced_accuracy
from phantomset.validators.policy import PROFILES


def _run(context: Context) -> Sequence[Finding]:
    evidence, judge = context.evidence, context.reference_classifier
    margin = PROFILES[context.rules.fidelity].label_margin
    if judge is None:
        return [
            Finding(
                check="labels",
                metric="balanced accuracy of the reference classifier",
                axis="fidelity",
                status="NOT_EVALUATED",
                advice="The reference has one class.",
            )
        ]
    synthetic, holdout = (
        balanced_accuracy(part.labels, judge.probabilities(part.images).argmax(1))
        for part in (evidence.synthetic, evidence.holdout)
    )
    status: Status = "REPORTED"
    if margin is not None:
        status = "PASS" if synthetic >= holdout - margin else "FAIL"
    return [
        Finding(
            check="labels",
            metric="balanced accuracy of the reference classifier",
            axis="fidelity",
            status=status,
            value=synthetic,
            unit="share",
            bounds=(0, 1),
            direction="higher is better",
            limit="" if margin is None else f">= {holdout - margin:.3f}",
            n=len(evidence.synthetic),
            baseline=holdout,
            advice="Synthetic images do not show their class: train longer." if status == "FAIL" else "",
            details={"classes": len(np.unique(evidence.synthetic.labels))},
        )
    ]


CHECK = Check(
    name="labels",
    question="Do synthetic images show the class that their label says?",
    axis="fidelity",
    required=False,
    run=_run,
    source="Ravuri and Vinyals 2019 (classification accuracy of generated images)",
)
