"""Judge a synthetic set: every check, the controls and the gate. No recipe, no training, no Prefect."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from phantomset.data import catalogue
from phantomset.data.digest import digest_of
from phantomset.data.errors import Interrupted
from phantomset.data.records import ImageSet
from phantomset.validators import controls, gate
from phantomset.validators.context import Context
from phantomset.validators.finding import Axis, Check, Evidence, EvidenceError, Finding, Rules, Verdict
from phantomset.validators.weights import Weights

CHECKS = "phantomset.validators.checks"

JOINT = "with earlier releases"
"""The group of findings on S together with sets that were let out before."""

PATIENTS: tuple[Axis, ...] = ("privacy", "controls")
"""The axes that are about people, not about pictures."""

Report = Callable[[str], None]


def silent(_message: str) -> None:
    """Tell nobody."""


def judge(
    evidence: Evidence,
    rules: Rules,
    seed: int,
    report: Report = silent,
    *,
    earlier: Sequence[ImageSet] = (),
    leave_out: Sequence[str] = (),
    brought: Sequence[Weights] = (),
) -> Verdict:
    """Return the verdict on ``evidence.synthetic`` under the rules. Never raises on a set's content.

    Every check of the catalogue runs, then the controls, then the gate. What cannot be evaluated, or breaks
    down, is an INCONCLUSIVE finding; so a judgement that could not look never passes.

    Args:
        evidence: T, H, R and S. Images uint8 ``(N, C, H, W)`` of one shape.
        rules: the privacy policy and the fidelity profile.
        seed: of every random step; the same inputs and seed give the same verdict.
        report: told which step is done, and of none how it ended (`outcomes` tells that afterwards).
        earlier: sets of the same patients that were let out before. Whoever has the new set has them too,
            so privacy is judged once more on all of them together.
        leave_out: classes that S shall be without. Privacy is judged against all patients as before,
            fidelity and utility on the classes that remain.
        brought: extractors whose weights somebody brings; they take part in fidelity where they qualify.
    """
    evidence = replace(evidence, synthetic=without_classes(evidence.synthetic, leave_out))
    sets = (*_parts(evidence).values(), *earlier)
    more = [each.identity for each in brought]
    digest = digest_of(
        "verdict", *map(_digest_of_set, sets), rules, seed, gate.suite(), list(leave_out), *more
    )
    faults = unfit(evidence)
    if faults:
        for fault in faults:
            report(f"evidence: INCONCLUSIVE: {fault.advice}")
        return gate.decide(faults, rules, digest)
    context = Context(evidence, rules, seed, controls.control_sets, brought)
    findings = examine(context, gate.AXES if not leave_out else PATIENTS, report)
    if leave_out:
        rest = Context(remaining(evidence, leave_out), rules, seed, brought=brought)
        findings += examine(rest, tuple(axis for axis in gate.AXES if axis not in PATIENTS), report)
    if earlier:
        findings += _jointly(evidence, earlier, rules, seed, report)
    return gate.decide(findings, rules, digest)


def _jointly(
    evidence: Evidence, earlier: Sequence[ImageSet], rules: Rules, seed: int, report: Report
) -> list[Finding]:
    """Return the privacy findings on S and all earlier sets together."""
    report(f"privacy, once more, together with {len(earlier)} earlier released sets")
    together = together_with(evidence.synthetic, earlier)
    context = Context(replace(evidence, synthetic=together), rules, seed)
    return [_renamed(finding) for finding in examine(context, ("privacy",), report)]


def _renamed(finding: Finding) -> Finding:
    group = JOINT if finding.group == "all" else f"{finding.group}, {JOINT}"
    return replace(finding, group=group)


def together_with(synthetic: ImageSet, earlier: Sequence[ImageSet]) -> ImageSet:
    """Return a set and earlier ones as one; a class that the set does not have is -1."""
    code = {name: label for label, name in enumerate(synthetic.label_names)}
    labels = [synthetic.labels]
    for part in earlier:
        known = np.array([code.get(name, -1) for name in part.label_names], dtype=np.int64)
        labels.append(known[part.labels])
    images = np.concatenate([synthetic.images, *(part.images for part in earlier)])
    return ImageSet(images, np.concatenate(labels), np.full(len(images), -1), synthetic.label_names)


def without_classes(part: ImageSet, names: Sequence[str]) -> ImageSet:
    """Return a set without the images of some classes, its labels and label names as they were."""
    dropped = [label for label, name in enumerate(part.label_names) if name in names]
    return part.take(~np.isin(part.labels, dropped)) if dropped else part


def with_classes(part: ImageSet, names: Sequence[str]) -> ImageSet:
    """Return the images of the named classes alone, their labels numbered anew in that order."""
    code = np.full(len(part.label_names), -1)
    for label, name in enumerate(names):
        code[part.label_names.index(name)] = label
    kept = part.take(code[part.labels] >= 0)
    return replace(kept, labels=code[kept.labels].astype(np.int64), label_names=tuple(names))


def remaining(evidence: Evidence, leave_out: Sequence[str]) -> Evidence:
    """Return the evidence on the classes that are not left out."""
    names = [name for name in evidence.train.label_names if name not in leave_out]
    parts = {name: with_classes(part, names) for name, part in _parts(evidence).items()}
    return replace(evidence, **parts)


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
    name: str, axis: Axis, run: Callable[[], Iterable[Finding]], report: Report
) -> Sequence[Finding]:
    """Return the findings of a step; an INCONCLUSIVE one, after those it had, where it breaks down."""
    findings: list[Finding] = []
    try:
        for finding in run():
            findings.append(finding)  # noqa: PERF402 - what came before a breakdown is kept
    except Interrupted:
        raise  # somebody wants the run to stop; that says nothing about the set
    except Exception as error:
        # Whatever breaks, the set does not pass. Of what nobody foresaw the type alone is told: a message may
        # carry values.
        advice = f"The check broke down ({type(error).__name__}); its input may be too small or degenerate."
        if isinstance(error, EvidenceError):
            advice = str(error)
        findings.append(
            Finding(
                check=name, metric="could not be evaluated", axis=axis, status="INCONCLUSIVE", advice=advice
            )
        )
    report(f"{name}: done")
    return findings


def outcomes(findings: Iterable[Finding]) -> Iterator[str]:
    """Yield what each check that decides came to, in words that name no patient and no p-value.

    For the time after a verdict is on the record: who saw an alarm before could stop the judgement.
    """
    for finding in findings:
        if finding.status != "REPORTED":
            group = "" if finding.group == "all" else f", {finding.group}"
            yield f"{finding.check}: {finding.metric}{group}: {finding.status}"


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
    return digest_of(part.images, part.labels, part.patients, part.label_names, part.attributes)
