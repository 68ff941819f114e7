"""P4. How strong could the strongest attack be, at most?"""

from collections.abc import Sequence

import numpy as np

from phantomset.validators.context import Context
from phantomset.validators.finding import Check, Finding, Status
from phantomset.validators.measures.rates import JointBound, attack_strength
from phantomset.validators.policy import BOOTSTRAPS, MARGINS, Margins

RATE = 0.01
FINE_RATE, LEAST_HOLDOUT_FINE = 0.001, 3000


def _run(context: Context) -> Sequence[Finding]:
    margins = MARGINS[context.rules.privacy]
    members = context.members
    names = list(context.scores)
    scores = np.stack([context.scores[name] for name in names], axis=1)
    train, holdout = scores[members.is_train], scores[~members.is_train]
    area, hit = attack_strength(train, holdout, RATE, BOOTSTRAPS, context.rng("strength"))
    prior = len(train) / (len(train) + len(holdout))

    def precision(rate: float) -> float:  # grows with the rate, so its ends are those of the rate
        rate = min(1.0, max(0.0, rate))
        return rate * prior / (rate * prior + RATE * (1 - prior))

    findings = [
        _finding(context, "attack AUC", area, margins.auc, 0.5, names),
        _finding(context, "attack TPR at FPR 1%", hit, margins.tpr, RATE, names),
        Finding(
            check="strength",
            metric="attack precision at FPR 1%",
            axis="privacy",
            status="REPORTED",
            value=precision(hit.worst),
            low=precision(hit.least),
            high=precision(hit.bound),
            unit="share",
            bounds=(0, 1),
            direction="lower is better",
            n=members.patients,
            baseline=prior,
            restricted=True,
        ),
    ]
    if len(holdout) >= LEAST_HOLDOUT_FINE:
        _, fine = attack_strength(train, holdout, FINE_RATE, BOOTSTRAPS, context.rng("strength", "fine"))
        findings.append(_finding(context, "attack TPR at FPR 0.1%", fine, None, FINE_RATE, names))
    return findings


def _finding(
    context: Context, metric: str, bound: JointBound, margin: float | None, guess: float, names: list[str]
) -> Finding:
    status: Status = "REPORTED"
    advice = ""
    if margin is not None:
        status = "PASS" if bound.bound <= margin else "INCONCLUSIVE"
        if status != "PASS":
            advice = _advice(context, metric, bound, margin, MARGINS[context.rules.privacy])
    return Finding(
        check="strength",
        metric=metric,
        axis="privacy",
        status=status,
        value=bound.worst,
        low=max(0.0, bound.least),
        high=bound.bound,
        unit="AUC" if "AUC" in metric else "share",
        bounds=(0, 1),
        direction="lower is better",
        limit="" if margin is None else f"joint upper 95% bound <= {margin}",
        n=context.members.patients,
        baseline=guess,
        advice=advice,
        restricted=True,
        details={
            "strongest": names[int(bound.value.argmax())],
            "by_attack": dict(zip(names, bound.value.tolist(), strict=True)),
        },
    )


def _advice(context: Context, metric: str, bound: JointBound, margin: float, margins: Margins) -> str:
    smaller = "T" if context.train_patients < context.holdout_patients else "H"
    n = min(context.train_patients, context.holdout_patients)
    if n < margins.safe:
        safe = "" if margins.safe == margins.needed else f", {margins.safe:,} to be safe"
        return (
            f"The {metric} may be as high as {bound.bound:.3f}; the policy allows {margin}. "
            f"n_{smaller} = {n} patients; about {margins.needed:,} on each side are needed{safe}."
        )
    return (
        f"The {metric} may be as high as {bound.bound:.3f}; the policy allows {margin}: the set carries a "
        "membership signal. More training patients or a shorter training weaken it."
    )


CHECK = Check(
    name="strength",
    question="How strong could the strongest attack be, at most?",
    axis="privacy",
    required=True,
    run=_run,
    source="Carlini et al. 2022 (TPR at low FPR); Westfall and Young 1993 (max-T)",
)
