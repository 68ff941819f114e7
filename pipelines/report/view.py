"""What a public page may know: made from a draft, already coarse, so that no template can show more."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from phantomset.data.quarantine.ledger import CODES
from phantomset.pipelines.draft import Draft, Waiver, set_digest, waivable
from phantomset.pipelines.redact import coarse_note, coarse_text, public_recipe
from phantomset.pipelines.report import words
from phantomset.validators.finding import Axis, Finding
from phantomset.validators.gate import NOT_ALWAYS, REQUIRED

PEOPLE: tuple[Axis, ...] = ("privacy", "controls")
"""The axes that are about people, not about pictures."""

SEVERITY = ("FAIL", "INCONCLUSIVE", "NOT_EVALUATED", "PASS", "REPORTED")
"""Which status speaks for a check with several findings: the first that occurs."""


SPACES = {"classifier": "classifier's features", "texture": "texture features", "pixel": "pixels"}
"""Feature spaces that a figure may be given for, and how the page calls them. Other groups than these, the
classes and "all" are subgroups of patients, whose figures stay in the house."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One check in public: its question and its status, no figure."""

    check: str
    axis: Axis
    question: str
    status: str
    """Empty where it is not told."""
    is_partial: bool = False
    """Some groups were too small to be evaluated: the status is that of the others."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of fidelity or utility in public, rounded to two digits.

    ``share`` and ``baseline_share`` in [0, 1] are where value and baseline lie between the bounds, for a bar;
    None where there are no bounds.
    """

    metric: str
    group: str
    value: str
    baseline: str
    limit: str
    status: str
    share: float | None
    baseline_share: float | None
    reading: str


@dataclass(frozen=True, slots=True)
class ClassRow:
    """One class: its synthetic images, their share and the rounded share among the real ones, in percent."""

    label: str
    count: int
    share: float
    real_share: float | None


@dataclass(frozen=True, slots=True)
class PublicView:
    """Everything that the public page, the card and the markdown form show.

    ``certificate`` is what the set is good for: "words", "sentence" and "rule"; empty where it was not asked.
    """

    name: str
    status: str
    headline: str
    sentence: str
    promise: str
    reasons: tuple[str, ...]
    outcomes: tuple[Outcome, ...]
    not_evaluated: tuple[str, ...]
    axes: tuple[tuple[str, str], ...]
    power: str
    band: str
    certificate: dict[str, str]
    figures: tuple[Figure, ...]
    classes: tuple[ClassRow, ...]
    ingest: tuple[tuple[str, str], ...]
    quarantine: tuple[tuple[str, str, str], ...]
    facts: tuple[tuple[str, str], ...]
    recipe: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    events: tuple[str, ...]
    versions: tuple[tuple[str, str], ...]
    set_digest: str
    created: str


def public_view(draft: Draft, in_house: bool = False) -> PublicView:
    """Return the coarse view of a draft: rounded counts, statuses without figures for privacy, no path.

    ``in_house``: for the data office, who may also know by which question about people a set was stopped.
    """
    told = draft.public_verdict
    findings = [finding for finding in draft.verdict.findings if finding.group in _public_groups(draft)]
    outcomes = _outcomes(draft, in_house)
    status = str(told.get("status", draft.verdict.status))
    return PublicView(
        name=draft.name,
        status=status,
        headline=words.WAIVED if draft.waiver else words.HEADLINE[status],
        sentence=_sentence(status, draft.verdict.axes, str(told.get("says", "")), draft.waiver),
        promise=words.promise(told.get("differential_privacy")),
        reasons=_reasons(draft, outcomes),
        outcomes=outcomes,
        not_evaluated=_not_evaluated(outcomes),
        axes=tuple((words.AXES[axis], draft.verdict.axes.get(axis, "INCONCLUSIVE")) for axis in words.AXES),
        power=str(told.get("power", "")),
        band=_in_words(str(told.get("k95_band", ""))).replace("of T", "of the training patients"),
        certificate=told.get("certificate", {}),
        figures=tuple(_figure(item) for item in findings if _is_public_figure(item)),
        classes=_classes(draft),
        ingest=_ingest(draft),
        quarantine=quarantine_rows(draft.counts.quarantine, coarse_text),
        facts=_facts(draft),
        recipe=tuple(_flat(public_recipe(draft.recipe))),
        notes=tuple(map(coarse_note, draft.notes)),
        events=tuple(_event(event) for event in draft.events),
        versions=tuple(sorted(draft.versions.items())),
        set_digest=set_digest(draft.synthetic),
        created=draft.created,
    )


def two_digits(value: float) -> str:
    """Return a figure rounded: two decimals between 0.1 and 10, two significant digits elsewhere.

    >>> two_digits(0.98765), two_digits(123.4), two_digits(-0.00413), two_digits(0.0)
    ('0.99', '120', '-0.0041', '0')
    """
    if not np.isfinite(value):
        return "not a number"
    if value == 0 or abs(value) >= 10:
        return f"{float(f'{value:.2g}'):.0f}"
    return f"{value:.2f}" if abs(value) >= 0.1 else np.format_float_positional(float(f"{value:.2g}"))


