"""The archive: images by digest in sealed packs, compressed, each held against its digest when it is read.

A pack is ``objects/<name>.pack`` (see `packs`) and its index ``objects/<name>.pack.parquet``, which appears
last. Nothing is ever overwritten. What is being written grows in ``incoming/``.
"""

import contextlib
import os
import secrets
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import numpy as np

from phantomset.data.errors import InputError, WorkspaceError
from phantomset.data.pixels.canonical import digest_of_pixels
from phantomset.data.store import packs
from phantomset.data.workspace import Workspace

PACK_BYTES = 64 << 20
"""A pack is sealed when it reaches this size."""

SYNC_BYTES = 8 << 20
"""After so many bytes a writer is due to be synced: no more than that is lost with a killed run."""


class Store:
    """The objects of one workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self._folder = workspace.restricted("objects")
        self._incoming = workspace.restricted("incoming")

    def put(self, images: np.ndarray) -> tuple[str, ...]:
        """Store ``(N, C, H, W) uint8`` and return the N digests, in order.

        Raises:
            WorkspaceError: the store cannot be written; nothing is left behind.
        """
        with self.writer() as pack:
            return tuple([pack.add(image) for image in images])

    @contextlib.contextmanager
    def writer(self) -> Generator["PackWriter"]:
        """Take images one by one; they enter the store pack by pack, the last one when the block ends well.

        After an error in the input the open pack is taken away. After a kill or an interruption it stays, and
        the next writer seals what is whole in it.

        Raises:
            WorkspaceError: the store cannot be written; the open pack is taken away.
        """
        try:
            self._recover()
            with contextlib.closing(PackWriter(self._folder, self._incoming, set(self.digests()))) as pack:
                try:
                    yield pack
                    pack.seal()
                except (InputError, OSError):
                    pack.discard()
                    raise
        except OSError as error:
            raise WorkspaceError(
                f"store: cannot write to {self._folder} ({error.strerror}). "
                "Free some space or mend the permissions, or choose another --workspace."
            ) from None

    def get(self, digests: Sequence[str]) -> np.ndarray:
        """Return ``(N, C, H, W) uint8`` in the order of the digests, whose images are of one shape.

        Raises:
            WorkspaceError: a digest is not in the store, or its object is damaged.
        """
        images = np.zeros((0, 1, 1, 1), dtype=np.uint8)
        for position, image in self.read(digests):
            if not len(images):
                images = np.empty((len(digests), *image.shape), dtype=np.uint8)
            if image.shape != images.shape[1:]:
                raise ValueError(f"store: images of several shapes, {images.shape[1:]} and {image.shape}")
            images[position] = image
        return images

    def read(self, digests: Sequence[str]) -> Iterator[tuple[int, np.ndarray]]:
        """Yield each digest's position and image ``(C, H, W) uint8``, in the order of the disk.

        Raises:
            WorkspaceError: a digest is not in the store, or its object is damaged.
        """
        index = self._index()
        rows = index.rows_of(digests)
        missing = int((rows < 0).sum())
        if missing:
            raise WorkspaceError(
                f"store: {missing:,} of {len(digests):,} images are not in {self._folder}. "
                "Run the ingest stage again; if that does not help, the workspace was changed by hand."
            )
        order = index.in_order(rows)
        for position, (row, image) in zip(order.tolist(), _images(index, rows[order]), strict=True):
            if image is None:
                raise _damaged(index.pack_of(row))
            yield position, image

    def has(self, digests: Iterable[str]) -> bool:
        """Return whether all digests are in the store, and their packs there to be read."""
        index = self._index()
        rows = index.rows_of(list(digests))
        if (rows < 0).any():
            return False
        return all(pack.exists() for pack in {index.pack_of(row) for row in rows.tolist()})

    def digests(self) -> list[str]:
        """Return the names of all images in the store, sorted.

        Raises:
            WorkspaceError: an index is damaged.
        """
        return self._index().names

    def verify(self) -> list[str]:
        """Return the digests whose objects are damaged, sorted; empty is sound.

        Raises:
            WorkspaceError: an index is damaged, or a pack is missing.
        """
        index = self._index()
        names = index.names
        rows = index.in_order(np.arange(len(names)))
        return sorted(names[row] for row, image in _images(index, rows) if image is None)

    def _index(self) -> "_Index":
        """Read what all sealed packs hold."""
        import pandas as pd

        names = sorted(self._folder.glob("*.pack.parquet"))
        parts: list[list[np.ndarray]] = [[np.zeros(0, dtype=kind)] for kind in ("S64", int, int, int)]
        for number, path in enumerate(names):
            try:
                frame = pd.read_parquet(path, columns=["digest", "offset", "length"])
                places = [frame[name].to_numpy(int) for name in ("offset", "length")]
                found = [frame["digest"].to_numpy("S64"), np.full(len(frame), number), *places]
            except (OSError, ValueError, KeyError):
                raise WorkspaceError(
                    f"store: index {path.name[:12]} in {self._folder} is damaged. "
                    "Delete it and run the ingest stage again: it is made anew from its pack."
                ) from None
            for part, column in zip(parts, found, strict=True):
                part.append(column)
        digest, pack, offset, length = map(np.concatenate, parts)
        order = np.argsort(digest, kind="stable")
        packed = tuple(path.with_suffix("") for path in names)
        return _Index(packed, digest[order], pack[order], offset[order], length[order])

    def _recover(self) -> None:
        """Seal what killed runs left, cut back to whole objects, and packs whose index is gone."""
        for part in self._incoming.glob(f"{packs.SEALING}*"):
            with part.open("rb") as stream:
                if packs.is_left(stream):
                    part.unlink()
        open_packs = sorted(self._incoming.glob(f"{packs.OPEN}*"))
        lost = (pack for pack in sorted(self._folder.glob("*.pack")) if not packs.index_of(pack).exists())
        for left in chain(open_packs, lost):
            with left.open("rb") as stream:
                if not packs.is_left(stream):
                    continue
                sealed = packs.seal(stream, self._folder, self._incoming, set(self.digests()))
            if sealed != left:
                left.unlink()


class PackWriter:
    """Appends images to an open pack, and seals it when it is full. Made by `Store.writer`."""

    def __init__(self, folder: Path, incoming: Path, known: set[str]) -> None:
        self._folder, self._incoming, self._known = folder, incoming, known
        self._open: BinaryIO | None = None
        self._path = incoming
        self._unsynced = 0

    @property
    def is_due(self) -> bool:
        """Whether so much was added since the last `sync` that it is time for the next."""
        return self._unsynced >= SYNC_BYTES

    def has(self, digests: Iterable[str]) -> bool:
        """Return whether all digests are in the store, or in the open pack."""
        return all(digest in self._known for digest in digests)

    def add(self, image: np.ndarray, digest: str | None = None) -> str:
        """Take ``(C, H, W) uint8`` and return its digest; an image that is known already costs nothing."""
        digest = digest or digest_of_pixels(image)
        if digest not in self._known:
            self._known.add(digest)
            stream = self._open or self._start()
            self._unsynced += stream.write(packs.packed(image, digest))
            if stream.tell() >= PACK_BYTES:
                self.seal()
        return digest

    def sync(self) -> None:
        """Make all that was added survive a crash: the next writer finds it, sealed or not."""
        if self._open is not None:
            packs.synced(self._open)
        self._unsynced = 0

    def seal(self) -> None:
        """Move the open pack into the store."""
        if self._open is not None:
            self._open.flush()
            packs.seal(self._open, self._folder, self._incoming, ())
            self.discard()

    def discard(self) -> None:
        """Take the open pack away."""
        if self._open is not None:
            self._path.unlink()
        self.close()

    def close(self) -> None:
        """Leave the open pack as it is."""
        if self._open is not None:
            self._open.close()
        self._open = None

    def _start(self) -> BinaryIO:
        self._path = self._incoming / f"{packs.OPEN}{secrets.token_hex(8)}.pack"
        self._open = packs.private(self._path)
        return self._open


@dataclass(frozen=True, slots=True)
class _Index:
    """Where N objects lie, sorted by digest: 88 bytes each, since a store may hold millions.

    Attributes:
        packs: the sealed packs, by number.
        digests: ``(N,)`` S64.
        pack: ``(N,)`` int64, the number of its pack.
        offset: ``(N,)`` int64, in bytes.
        length: ``(N,)`` int64, in bytes.
    """

    packs: tuple[Path, ...]
    digests: np.ndarray
    pack: np.ndarray
    offset: np.ndarray
    length: np.ndarray

    @property
    def names(self) -> list[str]:
        """The N digests as text."""
        return [digest.decode() for digest in self.digests.tolist()]

    def in_order(self, rows: np.ndarray) -> np.ndarray:
        """Return which of the rows comes first on the disk, which second, and so on."""
        return np.lexsort((self.offset[rows], self.pack[rows]))

    def pack_of(self, row: int) -> Path:
        """Return the pack in which an object lies."""
        return self.packs[int(self.pack[row])]

    def rows_of(self, digests: Sequence[str]) -> np.ndarray:
        """Return the row of each digest, ``(n,)`` int64; -1 where there is none."""
        wanted = np.array(digests, dtype="S64")
        if not len(self.digests):
            return np.full(len(wanted), -1)
        rows = np.minimum(np.searchsorted(self.digests, wanted), len(self.digests) - 1)
        return np.where(self.digests[rows] == wanted, rows, -1)


def _images(index: _Index, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray | None]]:
    """Yield rows with their images, None where an object is damaged. Rows of one pack stand together."""
    starts = np.flatnonzero(np.diff(index.pack[rows], prepend=-1))
    for part in np.split(rows, starts[1:]) if len(rows) else ():
        pack = index.pack_of(part[0])
        columns = (part, index.digests[part], index.offset[part], index.length[part])
        try:
            with pack.open("rb") as stream:
                for row, digest, offset, length in zip(*(each.tolist() for each in columns), strict=True):
                    yield row, _sound(os.pread(stream.fileno(), length, offset), digest.decode())
        except OSError:
            raise _damaged(pack) from None


def _sound(content: bytes, digest: str) -> np.ndarray | None:
    try:
        return packs.unpacked(content, digest)
    except packs.DamagedObject:
        return None


def _damaged(pack: Path) -> WorkspaceError:
    return WorkspaceError(
        f"store: pack {pack.name[:12]} in {pack.parent} is missing or damaged. Delete its index (.parquet) "
        "and run the ingest stage again: what is whole is kept, the rest is decoded anew."
    )
