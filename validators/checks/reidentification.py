"""P5. Does the set show training patients again, in images that the generator was not given?"""

from collections.abc import Sequence

from phantomset.validators.closest import most_alike
from phantomset.validators.context import Context
from phantomset.validators.finding import Check, Finding, Status
from phantomset.validators.measures.permutation import min_p, top_columns
from phantomset.validators.policy import ALPHA_REIDENTIFICATION, LEAST_HOLDOUT_FAMILY, PERMUTATIONS
from phantomset.validators.verification import Verifier, met_again

LEAST_AUC = 0.95
TOPS = (8, 16, 32, 64, 128)


def _run(context: Context) -> Sequence[Finding]:
    model = context.verifier
    if model is None:
        return [_not_evaluated(None, "Too few reference patients have several images to learn from.")]
    if model.auc < LEAST_AUC:
        return [
            _not_evaluated(
                model,
                f"The verification model tells same from different patients with an AUC of {model.auc:.2f}; "
                f"{LEAST_AUC} is needed before its silence means anything.",
            )
        ]
    if context.holdout_patients < LEAST_HOLDOUT_FAMILY:
        needed = f"{LEAST_HOLDOUT_FAMILY} are needed."
        return [_not_evaluated(model, f"n_H = {context.holdout_patients} patients; {needed}")]
    return [_asked(context, model)]


def _asked(context: Context, model: Verifier) -> Finding:
    evidence, members = context.evidence, context.members
    likeness, image = met_again(model, context.real, evidence.synthetic.images)
    columns = top_columns("verification", members.greatest(likeness), TOPS)
    rng = context.rng("reidentification", "permute")
    answer = min_p(columns, members.is_train, PERMUTATIONS, rng)
    failed = answer.p <= ALPHA_REIDENTIFICATION
    return Finding(
        check="reidentification",
        metric="training patients met again, p",
        axis="privacy",
        status="FAIL" if failed else "PASS",
        value=answer.p,
        unit="p",
        bounds=(0, 1),
        direction="higher is better",
        limit=f"FAIL at p <= {ALPHA_REIDENTIFICATION}",
        n=members.patients,
        baseline=1.0,
        advice="The set shows training patients as a second image would: train on more patients, or more "
        "briefly."
        if failed
        else "",
        restricted=True,
        details={
            "verification_auc": model.auc,
            "same_patient_pairs": model.pairs,
            "strongest": answer.best,
            "pairs": {"met-again": most_alike(context, likeness, image)},
        },
    )


def _not_evaluated(model: Verifier | None, advice: str) -> Finding:
    status: Status = "NOT_EVALUATED"
    return Finding(
        check="reidentification",
        metric="verification AUC, same against different patient",
        axis="privacy",
        status=status,
        value=None if model is None else model.auc,
        unit="AUC",
        bounds=(0, 1),
        direction="higher is better",
        limit=f">= {LEAST_AUC}",
        n=0 if model is None else model.pairs,
        baseline=0.5,
        advice=advice,
        restricted=True,
    )


CHECK = Check(
    name="reidentification",
    question="Does the set show training patients again, as a second image of them would?",
    axis="privacy",
    required=False,
    run=_run,
    source="Packhäuser et al. 2022 (patient verification on chest X-rays)",
)
