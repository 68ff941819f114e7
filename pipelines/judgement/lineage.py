"""The ledger of judgements: append-only, hash-chained, beside the key and outside every workspace.

Runs belong together when their cohorts' patients overlap by more than half, whatever the seed, the recipe's
name or the workspace. A FAIL of privacy or of its controls holds for the same model section; leaving it needs
a changed one and a written reason, and it stays on the record. A FAIL that was found in single classes may be
left, once, by releasing without these classes: the rest is judged again. A FAIL of fidelity or utility alone
blocks its set and marks nobody: trying again for better pictures exposes no patient. A set that was let out
stays on the record too: the next one from these patients is judged together with it.

Not to be confused with `ledger`, which says what ran.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Generator, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from phantomset.data.digest import digest_of
from phantomset.data.errors import WorkspaceError
from phantomset.validators.finding import Verdict

FIRST = "0" * 64
"""What the first line names as the hash before it."""

Status = Literal["PASS", "FAIL", "INCONCLUSIVE"]

MOST_INCONCLUSIVE = 3
"""Judgements of different sets of one model section that may end INCONCLUSIVE; the next is a FAIL."""


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
    """

    patients: frozenset[str]
    section: str
    made: str
    rules: str
    recipe: str
    reason: str | None = None
    left_out: tuple[str, ...] = ()

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


class Broken(Exception):  # noqa: N818 - a state of the record, answered by INCONCLUSIVE
    """The record cannot be trusted; the text says why."""


def hashed(pseudonyms: Iterable[str]) -> frozenset[str]:
    """Return pseudonyms hashed again: the ledger must not link to a store."""
    return frozenset(hashlib.sha256(f"lineage:{name}".encode()).hexdigest()[:24] for name in pseudonyms)


def related(one: frozenset[str], other: frozenset[str]) -> bool:
    """Say whether two sets of patients belong together: over half of the smaller is in the other.

    >>> related(frozenset("abc"), frozenset("bcxyz")), related(frozenset("ab"), frozenset("bc"))
    (True, False)
    """
    return 2 * len(one & other) > min(len(one), len(other))


