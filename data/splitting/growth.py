"""How a split goes on when data is added: nobody moves, who is new is dealt by a hash at the same shares."""

import itertools
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from phantomset.data.digest import digest_of
from phantomset.data.records import Cohort
from phantomset.data.workspace import Workspace

PARTS = ("train", "holdout", "reference")

_HASH_DIGITS = 13
"""Hexadecimal digits of a hash that a float holds exactly."""


@dataclass(slots=True)
class Places:
    """Where images and patients stand already: the number of the part, 0 to 2, by origin and by patient."""

    shares: tuple[float, float, float]
    images: dict[str, int] = field(default_factory=dict[str, int])
    patients: dict[str, int] = field(default_factory=dict[str, int])


def earlier_places(
    cohort: Cohort,
    workspace: Workspace,
    asked: Sequence[float | None],
    shares: tuple[float, float, float],
    seed: int,
) -> Places | None:
    """Return where the images of earlier cohorts stand that share an image with this one; None: none does.

    Splits under another seed, or other shares than asked for, are other splits. Where two earlier splits
    speak of one patient, the one of the smaller cohort counts: it was there first.
    """
    origins = {record.origin for record in cohort.records}
    found: list[tuple[int, str, dict[str, Any], list[tuple[str, str]]]] = []
    for path in sorted(workspace.restricted("splits").glob("*.json")):
        stored = _read(path)
        same = stored.get("asked") == list(asked) or stored.get("shares") == list(shares)
        if not same or stored.get("seed") != seed or stored.get("cohort") == cohort.digest:
            continue
        records = _records(workspace, str(stored["cohort"]))
        if origins.intersection(origin for origin, _ in records):
            found.append((len(records), path.name, stored, records))
    if not found:
        return None
    found.sort(key=lambda item: item[:2])
    first, second, third = found[0][2]["shares"]
    places = Places((float(first), float(second), float(third)))
    for _, _, stored, records in found:
        for number, part in enumerate(PARTS):
            for position in cast(list[int], stored[part]):
                origin, patient = records[position]
                places.images.setdefault(origin, number)
                places.patients.setdefault(patient, number)
    return places


def grown(cohort: Cohort, earlier: Places, seed: int) -> tuple[list[tuple[int, ...]], tuple[int, ...]]:
    """Return the positions of each part, and those of the records that would join two parts.

    A group goes where its images or patients stand. A group of which some stand here and some there keeps
    them where they are, and what is new in it is left out. A group that is all new is dealt by a hash.
    """
    members: defaultdict[str, list[int]] = defaultdict(list)
    for position, record in enumerate(cohort.records):
        members[record.group].append(position)
    parts: tuple[list[int], ...] = ([], [], [])
    left_out: list[int] = []
    for positions in members.values():
        known: set[int] = set()
        for position in positions:
            record = cohort.records[position]
            known |= {earlier.images.get(record.origin, -1), earlier.patients.get(record.subject, -1)}
        known.discard(-1)
        if len(known) > 1:
            _keep_apart(cohort, positions, earlier, parts, left_out)
            continue
        first = min(cohort.records[position].origin for position in positions)
        part = known.pop() if known else dealt(first, earlier.shares, seed)
        parts[part].extend(positions)
    return [tuple(sorted(part)) for part in parts], tuple(sorted(left_out))


def dealt(name: str, shares: Sequence[float], seed: int) -> int:
    """Return the part that a hash of the seed and a name falls into, at the given shares."""
    chance = int(digest_of("deal", seed, name)[:_HASH_DIGITS], 16) / 16**_HASH_DIGITS
    bounds = list(itertools.accumulate(shares))
    return next((number for number, bound in enumerate(bounds) if chance < bound), len(bounds) - 1)


def _keep_apart(
    cohort: Cohort,
    positions: Sequence[int],
    earlier: Places,
    parts: tuple[list[int], ...],
    left_out: list[int],
) -> None:
    """Leave the images that were there where they stand, as long as their patient stands there too."""
    for position in positions:
        record = cohort.records[position]
        image, patient = earlier.images.get(record.origin), earlier.patients.get(record.subject)
        if image is not None and patient in (None, image):
            parts[image].append(position)
        else:
            left_out.append(position)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
        complete = all(key in content for key in ("cohort", "shares", "seed", *PARTS))
    except (OSError, ValueError, TypeError):
        return {}
    return content if complete else {}


def _records(workspace: Workspace, cohort: str) -> list[tuple[str, str]]:
    """The origin and the patient of each record of a stored cohort, in its order; none where it is gone."""
    import pandas as pd

    path = workspace.restricted("cohorts", cohort, "records.parquet")
    try:
        frame = pd.read_parquet(path, columns=["origin", "subject"])
    except (OSError, ValueError, KeyError):
        return []
    return [(str(a), str(b)) for a, b in zip(frame["origin"], frame["subject"], strict=True)]
