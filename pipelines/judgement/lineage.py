"""The ledger of judgements: append-only, chained under the project key, outside every workspace.

Runs belong together when their cohorts overlap by more than half, in patients or in images, whatever the
seed, the recipe's name or the workspace: what a patient is called follows from a rule of the recipe, and
another rule calls the same people otherwise. A FAIL of privacy or of its controls holds for the same model
section; leaving it needs a changed one and a written reason, and it stays on the record. A FAIL that was
found in single classes may be left, once, by releasing without these classes: the rest is judged again. Was
it found beyond these classes too, the rest of that very set must pass first: whether the classes were its
cause nothing else can tell. Of one judgement that came out twice the worse holds. A FAIL of fidelity or
utility alone blocks its set and marks nobody: trying again for better pictures exposes no patient. The rules
that judged stand on the record: what did not pass under them passes under laxer ones for no set that the same
model section makes. After three sets that told nothing a PASS needs a written reason. A set that was let out
stays on the record too: the next one from this cohort is judged together with it.

Not to be confused with `ledger`, which says what ran.
"""

import contextlib
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from phantomset.data.errors import WorkspaceError
from phantomset.data.keys import pseudonym
from phantomset.pipelines.judgement.chain import Broken, Chain, Line
from phantomset.pipelines.judgement.record import Case, everybody, gravity, judged, policy_of, released
from phantomset.pipelines.judgement.settling import (
    as_recorded,
    decide,
    fails,
    is_left,
    notes,
    otherwise,
    privacy_of,
    untrusted,
)
from phantomset.validators.finding import Verdict


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
                record = judged(lines, case.people)
            except Broken as broken:
                return Settled(untrusted(verdict, str(broken)), (), "")
            own = [entry for entry in record if entry.key == case.key]
            worst = max(own, key=lambda entry: entry.gravity, default=None)
            # The same judgement may come out worse, on another machine; then that is news, and holds.
            if worst is not None and worst.gravity >= gravity(verdict.status, privacy_of(verdict)):
                settled, entry = as_recorded(verdict, worst), worst.hash
            else:
                settled, cause = decide(record, case, verdict)
                entry = self._write(lines, case, verdict, settled, cause)
            return Settled(settled, (*notes(record, case, verdict.rules), *otherwise(own, settled)), entry)

    def clears(self, case: Case, verdict: Verdict, anchors: Iterable[str] = ()) -> bool:
        """Say whether the record would let this very set pass, had its own judgement passed."""
        with self.chain.locked(), contextlib.suppress(Broken):
            lines = self.chain.read()
            record = judged(lines, case.people)
            is_whole = set(anchors) <= {line["hash"] for line in lines}
            was_open = any(entry.key == case.key and entry.privacy != "PASS" for entry in record)
            settled, _ = decide(record, case, replace(verdict, status="PASS"))
            return is_whole and not was_open and settled.status == "PASS"
        return False

    def release(self, case: Case, known: Iterable[str]) -> None:
        """Write down, once, that a set is let out: from now on it counts against these patients.

        Raises:
            Broken: the record cannot be trusted, so nothing may be let out.
            WorkspaceError: a set of these patients was let out that is not ``known``, not judged with this.
        """
        with self.chain.locked():
            lines = self.chain.read()
            if not set(released(lines, case.people, case.made)) <= set(known):
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
            return tuple(released(self.chain.read(), case.people, case.made))
        return ()

    def failed_since(self) -> dict[str, str]:
        """Return the day of the FAIL that sets which were let out have come to stand under, by their digest.

        Such a set would not be let out today: it was judged again and failed, or another one did that the
        same model section made from the same patients.

        Raises:
            Broken: the record cannot be trusted, so nobody knows.
        """
        if not self.path.exists():
            return {}
        with self.chain.locked():
            lines = self.chain.read()
        found: dict[str, str] = {}
        for made, people in everybody(lines):
            record = judged(lines, people)
            own = [entry for entry in record if entry.made == made]
            sections = {entry.section for entry in own}
            days = [
                entry.day
                for entry in fails(record)
                if entry.section in sections and not is_left(entry, record, own[0])
            ]
            found.update({made: min(days)} if days else {})
        return found

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
            whole=case.whole or case.made,
            rules=case.rules,
            recipe=case.recipe,
            reason=case.reason,
            judged=verdict.status,
            privacy=privacy_of(verdict),
            policy=policy_of(verdict.rules),
            status=settled.status,
            marks=cause == "limit" or (cause == "judged" and _marks(verdict)),
            classes=_failed_classes(verdict),
            wider=_fails_beyond_classes(verdict),
            left_out=sorted(case.left_out),
            cause=cause,
            why=settled.reasons[0] if cause != "judged" and settled.reasons else "",
        )


def _marks(verdict: Verdict) -> bool:
    """Say whether a fresh verdict is a FAIL that sticks: any but one of fidelity or utility alone."""
    failed = {axis for axis, status in verdict.axes.items() if status == "FAIL"}
    return verdict.status == "FAIL" and not (failed and failed <= {"fidelity", "utility"})


def _failed_classes(verdict: Verdict) -> list[str]:
    """Return the classes whose own patients were found exposed."""
    failed = (f.details.get("class") for f in verdict.findings if f.status == "FAIL")
    return sorted({str(name) for name in failed if name is not None})


def _fails_beyond_classes(verdict: Verdict) -> bool:
    """Say whether others than the patients of single classes were found exposed, or a control failed."""
    failed = (f for f in verdict.findings if f.status == "FAIL" and f.axis in ("privacy", "controls"))
    return any(f.details.get("class") is None for f in failed)
