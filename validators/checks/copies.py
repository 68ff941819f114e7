"""P1. Is a synthetic image closer to a training patient than fresh patients ever come?"""

from collections.abc import Sequence

import numpy as np

from phantomset.validators.context import Context
from phantomset.validators.finding import Check, Finding, Status
from phantomset.validators.policy import ALPHA_SCAN, LEAST_HOLDOUT_SCAN
from phantomset.validators.scan import Scan, scan

PAIRS = 6
"""Closest pairs of each representation, for a person to look at."""


def _run(context: Context) -> Sequence[Finding]:
    found = scan(context.nearness.q, context.members.is_train)
    status, advice = _judge(found, context.holdout_patients)
    return [
        Finding(
            check="copies",
            metric="copy scan, least p over representations",
            axis="privacy",
            status=status,
            value=found.p,
            unit="p",
            bounds=(0, 1),
            direction="higher is better",
            limit=f"FAIL at p <= {ALPHA_SCAN}",
            n=context.train_patients,
            baseline=1.0,
            advice=advice,
            restricted=True,
            details={
                "p_by_space": found.p_by_space,
                "alarm_distance_by_space": found.alarm_distance,
                "train_patients_below": found.train_below,
                "holdout_patients_below": found.holdout_below,
                "pairs": {name: context.closest_pairs(name, PAIRS) for name in context.spaces},
                "smallest_train_q": {k: float(q[context.members.is_train].min()) for k, q in _q(context)},
            },
        )
    ]


def _q(context: Context) -> list[tuple[str, np.ndarray]]:
    return list(context.nearness.q.items())


def _judge(found: Scan, holdout: int) -> tuple[Status, str]:
    if holdout < LEAST_HOLDOUT_SCAN:
        return "INCONCLUSIVE", (
            f"n_H = {holdout} patients; the copy scan needs {LEAST_HOLDOUT_SCAN} in the holdout, "
            "600 for the whole suite, 1,100 to be safe."
        )
    if found.p <= ALPHA_SCAN:
        return (
            "FAIL",
            "The set holds near-copies of training patients: train longer on more patients, or with noise.",
        )
    if any(found.holdout_below.values()):
        return "INCONCLUSIVE", (
            "Holdout patients have near-copies in the set: the holdout was seen in training, or the source "
            "holds duplicates across patients. Remove duplicates and split again."
        )
    if any(found.train_below.values()):
        return "INCONCLUSIVE", (
            "A training patient has a synthetic image below the alarm distance in one representation. Look "
            "at the pair in the restricted report to learn what it is: a mark there records what you saw and "
            "changes no verdict. What does is a set from a model that was trained on more patients, or for "
            "less long."
        )
    return "PASS", ""


CHECK = Check(
    name="copies",
    question="Is a synthetic image closer to a training patient than fresh patients ever come?",
    axis="privacy",
    required=True,
    run=_run,
    source="Hill 1975; Weissman 1978; calibration after Chen et al. 2020 (GAN-Leaks)",
)
