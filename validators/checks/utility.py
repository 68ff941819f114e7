"""Does a classifier trained on synthetic images do as well on real patients as one trained on real images?"""

from collections.abc import Callable, Sequence

import numpy as np

from phantomset.validators.context import Context
from phantomset.validators.finding import Check, Finding, Status
from phantomset.validators.lessons import Side, absent_classes, has_two_classes
from phantomset.validators.measures.classification import (
    balanced_accuracy,
    calibration_error,
    class_auc,
    recall_by_class,
)
from phantomset.validators.measures.rates import weighted_auc
from phantomset.validators.policy import PROFILES, Profile

DRAWS = 500
SIDES: tuple[Side, ...] = ("synthetic", "train")


def _run(context: Context) -> Sequence[Finding]:
    missing = _missing_classes(context)
    if missing is not None:
        return [missing]
    sides: dict[Side, np.ndarray] = dict(zip(SIDES, context.taught(*SIDES), strict=True))
    return [_auc(context, sides), *_recalls(context, sides), *_others(context, sides)]


def _missing_classes(context: Context) -> Finding | None:
    """Return why utility cannot be judged, or has failed, before anything is trained."""
    evidence = context.evidence
    real, synthetic = np.unique(evidence.train.labels), np.unique(evidence.synthetic.labels)
    absent = absent_classes(evidence)
    if absent:
        status: Status = "FAIL"
        advice = (
            f"The set holds no image of: {', '.join(absent)}. Ask for them too (generate.classes, "
            "generate.where), generate more, or release without them by gate.leave_out."
        )
    elif not has_two_classes(evidence):
        status, advice = "INCONCLUSIVE", "There is one class; a classifier needs two."
    else:
        return None
    return Finding(
        check="utility",
        metric="classes present",
        axis="utility",
        status=status,
        value=float(len(synthetic)),
        unit="classes",
        direction="higher is better",
        limit=str(len(real)),
        n=len(evidence.synthetic),
        baseline=float(len(real)),
        advice=advice,
    )


def _mean(
    figure: Callable[[np.ndarray, np.ndarray], np.ndarray | float], truth: np.ndarray, runs: np.ndarray
) -> np.ndarray:
    """Return a figure's mean over the runs ``(seeds, N, K)``."""
    return np.mean([np.asarray(figure(truth, probabilities)) for probabilities in runs], axis=0)


def _auc(context: Context, sides: dict[Side, np.ndarray]) -> Finding:
    """Compare AUROC, one class against the rest, averaged over classes and seeds."""
    truth = context.evidence.holdout.labels
    synthetic, real = (float(np.nanmean(_mean(class_auc, truth, sides[side]))) for side in SIDES)
    gap = synthetic - real
    low, high = _gap_interval(context, sides)
    status, limit, advice = _judge(PROFILES[context.rules.fidelity], gap, low, high)
    return Finding(
        check="utility",
        metric="AUROC on the holdout, trained on synthetic",
        axis="utility",
        status=status,
        value=synthetic,
        low=real + low,
        high=real + high,
        unit="AUROC",
        bounds=(0, 1),
        direction="higher is better",
        limit=limit,
        n=context.holdout_patients,
        baseline=real,
        advice=advice,
        details={"gap": gap, "gap_low": low, "gap_high": high, "seeds": len(sides["train"])},
    )


def _judge(profile: Profile, gap: float, low: float, high: float) -> tuple[Status, str, str]:
    margin = profile.auc_margin
    limit = f"{'lower 95% bound of ' if profile.by_bound else ''}TSTR - TRTR >= -{margin}"
    if (low if profile.by_bound else gap) >= -margin:
        return "PASS", limit, ""
    if profile.by_bound and high >= -margin:
        advice = (
            f"The gap's interval, {low:.3f} to {high:.3f}, is too wide: more holdout patients are needed."
        )
        return "INCONCLUSIVE", limit, advice
    return "FAIL", limit, "The set teaches less than real images do: train longer, or check the labels."


def _gap_interval(context: Context, sides: dict[Side, np.ndarray]) -> tuple[float, float]:
    """Return the 95% interval of the AUROC gap, by a bootstrap over the holdout's patients."""
    holdout = context.evidence.holdout
    _, owner = np.unique(holdout.patients, return_inverse=True)
    patients = context.holdout_patients
    drawn = context.rng("utility", "bootstrap").multinomial(patients, np.full(patients, 1 / patients), DRAWS)
    weights = drawn[:, owner].astype(np.float32)
    gaps = []
    for label in range(len(holdout.label_names)):
        own = holdout.labels == label
        if not own.any() or own.all():
            continue
        areas = {
            side: np.mean(
                [
                    weighted_auc(p[own, label], p[~own, label], weights[:, own], weights[:, ~own])
                    for p in sides[side]
                ],
                axis=0,
            )
            for side in SIDES
        }
        gaps.append(areas["synthetic"] - areas["train"])
    low, high = np.nanquantile(np.mean(gaps, axis=0), [0.025, 0.975])
    return float(low), float(high)


def _recalls(context: Context, sides: dict[Side, np.ndarray]) -> list[Finding]:
    holdout, margin = context.evidence.holdout, PROFILES[context.rules.fidelity].recall_margin
    names = holdout.label_names

    def recall(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
        return recall_by_class(truth, probabilities.argmax(1), len(names))

    synthetic, real = (_mean(recall, holdout.labels, sides[side]) for side in SIDES)
    findings = []
    for label, name in enumerate(names):
        if np.isnan(real[label]):
            continue
        status: Status = "REPORTED"
        if margin is not None:
            status = "PASS" if synthetic[label] >= real[label] - margin else "FAIL"
        findings.append(
            Finding(
                check="utility",
                metric="recall on the holdout, trained on synthetic",
                axis="utility",
                status=status,
                value=float(synthetic[label]),
                group=name,
                unit="share",
                bounds=(0, 1),
                direction="higher is better",
                limit="" if margin is None else f">= {real[label] - margin:.3f}",
                n=int((holdout.labels == label).sum()),
                baseline=float(real[label]),
                advice="The set teaches this class less than real images do." if status == "FAIL" else "",
            )
        )
    return findings


def _others(context: Context, sides: dict[Side, np.ndarray]) -> list[Finding]:
    truth = context.evidence.holdout.labels
    figures = {
        "balanced accuracy": (lambda t, p: balanced_accuracy(t, p.argmax(1)), "higher is better"),
        "calibration error": (calibration_error, "lower is better"),
    }
    findings = []
    for metric, (figure, direction) in figures.items():
        synthetic, real = (float(_mean(figure, truth, sides[side])) for side in SIDES)
        findings.append(
            Finding(
                check="utility",
                metric=f"{metric} on the holdout, trained on synthetic",
                axis="utility",
                status="REPORTED",
                value=synthetic,
                unit="share",
                bounds=(0, 1),
                direction=direction,
                n=len(truth),
                baseline=real,
            )
        )
    return findings


CHECK = Check(
    name="utility",
    question="Does training on synthetic images do as well, on real patients, as training on real ones?",
    axis="utility",
    required=True,
    run=_run,
    source="Esteban et al. 2017 (train on synthetic, test on real)",
)
