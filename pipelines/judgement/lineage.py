"""The ledger of judgements: append-only, chained under the project key, outside every workspace.

Runs belong together when their cohorts overlap by more than half, in patients or in images, whatever the
seed, the recipe's name or the workspace: what a patient is called follows from a rule of the recipe, and
another rule calls the same people otherwise. A FAIL of privacy or of its controls holds for the same model
section; leaving it needs a changed one and a written reason, and it stays on the record. A FAIL that was
found in single classes may be left, once, by releasing without these classes: the rest is judged again. A
FAIL of fidelity or utility alone blocks its set and marks nobody: trying again for better pictures exposes
no patient. A set that was let out stays on the record too: the next one from this cohort is judged together
with it.

Not to be confused with `ledger`, which says what ran.
"""

import contextlib
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from phantomset.data.digest import digest_of
from phantomset.data.errors import WorkspaceError
from phantomset.data.keys import pseudonym
from phantomset.pipelines.judgement.chain import Broken, Chain, Line
from phantomset.validators.finding import Verdict

Status = Literal["PASS", "FAIL", "INCONCLUSIVE"]

MOST_INCONCLUSIVE = 3
"""Judgements of different sets of one model section that may end INCONCLUSIVE; the next is a FAIL."""


@dataclass(frozen=True, slots=True)
class People:
    """Whose images a cohort is made of, told in two ways; an old line of the ledger has no images.

    Attributes:
        patients: the patients' pseudonyms, hashed again (`hashed`).
        images: keyed names of the images as the source gave them (`named`).
    """

    patients: frozenset[str]
    images: frozenset[str]

    @property
    def digest(self) -> str:
        """Names them on the ledger."""
        return digest_of(sorted(self.patients), sorted(self.images))

    def related(self, other: "People") -> bool:
        """Say whether two cohorts belong together: by their patients, or by their images."""
        return related(self.patients, other.patients) or related(self.images, other.images)


@dataclass(frozen=True, slots=True)
class Case:
    """What is judged: who was trained on, by which model section, giving which set.

    Attributes:
        patients: everybody in the cohort, their pseudonyms hashed again (`hashed`): another split of the same
            patients is no way around a judgement.
        section: digest of the recipe's model and image sections, without any seed.
        made: digest of the synthetic set.
        rules: digest of the gate's rules and of the suite that judges.
        recipe: the recipe's name, for the reader of the ledger.
        reason: the written reason for leaving an earlier FAIL.
        left_out: classes that the set is without.
        images: every image of the cohort (`named`): the same patients under another name are the same.
    """

    patients: frozenset[str]
    section: str
    made: str
    rules: str
    recipe: str
    reason: str | None = None
    left_out: tuple[str, ...] = ()
    images: frozenset[str] = frozenset()

    @property
    def people(self) -> People:
        """Whose images went in."""
        return People(self.patients, self.images)

    @property
    def key(self) -> str:
        """Names the judgement: the same key is the same judgement again."""
        left_out = sorted(self.left_out)
        return digest_of(sorted(self.patients), self.section, self.made, self.rules, self.reason, left_out)


@dataclass(frozen=True, slots=True)
class Settled:
    """A verdict after the record was consulted, what later readers must know, and the ledger's hash."""

    verdict: Verdict
    notes: tuple[str, ...]
    entry: str


def hashed(pseudonyms: Iterable[str]) -> frozenset[str]:
    """Return pseudonyms hashed again: the ledger must not link to a store."""
    return frozenset(hashlib.sha256(f"lineage:{name}".encode()).hexdigest()[:24] for name in pseudonyms)


def named(origins: Iterable[str]) -> frozenset[str]:
    """Return keyed names of images, from digests of their pixels as the source gave them.

    Keyed: whoever has an image at hand must not find it on the ledger.
    """
    return frozenset(pseudonym("lineage image", origin)[:24] for origin in origins)


def related(one: frozenset[str], other: frozenset[str]) -> bool:
    """Say whether two sets of names belong together: over half of the smaller is in the other.

    >>> related(frozenset("abc"), frozenset("bcxyz")), related(frozenset("ab"), frozenset("bc"))
    (True, False)
    """
    return 2 * len(one & other) > min(len(one), len(other))


