"""Patients into train, holdout and reference: by patient, the same class mix everywhere, assigned once.

A cohort that holds images of an earlier one goes on with its split: nobody who was assigned moves, and
patients who come later are dealt by a hash at the same shares.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from phantomset.data.cohorts import enter_links
from phantomset.data.digest import digest_of
from phantomset.data.errors import SplitError, WorkspaceError
from phantomset.data.records import Cohort, Split
from phantomset.data.splitting.growth import PARTS, earlier_places, grown
from phantomset.data.workspace import Workspace, write_json

_LARGE = 3000
"""From this many patients on, more of them may train: the holdout is large enough for the attacks' power."""

_ENOUGH = 10_000
"""A holdout this large settles every test; whoever comes beyond it trains."""


class SplitSettings(BaseModel):
    """The recipe's section ``split``.

    Attributes:
        train, holdout, reference: shares of the patients, each above 0, together 1. One may be left out (it
            is the rest), or all: then 0.4 / 0.4 / 0.2 below 3,000 patients, 0.5 / 0.35 / 0.15 from there on,
            and once the holdout has 10,000, train takes the rest.
        seed: another seed is another split.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: float | None = Field(default=None, gt=0, lt=1)
    holdout: float | None = Field(default=None, gt=0, lt=1)
    reference: float | None = Field(default=None, gt=0, lt=1)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _together_one(self) -> Self:
        given = [share for share in (self.train, self.holdout, self.reference) if share is not None]
        total = sum(given)
        if len(given) == 1:
            raise ValueError("give none, two or all three of train, holdout and reference")
        if (len(given) == 3 and abs(total - 1) > 1e-6) or (len(given) == 2 and total >= 1 - 1e-6):
            raise ValueError(f"train, holdout and reference must be above 0 and together 1; found {total:g}")
        return self

    def shares(self, patients: int) -> tuple[float, float, float]:
        """Return the shares of train, holdout and reference for a cohort of that many patients."""
        given = (self.train, self.holdout, self.reference)
        if all(share is None for share in given):
            if patients < _LARGE:
                return (0.4, 0.4, 0.2)
            kept = min(1.0, _ENOUGH / (0.35 * patients))
            return (0.5, 0.35, 0.15) if kept == 1 else (1 - 0.5 * kept, 0.35 * kept, 0.15 * kept)
        rest = 1 - sum(share for share in given if share is not None)
        train, holdout, reference = (rest if share is None else share for share in given)
        return (train, holdout, reference)


def split(cohort: Cohort, settings: SplitSettings, workspace: Workspace) -> Split:
    """Return the split of a cohort: made on the first call, read on every later one.

    Groups (patients, and patients who share an image) stay whole. Each goes by the rarest class among its
    images; within a class they are ordered by a hash of the seed and of their first image as it came, and cut
    at the shares. Neither the project key nor the image size has a say in it. Where the workspace holds the
    split of a cohort with some of the same images, under the same settings, that split goes on: see
    `growth`. What would join two of its parts is in none, and in the ledger of the quarantine.

    Raises:
        SplitError: a class has too few patients for the parts; the message says how many are needed.
        WorkspaceError: the split cannot be written or read.
    """
    shares = settings.shares(len({record.subject for record in cohort.records}))
    name = digest_of("split", cohort.digest, shares, settings.seed)
    path = workspace.restricted("splits", f"{name}.json")
    if path.exists():
        return _load(path.read_bytes(), str(path))
    asked = (settings.train, settings.holdout, settings.reference)
    earlier = earlier_places(cohort, workspace, asked, shares, settings.seed)
    if earlier is None:
        parts, left_out = _assign(cohort, shares, settings.seed), ()
    else:
        shares = earlier.shares
        _hold_enough(cohort, _groups_of_each_class(cohort))
        parts, left_out = grown(cohort, earlier, settings.seed)
    made = Split(digest_of("split", cohort.digest, *parts), cohort.digest, *parts, left_out=left_out)
    content: dict[str, Any] = {
        "digest": made.digest,
        "cohort": made.cohort,
        "shares": shares,
        "seed": settings.seed,
    }
    content.update({part: getattr(made, part) for part in (*PARTS, "left_out")})
    content["asked"] = asked
    if left_out:  # first: a run that was killed before the split was written makes both anew
        enter_links(workspace, cohort, left_out)
    try:
        write_json(path, content, mode=0o600)
    except OSError as error:
        raise WorkspaceError(
            f"split: cannot write to {path.parent} ({error.strerror}). "
            "Free some space or mend the permissions, or choose another --workspace."
        ) from None
    return made


def _load(content: bytes, where: str) -> Split:
    try:
        stored = json.loads(content)
        parts = [tuple(int(p) for p in stored.get(part, ())) for part in (*PARTS, "left_out")]
        return Split(str(stored["digest"]), str(stored["cohort"]), *parts)
    except (ValueError, KeyError, TypeError):
        raise WorkspaceError(f"split: {where} is damaged. Move it away and run again.") from None


def _assign(cohort: Cohort, shares: Sequence[float], seed: int) -> list[tuple[int, ...]]:
    members: defaultdict[str, list[int]] = defaultdict(list)
    for position, record in enumerate(cohort.records):
        members[record.group].append(position)
    frequency = Counter(record.label for record in cohort.records)
    strata: defaultdict[int, list[tuple[str, list[int]]]] = defaultdict(list)
    for positions in members.values():
        labels = {cohort.records[position].label for position in positions}
        rarest = min(labels, key=lambda label: (frequency[label], label))
        first = min(cohort.records[position].origin for position in positions)
        strata[rarest].append((digest_of("order", seed, first), positions))
    _hold_enough(cohort, {label: len(strata[label]) for label in range(len(cohort.label_names))})
    parts: list[list[int]] = [[], [], []]
    for label in sorted(strata):
        ordered = [positions for _, positions in sorted(strata[label])]
        start = 0
        for part, count in zip(parts, _counts(len(ordered), shares), strict=True):
            for positions in ordered[start : start + count]:
                part.extend(positions)
            start += count
    return [tuple(sorted(part)) for part in parts]


def _groups_of_each_class(cohort: Cohort) -> dict[int, int]:
    groups: defaultdict[int, set[str]] = defaultdict(set)
    for record in cohort.records:
        groups[record.label].add(record.group)
    return {label: len(groups[label]) for label in range(len(cohort.label_names))}


def _counts(total: int, shares: Sequence[float]) -> list[int]:
    """Cut a total at the shares, largest remainder first, no part empty."""
    exact = [total * share for share in shares]
    counts = [int(value + 1e-9) for value in exact]
    for index in sorted(range(len(exact)), key=lambda i: counts[i] - exact[i])[: total - sum(counts)]:
        counts[index] += 1
    while 0 in counts:
        counts[counts.index(max(counts))] -= 1
        counts[counts.index(0)] += 1
    return counts


def _hold_enough(cohort: Cohort, patients: dict[int, int]) -> None:
    short = [
        f"{cohort.label_names[label]!r} has {count}"
        for label, count in patients.items()
        if count < len(PARTS)
    ]
    if short:
        raise SplitError(
            f"split: too few patients: {', '.join(short)}, and each of {', '.join(PARTS)} needs at least 1 "
            f"of every class: {len(PARTS)} at the least. Bring more patients, or leave the class out with "
            "source.labels.classes."
        )
