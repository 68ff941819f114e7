"""The contract of a publisher: one output form a file, written from the synthetic set and nothing else."""

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from phantomset.data.errors import ReleaseError
from phantomset.data.records import ImageSet
from phantomset.data.seeds import stream

PARTS = ("train", "validation", "test")
"""The parts that a set may be divided into, in the order and by the names of Hugging Face."""

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,59}(?<!\.)")
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}


@dataclass(frozen=True, slots=True)
class About:
    """What a publisher may write beside the pixels. Equal sets have equal values: no version, date or host.

    Attributes:
        name: name of the release.
        set_digest: digest of the synthetic set.
        licence: as the recipe names it; "" where it names none.
        parts: positions of the images of each part, from `divided`; empty where the set is one whole.
    """

    name: str
    set_digest: str
    licence: str = ""
    parts: Mapping[str, np.ndarray] = field(default_factory=dict[str, np.ndarray])

    def parts_of(self, synthetic: ImageSet) -> Mapping[str, np.ndarray]:
        """Return the positions of each part, ascending; an undivided set is all "train"."""
        return self.parts or {PARTS[0]: np.arange(len(synthetic))}

    def place(self, part: str) -> str:
        """Return the folder of a part below a format's own, with a slash; "" where the set is one whole."""
        return f"{part}/" if self.parts else ""


@dataclass(frozen=True, slots=True)
class Publisher:
    """One output form, as its file exports it under the name ``PUBLISHER``.

    Attributes:
        name: the file's name and the entry in the recipe's ``publish.formats``.
        summary: what the form is, in a few words, for the dataset card.
        loading: lines of Python for the card that load the form; ``NAME`` stands for the release's name.
        write: ``(synthetic, about, folder) -> None`` writes the set into an existing folder. The same set and
            the same ``about`` give the same bytes. It never sees a verdict, a real image or a path of the
            source: `release.publish` calls it, and only for a PASS.
    """

    name: str
    summary: str
    loading: str
    write: Callable[[ImageSet, About, Path], None]


def divided(synthetic: ImageSet, shares: Mapping[str, float], set_digest: str) -> dict[str, np.ndarray]:
    """Return the positions of the images of each part, ascending: every class is shared out alike.

    Chance comes from the set's digest, so that the same set is always divided in the same way. Within a class
    each part gets its share to the nearest image, counted from the first part on.

    Args:
        synthetic: the set.
        shares: of the parts, in the order of `PARTS`; they add up to 1. Empty: the set is not divided.
        set_digest: the set's digest.

    Raises:
        ReleaseError: a part would have no image.
    """
    drawn: dict[str, list[np.ndarray]] = {part: [] for part in PARTS if shares.get(part)}
    bounds = np.cumsum([shares[part] for part in drawn])
    for label in range(len(synthetic.label_names)):
        own = np.flatnonzero(synthetic.labels == label)
        own = stream(int(set_digest[:15], 16), "parts", label).permutation(own)
        cuts = np.rint(bounds[:-1] * len(own)).astype(int)
        for part, positions in zip(drawn, np.split(own, cuts), strict=True) if drawn else ():
            drawn[part].append(positions)
    parts = {part: np.sort(np.concatenate(positions)) for part, positions in drawn.items()}
    empty = [part for part, positions in parts.items() if not len(positions)]
    if empty:
        raise ReleaseError(
            f"publish.splits: {empty[0]} would have no image of {len(synthetic):,}. "
            "Generate more images, or give it a larger share."
        )
    return parts


def class_folders(label_names: tuple[str, ...]) -> tuple[str, ...]:
    """Return one folder name for each label, in label order: safe on every file system, distinct, and sorted.

    Sorted as text they are in label order, so that the index which torchvision's ``ImageFolder`` gives a
    class is its label. Where the labels themselves are all that, they are the folder names. Otherwise every
    folder is the zero-padded label index, followed by what can be kept of the label; ``metadata.csv`` and
    ``labels.json`` hold the labels unchanged.

    >>> class_folders(("normal", "pneumonia"))
    ('normal', 'pneumonia')
    >>> class_folders(("T2/FLAIR", "a:b", "A:B"))
    ('0-T2-FLAIR', '1-a-b', '2-A-B')
    """
    folded = {name.casefold() for name in label_names}
    in_order = list(label_names) == sorted(label_names)
    if in_order and len(folded) == len(label_names) and all(map(_is_plain, label_names)):
        return label_names
    width = len(str(max(len(label_names) - 1, 0)))
    return tuple(f"{index:0{width}d}{_slug(name)}" for index, name in enumerate(label_names))


def _is_plain(name: str) -> bool:
    return _PLAIN.fullmatch(name) is not None and name.split(".")[0].casefold() not in _RESERVED


def _slug(name: str) -> str:
    """Return what ASCII can keep of a label, with a leading dash, or nothing."""
    ascii_only = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    words = re.sub(r"[^A-Za-z0-9]+", "-", ascii_only).strip("-")[:40].strip("-")
    return f"-{words}" if words else ""