class Lineage:
    """The ledger at one path."""

    def __init__(self, path: Path) -> None:
        self.path, self.chain = path, Chain(path)

    def begin(self, case: Case) -> None:
        """Write down that a set is about to be judged: one that never ended is on the record too."""
        with self.chain.locked(), contextlib.suppress(Broken):
            lines = self.chain.read()
            if not any(line.get("key") == case.key for line in lines):
                about = {"key": case.key, "section": case.section, "recipe": case.recipe}
                self.chain.append(lines, kind="begun", **about)

    def settle(self, case: Case, verdict: Verdict, anchors: Iterable[str] = ()) -> Settled:
        """Return what a fresh verdict is worth in the light of the record, and write it down.

        ``anchors`` are hashes of ledger lines that this workspace has seen: one that is missing means that
        the ledger was lost, cut or exchanged, and the verdict is INCONCLUSIVE.
        """
        with self.chain.locked():
            try:
                lines = self.chain.read()
                if not set(anchors) <= {line["hash"] for line in lines}:
                    raise Broken("judgements of this workspace are missing from it")
                record = _record(lines, case)
            except Broken as broken:
                return Settled(_inconclusive(verdict, str(broken)), (), "")
            again = next((entry for entry in record if entry.key == case.key), None)
            notes = _notes(record, case)
            if again is not None:
                return Settled(_as_recorded(verdict, again), notes, again.hash)
            settled, cause = _decide(record, case, verdict)
            return Settled(settled, notes, self._write(lines, case, verdict, settled, cause))

    def clears(self, case: Case, verdict: Verdict, anchors: Iterable[str] = ()) -> bool:
        """Say whether the record would let this very set pass, had its own judgement passed."""
        with self.chain.locked(), contextlib.suppress(Broken):
            lines = self.chain.read()
            record = _record(lines, case)
            is_whole = set(anchors) <= {line["hash"] for line in lines}
            return is_whole and _decide(record, case, replace(verdict, status="PASS"))[0].status == "PASS"
        return False

    def release(self, case: Case, known: Iterable[str]) -> None:
        """Write down, once, that a set is let out: from now on it counts against these patients.

        Raises:
            Broken: the record cannot be trusted, so nothing may be let out.
            WorkspaceError: a set of these patients was let out that is not ``known``, not judged with this.
        """
        with self.chain.locked():
            lines = self.chain.read()
            if not set(_released(lines, case)) <= set(known):
                raise WorkspaceError(
                    f"release {case.recipe}: another set of these patients was let out while this one was "
                    "judged. Run the same command again: the two are judged together."
                )
            if case.made not in {line["made"] for line in lines if line["kind"] == "released"}:
                about = {"patients": self._people(lines, case), "made": case.made, "recipe": case.recipe}
                self.chain.append(lines, kind="released", **about)

    def released(self, case: Case) -> tuple[str, ...]:
        """Return the sets of these patients that were let out, in order: all, or those before this very one.

        Of a record that cannot be trusted, none: `settle` lets nothing pass on such a record.
        """
        with self.chain.locked(), contextlib.suppress(Broken, KeyError):
            return tuple(_released(self.chain.read(), case))
        return ()

    def _people(self, lines: list[Line], case: Case) -> str:
        """Return the digest of the case's people, once they are written down."""
        people = case.people
        if not any(line["kind"] == "patients" and line["digest"] == people.digest for line in lines):
            both = {"patients": sorted(people.patients), "images": sorted(people.images)}
            self.chain.append(lines, kind="patients", digest=people.digest, **both)
        return people.digest

    def _write(self, lines: list[Line], case: Case, verdict: Verdict, settled: Verdict, cause: str) -> str:
        patients = self._people(lines, case)
        return self.chain.append(
            lines,
            kind="judgement",
            patients=patients,
            key=case.key,
            section=case.section,
            made=case.made,
            rules=case.rules,
            recipe=case.recipe,
            reason=case.reason,
            judged=verdict.status,
            privacy=_privacy(verdict),
            status=settled.status,
            marks=cause == "limit" or (cause == "judged" and _marks(verdict)),
            classes=_failed_classes(verdict),
            left_out=sorted(case.left_out),
            cause=cause,
            why=settled.reasons[0] if cause != "judged" and settled.reasons else "",
        )


@dataclass(frozen=True, slots=True)
class _Judgement:
    people: People
    key: str
    section: str
    made: str
    is_open: bool
    status: Status
    marks: bool
    why: str
    reason: str | None
    day: str
    hash: str
    classes: frozenset[str]
    left_out: frozenset[str]


def _people(lines: list[Line]) -> dict[str, People]:
    """Return who is meant by each digest; a line without images has those of the same patients elsewhere."""
    own = [line for line in lines if line["kind"] == "patients"]
    images = {tuple(line["patients"]): line["images"] for line in own if "images" in line}
    return {
        line["digest"]: People(
            frozenset(line["patients"]),
            frozenset(line.get("images", images.get(tuple(line["patients"]), ()))),
        )
        for line in own
    }


def _released(lines: list[Line], case: Case) -> list[str]:
    sets = _people(lines)
    own = (line for line in lines if line["kind"] == "released")
    known = [line["made"] for line in own if sets[line["patients"]].related(case.people)]
    return known[: known.index(case.made)] if case.made in known else known


def _record(lines: list[Line], case: Case) -> list[_Judgement]:
    """Return the judgements of the case's people, in order."""
    try:
        sets = _people(lines)
        own = (_judgement(line, sets[line["patients"]]) for line in lines if line["kind"] == "judgement")
        return [entry for entry in own if entry.people.related(case.people)]
    except (KeyError, TypeError):
        raise Broken("it was written by another version, whose lines this one cannot read") from None


