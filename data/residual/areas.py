"""What ingest wrote, opened for the residual scan: names, tables, logs, Prefect's database, pixels."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from phantomset.data.residual.headers import take_png
from phantomset.data.residual.tokens import Tokens

Kind = Literal["text", "packed"]

_PIECE = 1 << 24
_AFTER = 1 << 16
"""Bytes that a piece sees of the next one: no text that is sought is as long."""

_BEFORE = 1 << 6
"""Bytes that a piece sees of the one before: what stands beside a match has a say."""

_PLACES = ("offset", "length")
_PACKED = frozenset({".npy", ".npz", ".png", ".pack", ".zst", ".safetensors", ".data", ".objects"})


@dataclass(frozen=True, slots=True)
class Area:
    """Something that was written.

    Attributes:
        name: where it lies, relative to the workspace.
        content: its bytes, unpacked.
        kind: "text" where every token is evidence; "packed" where chance has a say.
        has_clock: True for logs, which carry the time of the run.
        start: where in it these bytes begin; a large file comes in pieces.
        own: the places of `content` at which a match counts: the rest is shown to judge it by, and is another
            piece's. None: all.
    """

    name: str
    content: bytes
    kind: Kind
    has_clock: bool = False
    start: int = 0
    own: range | None = None


def written(root: Path, objects: Iterable[np.ndarray], skip: Sequence[Path] = ()) -> Iterator[Area]:
    """Yield what a workspace holds after ingest: names, tables unpacked, logs, Prefect's database, pixels.

    Args:
        root: the workspace.
        objects: the pixels that were stored, unpacked, in batches.
        skip: paths that are not the ingest stage's work, such as a source that lies in the workspace.
    """
    names: list[str] = []
    for path in sorted(root.rglob("*")):
        if any(path.is_relative_to(other) for other in skip):
            continue
        name = path.relative_to(root).as_posix()
        names.append(name)
        if path.is_file() and not path.is_symlink():
            yield from _areas(path, name)
    yield Area("file names", "\n".join(names).encode("utf-8", "surrogateescape"), "text", has_clock=True)
    for batch in objects:
        yield Area("pixels", batch.tobytes(), "packed")


def _areas(path: Path, name: str) -> Iterator[Area]:
    if path.suffix == ".parquet":
        yield Area(name, _texts(path), "text")
        yield Area(name, path.read_bytes(), "packed")
    else:
        kind: Kind = "packed" if path.suffix in _PACKED else "text"
        has_clock = kind == "text" and name.startswith(("runs/", "prefect/"))
        if path.suffix == ".png":
            yield Area(name, _told(path), "text")
        with path.open("rb") as stream:
            for start in range(0, max(1, path.stat().st_size), _PIECE):
                before = min(_BEFORE, start)
                stream.seek(start - before)
                content = stream.read(before + _PIECE + _AFTER)
                yield Area(name, content, kind, has_clock, start - before, range(before, before + _PIECE))


def _told(path: Path) -> bytes:
    """Return every text of a picture's header, unpacked."""
    told = Tokens()
    take_png(path.read_bytes(), told)
    return "\n".join([*told.values, *told.words]).encode("utf-8", "surrogateescape")


def _texts(path: Path) -> bytes:
    """Return every text of a table, each once; without the numbers that are places in a pack."""
    import pyarrow.parquet as parquet  # pyright: ignore[reportMissingTypeStubs]

    try:
        table: Any = cast(Any, parquet).read_table(path)
    except Exception:  # damaged: its raw bytes are still searched
        return b""
    names = [name for name in table.column_names if name not in _PLACES or not _tiles(table, path)]
    cells = {str(cell) for name in names for cell in table[name].unique().to_pylist()}
    return "\n".join([*table.column_names, *sorted(cells)]).encode()


def _tiles(table: Any, path: Path) -> bool:
    """Return whether a table's places are just those of a pack's objects, from its first byte to its last.

    Millions of offsets meet every date and many a number of six digits by chance. These say nothing that the
    sizes of the objects do not; any other number among them leaves a gap.
    """
    pack = path.with_suffix("")
    try:
        places = sorted(zip(*(table[name].to_pylist() for name in _PLACES), strict=True))
        ends = [0, *(offset + length for offset, length in places)]
        return ends == [*(offset for offset, _ in places), pack.stat().st_size]
    except (KeyError, OSError, TypeError, ValueError):  # not such a table
        return False
