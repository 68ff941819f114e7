"""The contract of a publisher: one output form a file, written from the synthetic set and nothing else."""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from phantomset.data.records import ImageSet

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""IPTC's digital source type for media made by a trained model: every published image carries it."""

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,59}(?<!\.)")
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}


@dataclass(frozen=True, slots=True)
class About:
    """What a publisher may write beside the pixels. Equal sets have equal values: no version, date or host.

    Attributes:
        name: name of the release.
        set_digest: digest of the synthetic set.
        licence: as the recipe names it; "" where it names none.
    """

    name: str
    set_digest: str
    licence: str = ""


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
