"""What a run hands over when it has been judged: the one noun that release and report are made from."""

from dataclasses import dataclass, field
from typing import Any

from phantomset.data.digest import digest_of
from phantomset.data.records import ImageSet
from phantomset.validators.finding import Verdict

WAIVABLE = "fidelity"
"""The one axis that people may waive."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How much came in, how much was kept out, and how it was shared out. Exact: public forms round them.

    Attributes:
        files: everything that the source found; ``files == images + sum(quarantine.values())``.
        images: images that were let in.
        patients: patients behind them; None where the source knows no patients.
        classes: real images by label name.
        quarantine: files kept out, by reason code.
        dropped: header elements that de-identification took away, by rule. Restricted.
        parts: patients (images, where there are no patients) in "train", "holdout" and "reference".
    """

    files: int
    images: int
    patients: int | None
    classes: dict[str, int]
    quarantine: dict[str, int] = field(default_factory=dict[str, int])
    dropped: dict[str, int] = field(default_factory=dict[str, int])
    parts: dict[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True)
class Origin:
    """What a set was made of, by digests and pseudonyms. Restricted: it never leaves.

    Attributes:
        cohort, split, checkpoint: digests of the nouns.
        patients: pseudonyms of the patients of "train", "holdout" and "reference".
    """

    cohort: str = ""
    split: str = ""
    checkpoint: str = ""
    patients: dict[str, list[str]] = field(default_factory=dict[str, list[str]])


@dataclass(frozen=True, slots=True)
class Waiver:
    """A named person's word that a set which failed in fidelity alone is let out.

    Attributes:
        name, role: who answers for it.
        day, until: first and last day on which it holds, ISO.
        reason: why; receivers read it.
    """

    name: str
    role: str
    day: str
    until: str
    reason: str


@dataclass(frozen=True, slots=True)
class Draft:
    """A judged synthetic set, before anything of it is written where others can read it.

    Attributes:
        name: name of the recipe and of the release: letters, digits, ``. _ -``.
        recipe: the recipe with every default filled in, as plain data. Paths in it never leave (`redact`).
        synthetic: the set that was judged.
        verdict: the full verdict. Restricted.
        public_verdict: the coarse form that `validators.gate.public` makes: the only one written outside.
        counts: what ingest and split saw.
        curve: rows of train.jsonl in order: ``images`` shown so far, and named numbers.
        notes: sentences about the cohort, such as "pixels were not screened for burned-in text".
        events: what happened in training: ``code``, ``images`` shown so far, ``message``, ``advice``.
        versions: versions of the packages that made the set.
        created: ISO date; the one thing in a release that depends on the day.
        recipe_digest: digest of the recipe without its paths; made from `recipe` where it is empty.
        origin: where the set came from. Restricted.
        waiver: what lets it out though it failed in fidelity; None where nothing does.
    """

    name: str
    recipe: dict[str, Any]
    synthetic: ImageSet
    verdict: Verdict
    public_verdict: dict[str, Any]
    counts: Counts
    curve: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    events: tuple[dict[str, Any], ...] = ()
    versions: dict[str, str] = field(default_factory=dict[str, str])
    created: str = ""
    recipe_digest: str = ""
    origin: Origin = field(default_factory=Origin)
    waiver: Waiver | None = None


def set_digest(synthetic: ImageSet) -> str:
    """Return the digest of a synthetic set: its images, labels and label names, in order."""
    return digest_of(synthetic.images, synthetic.labels, list(synthetic.label_names))


def waivable(status: str, axes: dict[str, str]) -> bool:
    """Say whether a waiver can let a set out: all axes passed but fidelity, and nothing else blocks it.

    >>> waivable("FAIL", {"privacy": "PASS", "controls": "PASS", "fidelity": "FAIL", "utility": "PASS"})
    True
    >>> waivable("FAIL", {"privacy": "FAIL", "controls": "PASS", "fidelity": "FAIL", "utility": "PASS"})
    False
    """
    others = {axis: outcome for axis, outcome in axes.items() if axis != WAIVABLE}
    is_whole = {"privacy", "controls", "utility"} <= others.keys() and set(others.values()) == {"PASS"}
    # A status that no axis explains comes from the record of earlier sets, and is about people.
    return is_whole and status != "PASS" and axes.get(WAIVABLE) == status


def is_let_out(draft: Draft) -> bool:
    """Say whether a draft may be shown to others: it passed, or fidelity alone failed and was waived."""
    status, told = draft.verdict.status, draft.public_verdict
    if told.get("status") != status:
        return False
    is_waived = draft.waiver is not None and waivable(status, draft.verdict.axes)
    return status == "PASS" or (is_waived and told.get("axes") == draft.verdict.axes)
