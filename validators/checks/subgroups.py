"""P1 and P2 where a leak shows first: within each class, each attribute's value, and among outliers."""

from collections.abc import Sequence

import numpy as np

from phantomset.validators.context import Context
from phantomset.validators.finding import Check, Finding, Status
from phantomset.validators.measures.permutation import min_p
from phantomset.validators.measures.rates import attack_strength
from phantomset.validators.policy import (
    ALPHA_SUBGROUPS,
    BOOTSTRAPS,
    LEAST_HOLDOUT_FAMILY,
    LEAST_HOLDOUT_SCAN,
    LEAST_HOLDOUT_STRENGTH,
    MARGINS,
    PERMUTATIONS,
)
from phantomset.validators.scan import scan
from phantomset.validators.scores import Nearness, attack_scores, concentrated_columns
from phantomset.validators.subgroups import OUTLIERS, Subgroup, subgroups

RATE = 0.01


def _run(context: Context) -> Sequence[Finding]:
    groups = subgroups(context)
    level = ALPHA_SUBGROUPS / (2 * len(groups))
    findings = [finding for group in groups for finding in _look(context, group, level)]
    unknown = sorted(set(context.rules.conclusive) - {group.name for group in groups})
    advice = "The cohort has no such subgroup; the rules ask for its judgement. Mend gate.conclusive."
    nobody = np.zeros(len(context.real), bool)
    findings += [
        _finding(context, Subgroup(name, nobody), "copies and attacks", None, "", advice, 0)
        for name in unknown
    ]
    return findings


def _look(context: Context, group: Subgroup, level: float) -> list[Finding]:
    """Return what the copy scan, the attack family and, with enough patients, the bounds say of a group."""
    near = context.nearness_of(group.rows) if group.rows.any() else None
    train = int(near.members.is_train.sum()) if near else 0
    holdout = near.members.patients - train if near else 0
    if near is None or not train or holdout < LEAST_HOLDOUT_FAMILY:
        advice = (
            f"n_T = {train}, n_H = {holdout} patients; {LEAST_HOLDOUT_FAMILY} in the holdout are needed "
            f"for the attack family, {LEAST_HOLDOUT_SCAN} for the copy scan."
        )
        return [_finding(context, group, "copies and attacks", None, "", advice, holdout)]
    findings = []
    if holdout >= LEAST_HOLDOUT_SCAN:
        p = scan(near.q, near.members.is_train).p
        findings.append(_tested(context, group, "copy scan", p, level, near))
    draws = max(PERMUTATIONS, int(np.ceil(2 / level)))  # the least p must lie well below the level
    scores = attack_scores(near)
    rng = context.rng("subgroups", group.name)
    p = min_p(concentrated_columns(scores, near), near.members.is_train, draws, rng).p
    findings.append(_tested(context, group, "attack family", p, level, near))
    if group.name != OUTLIERS and min(train, holdout) >= LEAST_HOLDOUT_STRENGTH:
        findings += _bounds(context, group, scores, near)
    return findings


def _tested(
    context: Context, group: Subgroup, metric: str, p: float, level: float, near: Nearness
) -> Finding:
    advice, status = "", "PASS"
    if p <= level:
        status = "FAIL"
        advice = "Training patients of this group are exposed: train on more of them, or more briefly."
        advice += " Or release without the class (gate.leave_out)." if group.only_class else ""
    limit = f"FAIL at p <= {level:.2g}"
    return _finding(context, group, f"{metric}, p", p, limit, advice, near.members.patients, status)


def _bounds(
    context: Context, group: Subgroup, scores: dict[str, np.ndarray], near: Nearness
) -> list[Finding]:
    """Return the joint upper bounds of attack strength in the group; above the margin: not conclusive."""
    margins = MARGINS[context.rules.privacy]
    matrix = np.stack(list(scores.values()), axis=1)
    train, holdout = matrix[near.members.is_train], matrix[~near.members.is_train]
    rng = context.rng("subgroups", group.name, "strength")
    found = attack_strength(train, holdout, RATE, BOOTSTRAPS, rng)
    findings = []
    for metric, bound, margin in zip(
        ("attack AUC, upper bound", "attack TPR at FPR 1%, upper bound"),
        found,
        (margins.auc, margins.tpr),
        strict=True,
    ):
        held = bound.bound <= margin
        advice = "" if held else f"It may be as high as {bound.bound:.3f}; the policy allows {margin}."
        status: Status = "PASS" if held else "NOT_EVALUATED"
        limit = f"joint upper 95% bound <= {margin}"
        n = near.members.patients
        findings.append(_finding(context, group, metric, min(1.0, bound.bound), limit, advice, n, status))
    return findings


def _finding(
    context: Context,
    group: Subgroup,
    metric: str,
    value: float | None,
    limit: str,
    advice: str,
    n: int,
    status: Status = "NOT_EVALUATED",
) -> Finding:
    """Return a finding; what is not conclusive blocks where the rules name the group, and only there."""
    if status == "NOT_EVALUATED" and group.name in context.rules.conclusive:
        status = "INCONCLUSIVE"
    is_p = metric.endswith(" p")
    return Finding(
        check="subgroups",
        metric=metric,
        axis="privacy",
        status=status,
        value=value,
        group=group.name,
        unit="p" if is_p else "",
        bounds=(0, 1),
        direction="higher is better" if is_p else "lower is better",
        limit=limit,
        n=n,
        advice=advice,
        restricted=True,
        details={"class": group.only_class} if group.only_class else {},
    )


CHECK = Check(
    name="subgroups",
    question="Are patients of a class or a subgroup exposed, or those who are unlike all others?",
    axis="privacy",
    required=False,
    run=_run,
    source="Ganev et al. 2022 (rare patients leak first); Bonferroni over subgroups",
)
