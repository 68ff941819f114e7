"""Do synthetic images show the class that their label says?"""

from collections.abc import Sequence

import numpy as np

from phantomset.validators.context import Context
from phantomset.validators.finding import Check, Finding, Status
from phantomset.validators.measures.classification import balanced_accuracy, recall_by_class
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
    guesses = [judge.probabilities(part.images).argmax(1) for part in (evidence.synthetic, evidence.holdout)]
    truths = [evidence.synthetic.labels, evidence.holdout.labels]
    synthetic, holdout = (balanced_accuracy(*pair) for pair in zip(truths, guesses, strict=True))
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
        ),
        *_by_class(evidence.synthetic.label_names, truths, guesses),
    ]


def _by_class(
    names: Sequence[str], truths: Sequence[np.ndarray], guesses: Sequence[np.ndarray]
) -> list[Finding]:
    """Return, for each class, how often the classifier of R sees in S what the label says; beside H."""
    synthetic, holdout = (
        recall_by_class(truth, guess, len(names)) for truth, guess in zip(truths, guesses, strict=True)
    )
    counts = np.bincount(truths[0], minlength=len(names))
    return [
        Finding(
            check="labels",
            metric="images that show their label, by the reference classifier",
            axis="fidelity",
            status="REPORTED",
            value=float(synthetic[label]),
            group=name,
            unit="share",
            bounds=(0, 1),
            direction="higher is better",
            n=int(counts[label]),
            baseline=None if np.isnan(holdout[label]) else float(holdout[label]),
        )
        for label, name in enumerate(names)
        if counts[label]
    ]


CHECK = Check(
    name="labels",
    question="Do synthetic images show the class that their label says?",
    axis="fidelity",
    required=False,
    run=_run,
    source="Ravuri and Vinyals 2019 (classification accuracy of generated images)",
)
