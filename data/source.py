"""The contract between ingest and a source: one input format a file in ``sources/``."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from phantomset.data.burned_in.screen import TextScreen
from phantomset.data.deidentify import DeidentifySettings
from phantomset.data.records import RawImage, Rejected


class SourceSettings(BaseModel, frozen=True, extra="forbid"):
    """Base of each source's ``Settings``: the recipe's section ``source``. Frozen, unknown keys refused."""

    format: str

    @property
    def neighbours(self) -> float:
        """The largest correlation of a slice or frame with its neighbour at which both are kept."""
        return 1

    @property
    def has_patients(self) -> bool:
        """True where the input says which images belong to one patient."""
        return False

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The declared classes in their order; None: whatever is found, sorted."""
        return None

    @property
    def kept_columns(self) -> frozenset[str]:
        """The columns of a label table whose cells may be kept."""
        return frozenset()


@dataclass(frozen=True, slots=True)
class Limits:
    """What no single input may exceed, checked before anything is allocated."""

    file_bytes: int = 512 << 20
    pixels: int = 64_000_000
    frames: int = 20_000
    object_pixels: int = 512_000_000
    expansion: int = 200
    expansion_free_bytes: int = 16 << 20
    members: int = 5_000_000
    elements: int = 20_000
    depth: int = 32
    table_bytes: int = 256 << 20


def _nothing_waived(key: str) -> frozenset[str]:
    del key
    return frozenset()


@dataclass(frozen=True, slots=True)
class ReadContext:
    """What a source is told, and where it leaves what the report should say.

    Attributes:
        deidentify: the recipe's section.
        limits: of file sizes, pixels and expansion.
        notes: sentences about the whole input, such as "3 rows of the label table have no file".
        counts: events that a note may be made of, by a word.
        waived: the codes that a person released the file with this key from.
        screen: what searches images for text; None: nothing does.
    """

    deidentify: DeidentifySettings = field(default_factory=DeidentifySettings)
    limits: Limits = Limits()
    notes: list[str] = field(default_factory=list[str])
    counts: Counter[str] = field(default_factory=Counter[str])
    waived: Callable[[str], frozenset[str]] = _nothing_waived
    screen: TextScreen | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """An input format, as its file exports it under the name ``SOURCE``.

    Attributes:
        name: the file's name and the recipe's ``source.format``.
        Settings: the pydantic model of the recipe's ``source``.
        read: ``(settings, context) -> images and rejections``, one for each file of the input, in an order
            that does not depend on the file system. A generator: memory holds one image at a time.
        fingerprint: ``(settings) -> digest`` of the input's content: an equal input, wherever it lies, has an
            equal fingerprint. Raises `SourceError` where the input is missing, empty or unreadable.
    """

    name: str
    Settings: type[SourceSettings]
    read: Callable[[Any, ReadContext], Iterator[RawImage | Rejected]]
    fingerprint: Callable[[Any], str]
