"""Judge a synthetic set: every check, the controls and the gate. No recipe, no training, no Prefect."""

from collections.abc import Callable, Sequence

import numpy as np

from phantomset.data import catalogue
from phantomset.data.digest import digest_of
from phantomset.data.records import ImageSet
from phantomset.validators import controls, gate
from phantomset.validators.context import Context
from phantomset.validators.finding import Axis, Check, Evidence, Finding, Rules, Verdict

CHECKS = "phantomset.validators.checks"

Report = Callable[[str], None]


def silent(_message: str) -> None:
    """Tell nobody."""


def judge(evidence: Evidence, rules: Rules, seed: int, report: Report = silent) -> Verdict:
    """Return the verdict on ``evidence.synthetic`` under the rules. Never raises on a set's content.

    Every check of the catalogue runs, then the controls, then the gate. What cannot be evaluated, or breaks
    down, is an INCONCLUSIVE finding; so a judgement that could not look never passes.

    Args:
        evidence: T, H, R and S. Images uint8 ``(N, C, H, W)`` of one shape.
        rules: the privacy policy and the fidelity profile.
        seed: of every random step; the same inputs and seed give the same verdict.
        report: told the outcome of each step, in words that name no patient and no p-value.
    """
    digest = digest_of("verdict", *map(_digest_of_set, _parts(evidence).values()), rules, seed, gate.suite())
    faults = unfit(evidence)
    if faults:
        for fault in faults:
            report(f"evidence: INCONCLUSIVE: {fault.advice}")
        return gate.decide(faults, rules, digest)
    context = Context(evidence, rules, seed, controls.control_sets)
    return gate.decide(examine(context, report=report), rules, digest)


def examine(context: Context, axes: Sequence[Axis] = gate.AXES, report: Report = silent) -> list[Finding]:
    """Return the findings of all checks and controls of the given axes, before any gate.

    For a look at a part: what `judge` decides needs all axes. The controls need a context that was made with
    `controls.control_sets`.
    """
    findings: list[Finding] = []
    for name in catalogue.names(CHECKS):
        check: Check = catalogue.load(CHECKS, name)
        if check.axis in axes:
            findings += _guarded(check.name, check.axis, lambda check=check: check.run(context), report)
    if "controls" in axes:
        for name, control in controls.CONTROLS.items():
            findings += _guarded(name, "controls", lambda control=control: control(context), report)
    return findings


def _guarded(
    name: str, axis: Axis, run: Callable[[], Sequence[Finding]], report: Report
) -> Sequence[Finding]:
    """Return the findings of a step; an INCONCLUSIVE one where it breaks down."""
    try:
        findings = list(run())
    except Exception as error:
        # Whatever breaks, the set does not pass. The type alone is told: a message may carry values.
        advice = f"The check broke down ({type(error).__name__}); its input may be too small or degenerate."
        findings = [
            Finding(
                check=name, metric="could not be evaluated", axis=axis, status="INCONCLUSIVE", advice=advice
            )
        ]
    for finding in findings:
        if finding.status != "REPORTED":
            group = "" if finding.group == "all" else f", {finding.group}"
            report(f"{name}: {finding.metric}{group}: {finding.status}")
    return findings


def unfit(evidence: Evidence) -> list[Finding]:
    """Return an INCONCLUSIVE finding for each fault that forbids any judgement: empty or unlike sets."""
    parts = _parts(evidence)
    messages = [f"The {name} set is empty." for name, part in parts.items() if len(part) == 0]
    shapes = {part.images.shape[1:] for part in parts.values() if len(part)}
    if len(shapes) > 1:
        messages.append(
            f"The sets have {len(shapes)} image shapes (C, H, W): {sorted(shapes)}; one is needed."
        )
    for name, part in parts.items():
        if str(part.images.dtype) != "uint8" or part.images.ndim != 4:
            messages.append(
                f"The {name} images are {part.images.dtype} in {part.images.ndim} axes, not uint8 in 4."
            )
        if not len(part.images) == len(part.labels) == len(part.patients):
            messages.append(f"The {name} set has unequal numbers of images, labels and patients.")
        if part.label_names != evidence.train.label_names:
            messages.append(f"The {name} set has other label names than the train set.")
    real = [np.unique(parts[name].patients) for name in ("train", "holdout", "reference")]
    shared = sum(len(np.intersect1d(real[i], real[j])) for i, j in ((0, 1), (0, 2), (1, 2)))
    if shared:
        messages.append(f"{shared} patients are in two parts; split again by patient, and train anew.")
    return [
        Finding(check="splits", metric="evidence", axis="privacy", status="INCONCLUSIVE", advice=message)
        for message in messages
    ]


def _parts(evidence: Evidence) -> dict[str, ImageSet]:
    return {
        "train": evidence.train,
        "holdout": evidence.holdout,
        "reference": evidence.reference,
        "synthetic": evidence.synthetic,
    }


def _digest_of_set(part: ImageSet) -> str:
    return digest_of(part.images, part.labels, part.patients, part.label_names)