class Lineage:
    """The ledger at one path."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, case: Case) -> None:
        """Write down that a set is about to be judged: one that never ended is on the record too."""
        with self._locked(), contextlib.suppress(Broken):
            lines = self._read()
            if not any(line.get("key") == case.key for line in lines):
                last = lines[-1]["hash"] if lines else FIRST
                self._append(last, kind="begun", key=case.key, section=case.section, recipe=case.recipe)

    def settle(self, case: Case, verdict: Verdict, anchors: Iterable[str] = ()) -> Settled:
        """Return what a fresh verdict is worth in the light of the record, and write it down.

        ``anchors`` are hashes of ledger lines that this workspace has seen: one that is missing means that
        the ledger was lost, cut or exchanged, and the verdict is INCONCLUSIVE.
        """
        with self._locked():
            try:
                lines = self._read()
                if not set(anchors) <= {line["hash"] for line in lines}:
                    raise Broken("judgements of this workspace are missing from it")
                record = [entry for entry in _judgements(lines) if related(entry.patients, case.patients)]
            except Broken as broken:
                return Settled(_inconclusive(verdict, str(broken)), (), "")
            again = next((entry for entry in record if entry.key == case.key), None)
            notes = _notes(record, case)
            if again is not None:
                return Settled(_as_recorded(verdict, again), notes, again.hash)
            settled, cause = _decide(record, case, verdict)
            return Settled(settled, notes, self._record(lines, case, verdict, settled, cause))

    def clears(self, case: Case, verdict: Verdict, anchors: Iterable[str] = ()) -> bool:
        """Say whether the record would let this very set pass, had its own judgement passed."""
        with self._locked(), contextlib.suppress(Broken):
            lines = self._read()
            record = [entry for entry in _judgements(lines) if related(entry.patients, case.patients)]
            is_whole = set(anchors) <= {line["hash"] for line in lines}
            return is_whole and _decide(record, case, replace(verdict, status="PASS"))[0].status == "PASS"
        return False

    def release(self, case: Case, known: Iterable[str]) -> None:
        """Write down, once, that a set is let out: from now on it counts against these patients.

        Raises:
            Broken: the record cannot be trusted, so nothing may be let out.
            WorkspaceError: a set of these patients was let out that is not ``known``, not judged with this.
        """
        with self._locked():
            lines = self._read()
            if not set(_released(lines, case)) <= set(known):
                raise WorkspaceError(
                    f"release {case.recipe}: another set of these patients was let out while this one was "
                    "judged. Run the same command again: the two are judged together."
                )
            if case.made not in {line["made"] for line in lines if line["kind"] == "released"}:
                patients, last = self._patients(lines, case)
                self._append(last, kind="released", patients=patients, made=case.made, recipe=case.recipe)

    def released(self, case: Case) -> tuple[str, ...]:
        """Return the sets of these patients that were let out, in order: all, or those before this very one.

        Of a record that cannot be trusted, none: `settle` lets nothing pass on such a record.
        """
        with self._locked(), contextlib.suppress(Broken, KeyError):
            return tuple(_released(self._read(), case))
        return ()

    def _patients(self, lines: list[Any], case: Case) -> tuple[str, str]:
        """Return the digest of the case's patients and the last hash, once the patients are written down."""
        patients = digest_of(sorted(case.patients))
        last = lines[-1]["hash"] if lines else FIRST
        if not any(line["kind"] == "patients" and line["digest"] == patients for line in lines):
            last = self._append(last, kind="patients", digest=patients, patients=sorted(case.patients))
        return patients, last

    def _record(self, lines: list[Any], case: Case, verdict: Verdict, settled: Verdict, cause: str) -> str:
        patients, last = self._patients(lines, case)
        return self._append(
            last,
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

    def _read(self) -> list[dict[str, Any]]:
        """Return the lines in order; an unterminated last line is an append that a crash cut off."""
        if not self.path.exists():
            return []
        raw = self.path.read_bytes()
        whole, _, torn = raw.rpartition(b"\n")
        if torn:
            os.truncate(self.path, len(raw) - len(torn))
        lines: list[dict[str, Any]] = []
        before = FIRST
        for number, text in enumerate(whole.split(b"\n") if whole else [], 1):
            line = _line(text)
            if line is None or line["previous"] != before:
                raise Broken(f"its line {number} was altered, or a line before it was taken out")
            before = str(line["hash"])
            lines.append(line)
        return lines

    def _append(self, previous: str, **content: Any) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line: dict[str, Any] = {"previous": previous, "time": stamp, **content}
        line["hash"] = _hash(line)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            text = (json.dumps(line, sort_keys=True) + "\n").encode()
            if os.write(descriptor, text) < len(text):  # the next reader takes the part away
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return str(line["hash"])

    @contextlib.contextmanager
    def _locked(self) -> Generator[None]:
        """Let one process at a time read and append; a `WorkspaceError` where the file system refuses."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield
            finally:
                os.close(descriptor)
        except OSError as error:
            raise WorkspaceError(
                f"ledger of judgements: cannot read or write {self.path} ({error.strerror}). What cannot be "
                "written down is not judged: make the key's folder writable, or free some space there."
            ) from None


@dataclass(frozen=True, slots=True)
class _Judgement:
    patients: frozenset[str]
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


def _patients(lines: list[dict[str, Any]]) -> dict[str, frozenset[str]]:
    return {line["digest"]: frozenset(line["patients"]) for line in lines if line["kind"] == "patients"}


def _released(lines: list[dict[str, Any]], case: Case) -> list[str]:
    sets = _patients(lines)
    own = (line for line in lines if line["kind"] == "released")
    known = [line["made"] for line in own if related(sets[line["patients"]], case.patients)]
    return known[: known.index(case.made)] if case.made in known else known


def _judgements(lines: list[dict[str, Any]]) -> list[_Judgement]:
    try:
        sets = _patients(lines)
        return [_judgement(line, sets[line["patients"]]) for line in lines if line["kind"] == "judgement"]
    except (KeyError, TypeError):
        raise Broken("it was written by another version, whose lines this one cannot read") from None


def _judgement(line: dict[str, Any], patients: frozenset[str]) -> _Judgement:
    fields = ("key", "section", "made", "status", "why", "reason", "hash")
    # A line that does not say whether its FAIL marks the lineage does.
    marks = bool(line.get("marks", line["status"] == "FAIL"))
    return _Judgement(
        patients,
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
        "Restore it from a backup; without it nobody knows what was judged before."
    )
    return _changed(verdict, "INCONCLUSIVE", reason)


def _changed(verdict: Verdict, status: Status, why: str) -> Verdict:
    """Return another verdict, under another digest, with the reason in front."""
    digest = digest_of("settled", verdict.digest, status, why)
    return replace(verdict, status=status, reasons=(why, *verdict.reasons), digest=digest)


def _line(text: bytes) -> dict[str, Any] | None:
    """Return a line of the ledger, or None where it does not give its own hash."""
    try:
        line: dict[str, Any] = json.loads(text)
        return line if line["hash"] == _hash(line) else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _hash(line: dict[str, Any]) -> str:
    content = {name: value for name, value in line.items() if name != "hash"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