def _judgement(line: Line, people: People) -> _Judgement:
    fields = ("key", "section", "made", "status", "why", "reason", "hash")
    # A line that does not say whether its FAIL marks the lineage does.
    marks = bool(line.get("marks", line["status"] == "FAIL"))
    return _Judgement(
        people,
        is_open="INCONCLUSIVE" in (line["judged"], line.get("privacy")),
        marks=marks,
        day=line["time"][:10],
        classes=frozenset(line.get("classes", ())),
        left_out=frozenset(line.get("left_out", ())),
        **{name: line[name] for name in fields},
    )


def _fails(record: list[_Judgement]) -> list[_Judgement]:
    """The FAILs that mark the lineage; one that was only inherited marks nothing anew."""
    return [entry for entry in record if entry.marks]


def _marks(verdict: Verdict) -> bool:
    """Say whether a fresh verdict is a FAIL that sticks: any but one of fidelity or utility alone."""
    failed = {axis for axis, status in verdict.axes.items() if status == "FAIL"}
    return verdict.status == "FAIL" and not (failed and failed <= {"fidelity", "utility"})


def _privacy(verdict: Verdict) -> str:
    """Return what a fresh verdict says of privacy and its controls, whatever else failed beside it."""
    outcomes = [verdict.axes[axis] for axis in ("privacy", "controls") if axis in verdict.axes]
    return next((word for word in ("FAIL", "INCONCLUSIVE") if word in outcomes), "PASS")


def _failed_classes(verdict: Verdict) -> list[str]:
    """Return the classes whose own patients were found exposed."""
    failed = (f.details.get("class") for f in verdict.findings if f.status == "FAIL")
    return sorted({str(name) for name in failed if name is not None})


def _lies_in_left_out(entry: _Judgement, case: Case) -> bool:
    """Say whether a FAIL was found in classes that the set is now without. Once: a second one sticks."""
    return bool(entry.classes) and not entry.left_out and entry.classes <= set(case.left_out)


def _decide(record: list[_Judgement], case: Case, verdict: Verdict) -> tuple[Verdict, str]:
    """Return the settled verdict and its cause: "judged", "inherited" or "limit"."""
    if verdict.status != "FAIL":
        inherited = _inherited(record, case)
        if inherited:
            return _failed(verdict, inherited), "inherited"
    # A FAIL of quality hides no open question of privacy: such a set is a try like any other.
    if "INCONCLUSIVE" in (verdict.status, _privacy(verdict)):
        section = [entry for entry in record if entry.section == case.section]
        tried = {entry.made for entry in section if entry.is_open} - {case.made}
        if len(tried) >= MOST_INCONCLUSIVE:
            return _failed(
                verdict,
                f"{len(tried)} other sets of this model section and these patients were INCONCLUSIVE; trying "
                "on until one passes is not evidence. More patients or another model section would be.",
            ), "limit"
    return verdict, "judged"


def _inherited(record: list[_Judgement], case: Case) -> str:
    """Return why an earlier FAIL holds for this set, or nothing where none does."""
    fails = [entry for entry in _fails(record) if not _lies_in_left_out(entry, case)]
    same = next((entry for entry in fails if entry.section == case.section), None)
    if same is not None:
        return (
            f"a set made by this model section from these patients ended FAIL on {same.day}; "
            f"another seed, name, subset or workspace does not clear it. {_ways_out(same)}"
        )
    if fails and case.reason is None:
        return (
            f"a set made from these patients ended FAIL on {fails[-1].day}. The recipe has changed since; "
            "write down in gate.reason why the change removes the cause, and judge again."
        )
    return ""


def _ways_out(entry: _Judgement) -> str:
    change = "Change the model or image section, and write gate.reason"
    if not entry.classes or entry.left_out:
        return f"{change}."
    # The report of the data office names the classes; this sentence may become public.
    return f"{change}; or release without the classes that failed, with gate.leave_out."


def _notes(record: list[_Judgement], case: Case) -> tuple[str, ...]:
    """Say, for every later release, which FAILs are on the record and why they were left."""
    left = f" Reason given for going on: {case.reason}" if case.reason else ""
    days = sorted({entry.day for entry in _fails(record) if entry.key != case.key})
    return tuple(f"An earlier set made from the same patients ended FAIL on {day}.{left}" for day in days)


def _as_recorded(verdict: Verdict, entry: _Judgement) -> Verdict:
    if verdict.status == entry.status and not entry.why:
        return verdict
    why = entry.why or f"this judgement is on the record as {entry.status}"
    return _changed(verdict, entry.status, why)


def _failed(verdict: Verdict, why: str) -> Verdict:
    return _changed(verdict, "FAIL", why)


def _inconclusive(verdict: Verdict, why: str) -> Verdict:
    if verdict.status == "FAIL":
        return verdict
    reason = (
        f"the ledger of judgements beside the key cannot be trusted: {why}. "
        "Restore from one backup what lies there (judgements.jsonl, judgements.head and the key); without "
        "the ledger nobody knows what was judged before."
    )
    return _changed(verdict, "INCONCLUSIVE", reason)


def _changed(verdict: Verdict, status: Status, why: str) -> Verdict:
    """Return another verdict, under another digest, with the reason in front."""
    digest = digest_of("settled", verdict.digest, status, why)
    return replace(verdict, status=status, reasons=(why, *verdict.reasons), digest=digest)