def round_text(text: str) -> str:
    """Return a text in which every number with more than two decimals is rounded.

    >>> round_text("at least 0.8 x 0.93417")
    'at least 0.8 x 0.93'
    """
    return re.sub(r"-?\d+\.\d{3,}", lambda match: two_digits(float(match[0])), text)


def _public_groups(draft: Draft) -> set[str]:
    return {"all", *SPACES, *draft.synthetic.label_names}


def _in_words(limit: str) -> str:
    """Return a limit without signs, which a narrow column would part from their number.

    >>> _in_words(">= 0.77"), _in_words("<= 1% of T")
    ('at least 0.77', 'at most 1% of T')
    """
    for sign, word in ((">=", "at least"), ("<=", "at most"), (">", "more than"), ("<", "less than")):
        limit = limit.replace(sign, word)
    return limit


def _sentence(status: str, axes: dict[str, str], says: str, waiver: Waiver | None = None) -> str:
    if status == "PASS":
        passed = (
            "Every required privacy check passed, the controls worked, and fidelity and utility meet the "
            "profile that was fixed before training."
        )
        return f"{passed} {says}".strip()
    which = [words.AXES[axis].lower() for axis in words.AXES if axes.get(axis) == status]
    joined = " and ".join(filter(None, [", ".join(which[:-1]), *which[-1:]])) or "the record of earlier sets"
    if waiver:
        return (
            f"What was not reached: {joined}; privacy and controls passed. {waiver.name} ({waiver.role}) "
            f"waived it on {waiver.day}, until {waiver.until}: {waiver.reason}"
        )
    if status == "FAIL":
        return f"What failed: {joined}. {_what_now(axes)}"
    return f"What could not be settled: {joined}. Without sufficient evidence nothing is published."


def _what_now(axes: dict[str, str]) -> str:
    """Say what a FAIL leaves open: one of privacy, or of an earlier set, sticks to the patients."""
    if axes.get("privacy") == "FAIL" or "FAIL" not in axes.values():
        return "Nothing overrides this verdict, and a new seed does not change it."
    if waivable("FAIL", axes):
        return (
            "Only a named person's waiver, for a time, lets such a set out; a better set can be judged anew."
        )
    return "Nothing overrides this verdict; a better set can be judged anew."


def _outcomes(draft: Draft, in_house: bool) -> tuple[Outcome, ...]:
    """Return one outcome a check, in the order of the findings: the gravest status speaks for it.

    What was not evaluated speaks only where nothing was, as in the gate; else the outcome is partial. Which
    question about people stopped a set is not told in public: whoever reads it after many tries can aim at
    it. So of an axis that did not pass it is told only what was not evaluated.
    """
    by_check: dict[tuple[Axis, str], list[Finding]] = {}
    for finding in draft.verdict.findings:
        by_check.setdefault((finding.axis, finding.check), []).append(finding)
    for axis, names in REQUIRED.items():  # a required check that never spoke is told as well
        for name in names:
            by_check.setdefault((axis, name), [])
    outcomes: list[Outcome] = []
    for (axis, check), findings in by_check.items():
        found = {item.status for item in findings}
        spoke = found - {"NOT_EVALUATED"}
        status = min(spoke, key=SEVERITY.index, default="NOT_EVALUATED")
        if spoke and axis in PEOPLE and draft.verdict.axes.get(axis) != "PASS" and not in_house:
            status = ""
        outcomes.append(Outcome(check, axis, words.question(check), status, bool(spoke) and spoke != found))
    return tuple(sorted(outcomes, key=lambda item: list(words.AXES).index(item.axis)))


def _reasons(draft: Draft, outcomes: tuple[Outcome, ...]) -> tuple[str, ...]:
    """Return what decided, without figures: of questions about people the axis, of others the question.

    Where no axis has the verdict's status, it comes from the record of earlier judgements: that reason is put
    first by whoever keeps the record, and names nothing but a day and what to change.
    """
    status = draft.verdict.status
    if status == "PASS":
        return ()
    if status not in draft.verdict.axes.values():
        return draft.verdict.reasons[:1]
    axes = [
        f"{words.AXES[axis]}: {words.STATUS[status]}; the restricted report says by which question."
        for axis in PEOPLE
        if draft.verdict.axes.get(axis) == status
        and any(item.axis == axis and not item.status for item in outcomes)
    ]
    return *axes, *(
        f"{words.AXES[item.axis]}: {item.question} ({words.STATUS[item.status]})"
        for item in outcomes
        if item.status == status
        or (item.status == "NOT_EVALUATED" and item.check in REQUIRED.get(item.axis, ()))
    )


def _not_evaluated(outcomes: tuple[Outcome, ...]) -> tuple[str, ...]:
    """Return what was not asked: checks that said so, then those that cannot always ask and said nothing."""
    asked = [item.question for item in outcomes if item.status == "NOT_EVALUATED"]
    asked += [f"In part, for groups too small: {item.question}" for item in outcomes if item.is_partial]
    known = {item.check for item in outcomes}
    beyond = [words.capital(text) for name, text in NOT_ALWAYS.items() if name not in known]
    return tuple(dict.fromkeys([*asked, *beyond]))


