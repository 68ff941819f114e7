"""What the lines of the ledger say: whose images were judged, how that ended, and what was let out."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from phantomset.data.digest import digest_of
from phantomset.pipelines.judgement.chain import Broken, Line
from phantomset.validators.finding import Rules
from phantomset.validators.policy import MARGINS

Status = Literal["PASS", "FAIL", "INCONCLUSIVE"]

_ANOTHER_VERSION = "it was written by another version, whose lines this one cannot read"

GRAVITY = ("PASS", "INCONCLUSIVE", "FAIL")
"""The outcomes, the gravest last."""


@dataclass(frozen=True, slots=True)
class People:
    """Whose images a cohort is made of, told in two ways; an old line of the ledger has no images.

    Attributes:
        patients: the patients' pseudonyms, hashed again.
        images: keyed names of the images as the source gave them.
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


def related(one: frozenset[str], other: frozenset[str]) -> bool:
    """Say whether two sets of names belong together: over half of the smaller is in the other.

    >>> related(frozenset("abc"), frozenset("bcxyz")), related(frozenset("ab"), frozenset("bc"))
    (True, False)
    """
    return 2 * len(one & other) > min(len(one), len(other))


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
        whole: digest of the set before classes were left out; empty where none were.
    """

    patients: frozenset[str]
    section: str
    made: str
    rules: str
    recipe: str
    reason: str | None = None
    left_out: tuple[str, ...] = ()
    images: frozenset[str] = frozenset()
    whole: str = ""

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
class Judged:
    """One judgement on the ledger.

    Attributes:
        people: whose images went in.
        key: names the judgement: the same key is the same judgement again.
        section: digest of the recipe's model and image sections.
        made: digest of the set that was judged.
        whole: digest of that set before classes were left out of it.
        status: the settled verdict.
        privacy: what the judges themselves said of privacy and its controls.
        gravity: how bad it is: by the verdict, then by what was said of privacy.
        is_own: the status is what the judges said; nothing was inherited, no limit was reached.
        is_open: a try that said nothing.
        marks: a FAIL that sticks to the people.
        why: the record's reason for another status than the judges'.
        reason: the recipe's written reason for going on after an earlier FAIL.
        day: ISO.
        hash: of the line.
        classes: classes whose own patients were found exposed.
        is_wider: a FAIL was found among others than the patients of single classes too.
        left_out: classes that the set was without.
        rules: what the judges asked of privacy.
    """

    people: People
    key: str
    section: str
    made: str
    whole: str
    status: Status
    privacy: str
    gravity: tuple[int, int]
    is_own: bool
    is_open: bool
    marks: bool
    why: str
    reason: str | None
    day: str
    hash: str
    classes: frozenset[str]
    is_wider: bool
    left_out: frozenset[str]
    rules: Rules


def gravity(status: str, privacy: str) -> tuple[int, int]:
    """Return how bad a verdict is, so that two can be compared; a `ValueError` for a word that none is.

    >>> gravity("FAIL", "PASS") < gravity("FAIL", "FAIL")
    True
    """
    return GRAVITY.index(status), GRAVITY.index(privacy)


def judged(lines: list[Line], people: People) -> list[Judged]:
    """Return the judgements of some people, in order.

    Raises:
        Broken: a line lacks what a judgement needs.
    """
    try:
        sets = _people(lines)
        own = (_judged(line, sets[line["patients"]]) for line in lines if line["kind"] == "judgement")
        return [entry for entry in own if entry.people.related(people)]
    except (KeyError, TypeError, ValueError):
        raise Broken(_ANOTHER_VERSION) from None


def released(lines: Iterable[Line], people: People, made: str) -> list[str]:
    """Return the sets of some people that were let out, in order: all, or those before ``made``."""
    lines = list(lines)
    sets = _people(lines)
    own = (line for line in lines if line["kind"] == "released")
    known = [line["made"] for line in own if sets[line["patients"]].related(people)]
    return known[: known.index(made)] if made in known else known


def everybody(lines: list[Line]) -> list[tuple[str, People]]:
    """Return every set that was let out, and whose images went in.

    Raises:
        Broken: a line lacks what that needs.
    """
    try:
        sets = _people(lines)
        return [(line["made"], sets[line["patients"]]) for line in lines if line["kind"] == "released"]
    except (KeyError, TypeError, ValueError):
        raise Broken(_ANOTHER_VERSION) from None


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


def policy_of(rules: Rules) -> dict[str, Any]:
    """Return what rules ask of privacy, as a line keeps it."""
    return {
        "privacy": rules.privacy,
        "conclusive": sorted(rules.conclusive),
        "cross_fit": rules.cross_fit,
    }


def _rules(policy: dict[str, Any]) -> Rules:
    """Return the rules that a line keeps; those of the shipped recipes where it is of an earlier version."""
    privacy = policy.get("privacy", "standard")
    if privacy not in MARGINS:
        raise ValueError(f"no privacy policy: {privacy!r}")
    conclusive = tuple(policy.get("conclusive", ()))
    return Rules(privacy, conclusive=conclusive, cross_fit=bool(policy.get("cross_fit", False)))


def _judged(line: Line, people: People) -> Judged:
    """Return a line's judgement; what a line of an earlier version does not say is taken at its worst."""
    fields = ("key", "section", "made", "status", "why", "reason", "hash")
    privacy = str(line.get("privacy", line["judged"]))
    return Judged(
        people,
        whole=str(line.get("whole", line["made"])),
        privacy=privacy,
        gravity=gravity(line["status"], privacy),
        is_own=line.get("cause") == "judged",
        is_open="INCONCLUSIVE" in (line["judged"], privacy),
        marks=bool(line.get("marks", line["status"] == "FAIL")),
        day=line["time"][:10],
        classes=frozenset(line.get("classes", ())),
        is_wider=bool(line.get("wider", True)),
        left_out=frozenset(line.get("left_out", ())),
        rules=_rules(line.get("policy", {})),
        **{name: line[name] for name in fields},
    )
