"""Who belongs together, and which images contradict each other: settled before a cohort is made.

A group is what must never be cut by a split: a patient, the images of one study, copies, near-copies,
and what a column of the user's joins. Groups are the connected parts of these links (union-find).
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from phantomset.data.deidentify import SLICES_OF_A_FACE
from phantomset.data.keys import pseudonym
from phantomset.data.quarantine.ledger import Ledger
from phantomset.data.splitting.duplicates import DUPLICATE, told_apart

_PART = re.compile(r"#\d{6}\Z")
_VOLUMES = ("CT", "MR", "PT")
_GEOMETRY = ("Rows", "Columns", "PixelSpacing")
_PARTS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
_FAR_ABOVE_CHANCE = 5.0
"""Standard deviations."""


class DuplicateSettings(BaseModel):
    """The recipe's section ``duplicates``.

    Attributes:
        near: what happens to pictures that are nearly the same: ``group`` keeps them in one part of the
            split, ``drop`` keeps one of them, ``off`` does not look for them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    near: Literal["group", "drop", "off"] = "group"


@dataclass(frozen=True, slots=True)
class Entry:
    """An image that is in the store and waits for its place in the cohort.

    ``links`` are keyed pseudonyms; ``thumbnail`` is the digest of a small picture in the store, made from a
    picture whose smaller side was ``side_px``.
    """

    key: str
    digest: str
    origin: str
    subject: str | None
    label: str | None
    attributes: dict[str, str]
    spacing_mm: float | None
    links: dict[str, str]
    is_doubtful: bool = False
    thumbnail: str = ""
    side_px: int = 0

    @property
    def owner(self) -> str:
        """The patient; where the source names none, the image itself."""
        return self.subject if self.subject is not None else pseudonym("image", self.origin)

    @property
    def file(self) -> str:
        """The key of the file, which may hold a ``#`` of its own, without the number of a frame or page."""
        return _PART.sub("", self.key)


Kept = dict[str, list[Entry]]
"""For each digest that is kept, every entry that it stands for."""


def without_conflicts(
    entries: Sequence[Entry], ledger: Ledger, accept_faces: bool, waived: Callable[[str], frozenset[str]]
) -> list[Entry]:
    """Take out what contradicts itself: one instance with two pictures, one study of two patients, one series
    of two modalities.

    Volumes that may show a head are taken out as well, unless the recipe accepts them or a person released
    the file.
    """
    pictures: defaultdict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    instances = Counter(entry.links["instance"] for entry in entries if "instance" in entry.links)
    patients: dict[str, str] = {}
    torn: set[str] = set()
    slices: Counter[str] = Counter()
    for entry in entries:
        instance, study = entry.links.get("instance", ""), entry.links.get("study")
        if instances[instance] > 1:
            pictures[instance][entry.file].add(entry.digest)
        if study is not None and patients.setdefault(study, entry.owner) != entry.owner:
            torn.add(study)
        if "head" in entry.links:
            slices[entry.links["head"]] += 1

    changing = _changing_series(entries)

    def code(entry: Entry) -> str | None:
        files = list(pictures.get(entry.links.get("instance", ""), {}).values())
        if any(files[0] != other for other in files[1:]):
            return "UID_CONFLICT"
        if entry.links.get("study") in torn:
            return "PATIENT_CONFLICT"
        if entry.links.get("series") in changing:
            return "INCONSISTENT_SERIES"
        is_volume = slices[entry.links.get("head", "")] >= SLICES_OF_A_FACE
        if is_volume and not accept_faces and "FACE_RISK" not in waived(entry.file):
            return "FACE_RISK"
        return None

    return _sorted_out(entries, code, ledger)


def without_copies(entries: Iterable[Entry], ledger: Ledger, notes: list[str]) -> Kept:
    """Keep one entry a digest, with those that it stands for; two labels on the same pixels keep none."""
    same: defaultdict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        same[entry.digest].append(entry)
    kept: Kept = {}
    for digest in sorted(same):
        copies = same[digest]
        if len({entry.label for entry in copies}) > 1:
            for entry in copies:
                ledger.add(entry.key, "LABEL_CONFLICT")
            continue
        for entry in copies[1:]:
            ledger.add(entry.key, "DUPLICATE_EXACT")
        kept[digest] = copies
    strangers = sum(len({entry.subject for entry in copies}) > 1 for copies in kept.values())
    if strangers:
        notes.append(
            f"Images found under more than one patient identifier: {strangers:,}. Those patients were joined "
            "in one group (a wrong identifier, or a copied file)."
        )
    return kept