def _is_public_figure(finding: Finding) -> bool:
    return finding.axis in ("fidelity", "utility") and not finding.restricted and finding.value is not None


def _figure(finding: Finding) -> Figure:
    return Figure(
        metric=finding.metric,
        group=_group(finding),
        value=two_digits(finding.value or 0.0),
        baseline="" if finding.baseline is None else two_digits(finding.baseline),
        limit=_in_words(round_text(finding.limit)),
        status=finding.status,
        share=_share(finding.value, finding.bounds),
        baseline_share=_share(finding.baseline, finding.bounds),
        reading=words.how_to_read(finding.check, finding.metric),
    )


def _group(finding: Finding) -> str:
    """Return of what a figure is; one in a feature space is nothing without its extractor and n."""
    if finding.group in SPACES:
        return SPACES[finding.group] + (f", n {coarse_text(finding.n)}" if finding.n else "")
    return "all classes" if finding.group == "all" else finding.group


def _share(value: float | None, bounds: tuple[float, float] | None) -> float | None:
    """Return where a value lies between finite bounds, in [0, 1] and to two digits."""
    if value is None or bounds is None or not np.isfinite([value, *bounds]).all() or bounds[0] >= bounds[1]:
        return None
    return round(min(max((value - bounds[0]) / (bounds[1] - bounds[0]), 0.0), 1.0), 2)


def _classes(draft: Draft) -> tuple[ClassRow, ...]:
    counts = np.bincount(draft.synthetic.labels, minlength=len(draft.synthetic.label_names))
    real = sum(draft.counts.classes.values())
    return tuple(
        ClassRow(
            label=label,
            count=int(count),
            share=round(100 * count / max(len(draft.synthetic), 1), 1),
            real_share=round(100 * draft.counts.classes[label] / real)
            if label in draft.counts.classes
            else None,
        )
        for label, count in zip(draft.synthetic.label_names, counts, strict=True)
    )


def _ingest(draft: Draft) -> tuple[tuple[str, str], ...]:
    counts = draft.counts
    people = "not known" if counts.patients is None else coarse_text(counts.patients)
    unit = "images" if counts.patients is None else "patients"
    rows = [("files found", coarse_text(counts.files)), ("images let in", coarse_text(counts.images))]
    rows += [("patients", people)]
    rows += [(f"{unit} in {part}", coarse_text(count)) for part, count in counts.parts.items()]
    return tuple(rows)


def quarantine_rows(counts: dict[str, int], shown: Callable[[int], str]) -> tuple[tuple[str, str, str], ...]:
    """Return code, meaning and count, as it may be shown, of what was set aside."""
    return tuple((code, CODES.get(code, ""), shown(count)) for code, count in sorted(counts.items()))


def _facts(draft: Draft) -> tuple[tuple[str, str], ...]:
    images = draft.synthetic.images
    channels = "grey" if images.shape[1] == 1 else "RGB"
    family = str(draft.recipe.get("model", {}).get("family", "not named"))
    parts = draft.counts.parts
    unit = "images" if draft.counts.patients is None else "patients"
    return (
        ("Synthetic images", f"{len(images):,} in {len(draft.synthetic.label_names)} classes"),
        ("Size", f"{images.shape[3]} x {images.shape[2]} px, {channels}"),
        ("Generator", family),
        ("Suite", draft.verdict.suite),
        ("Learned from", f"{coarse_text(parts['train'])} {unit}" if "train" in parts else "not known"),
        ("Compared with", f"{coarse_text(parts['holdout'])} unseen" if "holdout" in parts else "not known"),
        ("Privacy policy", draft.verdict.rules.privacy),
        ("Fidelity profile", draft.verdict.rules.fidelity),
        *_promised(draft.public_verdict),
    )


def _promised(told: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return the row on differential privacy; none where the set was made elsewhere and nobody knows."""
    if "differential_privacy" not in told:
        return ()
    private = told["differential_privacy"]
    return (("Differential privacy", f"epsilon {private['epsilon']:g}" if private else "none"),)


def _flat(value: Any, before: str = "") -> list[tuple[str, str]]:
    """Return a nested section as rows of dotted key and value; what is empty is "none"."""
    if isinstance(value, dict):
        section = cast("dict[str, Any]", value)
        rows = [row for key, item in section.items() for row in _flat(item, f"{before}.{key}".lstrip("."))]
        return rows or [(before, "none")]
    if isinstance(value, list | tuple):
        return [(before, ", ".join(map(str, cast("Sequence[Any]", value))) or "none")]
    if isinstance(value, bool):
        return [(before, "yes" if value else "no")]
    return [(before, "none" if value in (None, "") else str(value))]


def _event(event: dict[str, Any]) -> str:
    """Return a training event in sentences: after how many images, what happened, what to do about it."""
    return f"After {event['images']:,} images, {event['code']}: {event['message']}. {event['advice']}"
