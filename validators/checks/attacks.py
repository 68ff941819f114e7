"""P2 with P3. Do membership attacks find training patients more often than chance allows?"""

from collections.abc import Sequence
from dataclasses import replace

from phantomset.validators.closest import attacked_pairs
from phantomset.validators.context import Context
from phantomset.validators.crossfit import crossed
from phantomset.validators.finding import Check, Finding, Status
from phantomset.validators.measures.permutation import Column, MinP, min_p
from phantomset.validators.policy import ALPHA_FAMILY, LEAST_HOLDOUT_FAMILY, PERMUTATIONS
from phantomset.validators.scores import auc_columns, concentrated_columns


def _families(context: Context) -> dict[str, list[Column]]:
    scores = context.scores
    concentrated = concentrated_columns(scores, context.nearness)
    return {"concentrated": concentrated, "AUC": auc_columns(scores)}


def _run(context: Context) -> Sequence[Finding]:
    members = context.members
    drawn = [
        {
            kind: min_p(columns, each.members.is_train, PERMUTATIONS, each.rng("attacks", kind))
            for kind, columns in _families(each).items()
        }
        for each in context.draws()
    ]
    findings = []
    for kind, columns in _families(context).items():
        answer, by_draw = drawn[0][kind], [each[kind].p for each in drawn]
        if len(by_draw) > 1:
            answer = replace(answer, p=crossed(by_draw))
        status, advice = _judge(kind, answer, context.holdout_patients)
        findings.append(
            Finding(
                check="attacks",
                metric=f"attack family, {kind} columns: least p",
                axis="privacy",
                status=status,
                value=answer.p,
                unit="p",
                bounds=(1 / (PERMUTATIONS + 1), 1),
                direction="higher is better",
                limit=f"alarm at p <= {ALPHA_FAMILY}",
                n=members.patients,
                baseline=1.0,
                advice=advice,
                restricted=True,
                details={
                    "family": kind,
                    "strongest_column": answer.best,
                    "p_by_draw": by_draw,
                    "column_p": {c.name: float(p) for c, p in zip(columns, answer.column_p, strict=True)},
                    "pairs": attacked_pairs(context) if kind == "concentrated" else {},
                },
            )
        )
    return findings


def _judge(kind: str, answer: MinP, holdout: int) -> tuple[Status, str]:
    if holdout < LEAST_HOLDOUT_FAMILY:
        return "INCONCLUSIVE", (
            f"n_H = {holdout} patients; the attack family needs {LEAST_HOLDOUT_FAMILY} at the very least, "
            "about 600 for a PASS, 1,100 to be safe."
        )
    if answer.p > ALPHA_FAMILY:
        return "PASS", ""
    if kind == "AUC":  # the gate forgives this where the policy set margins and the bounds hold
        return "FAIL", "Training patients score higher on average: a weak signal over many patients."
    return "FAIL", (
        "Training patients crowd the top of an attack: some are memorised. "
        "Train on more patients, for less long, in more generators, or with noise."
    )


CHECK = Check(
    name="attacks",
    question="Do membership attacks find training patients more often than chance allows?",
    axis="privacy",
    required=True,
    run=_run,
    source="Chen et al. 2020 (GAN-Leaks); van Breugel et al. 2023 (DOMIAS); Westfall and Young 1993 (min-p)",
)