def without_near_copies(
    kept: Kept,
    pictures: Callable[[Sequence[str]], np.ndarray],
    near: str,
    ledger: Ledger,
    notes: list[str],
) -> tuple[Kept, list[tuple[str, str, float]]]:
    """Return what is kept, and the pairs of digests that are nearly the same picture, with their likeness.

    Both of a sure pair with two labels are taken out: nobody knows which label is right. Where it is not sure
    that they are one picture, both stay, in one group, and come first in the list for people to look at.
    ``pictures`` returns the thumbnails ``(N, 1, 32, 32)`` uint8 of digests.
    """
    digests = sorted(kept)
    if near == "off" or len(digests) < 2:
        return kept, []
    # of several copies the one with the least origin speaks, whatever order they came in
    speakers = [min(kept[digest], key=lambda entry: entry.origin) for digest in digests]
    thumbnails = pictures([entry.thumbnail for entry in speakers])[:, 0]
    sides = [entry.side_px for entry in speakers]
    pairs = told_apart(thumbnails, [entry.owner for entry in speakers], sides)
    if pairs is None:
        notes.append(
            "Near-duplicates were not looked for: pictures of this kind are so alike that strangers pass for "
            "copies. Exact copies were joined."
        )
        return kept, []
    found = [(digests[pair.first], digests[pair.second], pair.score) for pair in pairs]
    sure = {(digests[pair.first], digests[pair.second]) for pair in pairs if pair.is_sure}
    certain = [pair for pair in found if pair[2] >= DUPLICATE]
    torn_pairs = [(a, b) for a, b, _ in certain if kept[a][0].label != kept[b][0].label]
    torn = {digest for pair in torn_pairs if pair in sure for digest in pair}
    spare = {b for a, b, _ in certain if near == "drop" and not {a, b} & torn and (a, b) not in torn_pairs}
    if any(pair not in sure for pair in torn_pairs):
        notes.append(
            "Some pictures are nearly the same under two labels, but are not surely one: they stand in one "
            "part of the split, and first among the near-copies of the review report."
        )
    for digest in torn:
        ledger.add(kept[digest][0].key, "LABEL_CONFLICT")
    for digest in spare:
        ledger.add(kept[digest][0].key, "DUPLICATE_NEAR")
    left = {digest: copies for digest, copies in kept.items() if digest not in torn | spare}
    strangers = sum(kept[a][0].owner != kept[b][0].owner for a, b, _ in certain)
    if strangers:
        notes.append(
            "Nearly the same picture was found under two patient identifiers. Those patients stand in one "
            "part of the split."
        )
    found.sort(key=lambda pair: (pair[0], pair[1]) not in torn_pairs)
    return left, [pair for pair in found if pair[0] in left or pair[1] in left]


def grouped(kept: Kept, pairs: Iterable[tuple[str, str, float]], all_kept: Kept) -> dict[str, str]:
    """Return the group of each patient; it is named by its smallest patient."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        parent.setdefault(name, name)
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    def join(first: str, second: str) -> None:
        low, high = sorted((root(first), root(second)))
        parent[high] = low

    holders: dict[str, str] = {}
    for copies in kept.values():
        for entry in copies:
            join(copies[0].owner, entry.owner)
            for kind in ("study", "series", "group", "pair"):
                if kind in entry.links:
                    join(holders.setdefault(f"{kind} {entry.links[kind]}", entry.owner), entry.owner)
    for first, second, score in pairs:
        if score >= DUPLICATE:
            join(all_kept[first][0].owner, all_kept[second][0].owner)
    return {name: root(name) for name in list(parent)}


def leaks(kept: Kept, groups: Mapping[str, str]) -> dict[str, int]:
    """Return how much crosses the parts (train, val, test) that the input itself comes in, by what crosses.

    A part is told by a folder or an array of that name. Empty where the input has no parts.
    """
    parts: defaultdict[str, set[str]] = defaultdict(set)
    joined: defaultdict[str, set[str]] = defaultdict(set)
    copies_cross = 0
    for copies in kept.values():
        found = {part for entry in copies if (part := given_part(entry.key))}
        copies_cross += len(found) > 1
        for entry in copies:
            if part := given_part(entry.key):
                parts[entry.owner].add(part)
                joined[groups[entry.owner]].add(part)
    if len(set[str]().union(*parts.values())) < 2:
        return {}
    return {
        "patients": sum(len(found) > 1 for found in parts.values()),
        "groups": sum(len(found) > 1 for found in joined.values()),
        "copies": copies_cross,
    }


def given_part(key: str) -> str | None:
    """Return the part of the input's own split that a path speaks of.

    >>> given_part("chest/Train/NORMAL/1.png"), given_part("val_images/000000003"), given_part("a/1.png")
    ('train', 'val', None)
    """
    for folder in key.lower().split("/")[:-1]:
        part = _PARTS.get(folder) or _PARTS.get(folder.partition("_")[0])
        if part:
            return part
    return None


def doubtful_key(kept: Kept) -> bool:
    """Return whether the patient key joins images of different labels far more often than chance would.

    Images of one patient are alike in their label. A number that counts from one in each class anew joins
    strangers instead, one of each class: then groups of mixed labels are more than a random deal gives.
    """
    labels: defaultdict[str, list[str]] = defaultdict(list)
    for copies in kept.values():
        if copies[0].subject is not None:
            labels[copies[0].subject].append(copies[0].label or "")
    several = [found for found in labels.values() if len(found) > 1]
    counts = Counter(label for found in several for label in found)
    total = sum(counts.values())
    if len(counts) < 2:
        return False
    mixed = sum(len(set(found)) > 1 for found in several)
    chance = [1 - sum((count / total) ** len(found) for count in counts.values()) for found in several]
    spread = sum(p * (1 - p) for p in chance) ** 0.5
    return mixed - sum(chance) > _FAR_ABOVE_CHANCE * max(spread, 1)


def _changing_series(entries: Iterable[Entry]) -> set[str]:
    """The series of several modalities, or, of slices, of several sizes or spacings."""
    found: defaultdict[str, set[tuple[str | None, ...]]] = defaultdict(set)
    for entry in entries:
        if "series" in entry.links:
            modality = entry.attributes.get("Modality")
            geometry = [entry.attributes.get(name) for name in _GEOMETRY if modality in _VOLUMES]
            found[entry.links["series"]].add((modality, *geometry))
    return {series for series, kinds in found.items() if len(kinds) > 1}


def _sorted_out(entries: Iterable[Entry], code: Callable[[Entry], str | None], ledger: Ledger) -> list[Entry]:
    left: list[Entry] = []
    for entry in entries:
        found = code(entry)
        if found is None:
            left.append(entry)
        else:
            ledger.add(entry.key, found)
    return left
