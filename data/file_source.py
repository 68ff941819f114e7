"""The contract between ingest and a source whose input is a tree of files, each decoded on its own."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from phantomset.data.reading.tree import Member
from phantomset.data.records import RawImage
from phantomset.data.source import ReadContext, SourceSettings


class Readable(Protocol):
    """Where the files are: a folder, an archive. It goes to worker processes."""

    def read(self, member: Member) -> bytes:
        """Return a file's bytes; raise `Unfit` where it may not be read."""
        ...


@dataclass(frozen=True, slots=True)
class Listed:
    """A file of the input, and what is known of it before it is opened: from its path and its table row.

    Attributes:
        member: where it lies.
        label, subject, attributes, dropped: as in `RawImage`; None where only the file itself can say.
        links: what joins it to other files, by kind.
        waived: the codes that a person released it from.
        known: keyed name of the content that it had before; None where it was not seen before.
        code: why it is not opened at all, such as NO_LABEL; None where it is.
    """

    member: Member
    label: str | None = None
    subject: str | None = None
    attributes: dict[str, str] = field(default_factory=dict[str, str])
    dropped: dict[str, int] = field(default_factory=dict[str, int])
    links: dict[str, str] = field(default_factory=dict[str, str])
    waived: frozenset[str] = frozenset()
    known: str | None = None
    code: str | None = None


@dataclass(frozen=True, slots=True)
class FileSource:
    """An input format of files, as its module exports it under the name ``SOURCE``.

    Attributes:
        name: the module's name and the recipe's ``source.format``.
        Settings: the pydantic model of the recipe's ``source``.
        files: ``(settings, context) -> tree and its files``, in an order that does not depend on the file
            system.
        decode: ``(content, settings, context, waived) -> images`` of one file, in their order. It runs in a
            worker process and sees nothing but the bytes. ``key`` is empty for the only image of a file, else
            it names the part, such as "#000007". Raises `Unfit` where the file is no image.
        fingerprint: ``(settings) -> digest`` of the input's content, wherever it lies; a large folder is
            known by sizes and times. Raises `SourceError` where the input is missing, empty or unreadable.
    """

    name: str
    Settings: type[SourceSettings]
    files: Callable[[Any, ReadContext], tuple[Readable, Iterable[Listed]]]
    decode: Callable[[bytes, Any, ReadContext, frozenset[str]], Iterator[RawImage]]
    fingerprint: Callable[[Any], str]


def part_key(index: int, total: int) -> str:
    """Return the key of one of the images of a file; their order as text is their order."""
    return f"#{index:06d}" if total > 1 else ""
