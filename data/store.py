"""Pixels by digest, in sealed packs. Nothing is ever overwritten.

A pack is ``objects/<name>.npy``, an uncompressed array ``(N, C, H, W) uint8`` that is read through a memory
map, and ``objects/<name>.parquet``, which says which digest lies in which row. The index appears last, so a
pack is either whole or not there.
"""

import contextlib
import os
import secrets
import shutil
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path

import numpy as np

from phantomset.data.deidentify import TECHNICAL
from phantomset.data.digest import digest_of
from phantomset.data.errors import WorkspaceError
from phantomset.data.pixels.canonical import digest_of_pixels
from phantomset.data.records import Cohort, ImageSet
from phantomset.data.workspace import Workspace

PACK_BYTES = 16 << 20
"""A pack is sealed when its pixels reach this size; it bounds the memory of a writer."""


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

        Raises:
            WorkspaceError: the store cannot be written; nothing is left behind.
        """
        staging = self._incoming / f"packs-{os.getpid()}-{secrets.token_hex(4)}"
        try:
            self._sweep()
            staging.mkdir(mode=0o700)
            pack = PackWriter(staging, self._folder, set(self._index()))
            yield pack
            pack.seal()
        except OSError as error:
            raise WorkspaceError(
                f"store: cannot write to {self._folder} ({error.strerror}). "
                "Free some space or mend the permissions, or choose another --workspace."
            ) from None
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def get(self, digests: Sequence[str]) -> np.ndarray:
        """Return ``(N, C, H, W) uint8`` in the order of the digests.

        Raises:
            WorkspaceError: a digest is not in the store, or a pack cannot be read.
        """
        index = self._index()
        missing = [digest for digest in digests if digest not in index]
        if missing:
            raise WorkspaceError(
                f"store: {len(missing):,} of {len(digests):,} images are not in {self._folder}. "
                "Run the ingest stage again; if that does not help, the workspace was changed by hand."
            )
        packs = {name: self._open(name) for name in sorted({index[digest][0] for digest in digests})}
        rows = [packs[index[digest][0]][index[digest][1]] for digest in digests]
        return np.stack(rows) if rows else np.zeros((0, 1, 1, 1), dtype=np.uint8)

    def has(self, digests: Iterable[str]) -> bool:
        """Return whether all digests are in the store, and their packs there to be read."""
        index = self._index()
        wanted = set(digests)
        if not wanted <= index.keys():
            return False
        return all(
            (self._folder / f"{name}.npy").exists() for name in {index[digest][0] for digest in wanted}
        )

    def digests(self) -> list[str]:
        """Return the names of all images in the store, sorted.

        Raises:
            WorkspaceError: an index is damaged.
        """
        return sorted(self._index())

    def verify(self) -> list[str]:
        """Return the digests whose pixels no longer give that digest, sorted; empty is sound."""
        index = self._index()
        packs = {name: self._open(name) for name in {name for name, _ in index.values()}}
        return sorted(
            digest for digest, (name, row) in index.items() if digest_of_pixels(packs[name][row]) != digest
        )

    def _open(self, name: str) -> np.ndarray:
        try:
            return np.load(self._folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError):
            raise WorkspaceError(
                f"store: pack {name[:12]} in {self._folder} is missing or damaged. "
                "Move its two files away and run the ingest stage again."
            ) from None

    def _index(self) -> dict[str, tuple[str, int]]:
        """Digest to (pack, row), over all sealed packs."""
        import pandas as pd

        found: dict[str, tuple[str, int]] = {}
        for path in sorted(self._folder.glob("*.parquet")):
            try:
                frame = pd.read_parquet(path)
                rows = zip(frame["digest"].tolist(), frame["row"].tolist(), strict=True)
            except (OSError, ValueError, KeyError):
                raise WorkspaceError(
                    f"store: index {path.stem[:12]} in {self._folder} is damaged. "
                    "Move the pack's two files away and run the ingest stage again."
                ) from None
            found.update({str(digest): (path.stem, int(row)) for digest, row in rows})
        return found

    def _sweep(self) -> None:
        """Take away what a killed run left; a living process's packs stay."""
        for leftover in self._incoming.glob("packs-*"):
            process = leftover.name.split("-")[1]
            if process.isdigit() and not Path("/proc", process).exists():
                shutil.rmtree(leftover, ignore_errors=True)


class PackWriter:
    """Gathers images into packs beside the store, a pack for each shape. Made by `Store.writer`."""

    def __init__(self, staging: Path, folder: Path, known: set[str]) -> None:
        self._staging, self._folder, self._known = staging, folder, known
        self._open: dict[tuple[int, ...], dict[str, np.ndarray]] = {}
        self._bytes = 0
        self.sealed = 0
        """Packs that this writer has moved into the store."""

    def has(self, digests: Iterable[str]) -> bool:
        """Return whether all digests are in the store, or in an open pack."""
        return all(digest in self._known for digest in digests)

    def add(self, image: np.ndarray, digest: str | None = None) -> str:
        """Take ``(C, H, W) uint8`` and return its digest; an image that is known already costs nothing."""
        digest = digest or digest_of_pixels(image)
        if digest not in self._known:
            self._known.add(digest)
            self._open.setdefault(image.shape, {})[digest] = np.array(image)
            self._bytes += image.nbytes
            if self._bytes >= PACK_BYTES:
                self.seal()
        return digest

    def seal(self) -> None:
        """Move what is open into the store, each index last: rows in the order of their digests."""
        for images in self._open.values():
            self._seal(images)
        if self._open:
            _sync_folder(self._folder)
        self._open, self._bytes = {}, 0

    def _seal(self, images: dict[str, np.ndarray]) -> None:
        import pandas as pd

        digests = sorted(images)
        name = digest_of("pack", digests)
        parts = [self._staging / f"{name}.npy", self._staging / f"{name}.parquet"]
        with parts[0].open("wb") as stream:
            head = {
                "descr": "|u1",
                "fortran_order": False,
                "shape": (len(digests), *images[digests[0]].shape),
            }
            np.lib.format.write_array_header_1_0(stream, head)
            for digest in digests:  # one by one: a stack would double the writer's memory
                stream.write(images[digest].tobytes())
        frame = pd.DataFrame({"digest": digests, "row": np.arange(len(digests), dtype=np.int64)})
        frame.to_parquet(parts[1], index=False)
        for path in parts:
            path.chmod(0o600)
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
        for path in parts:
            path.replace(self._folder / path.name)
        self.sealed += 1


def image_set(workspace: Workspace, cohort: Cohort, positions: Sequence[int]) -> ImageSet:
    """Return the images of a cohort at the given positions of its records.

    ``patients`` counts the cohort's subjects in the order of their first record: the codes are shared by all
    parts of one cohort, and do not depend on the project key. Attributes that only describe settings
    and pixels stay with the records.

    Raises:
        WorkspaceError: an image is not in the store.
    """
    codes: dict[str, int] = {}
    for record in cohort.records:
        codes.setdefault(record.subject, len(codes))
    chosen = [cohort.records[position] for position in positions]
    columns = sorted({name for record in cohort.records for name in record.attributes} - TECHNICAL)
    images = Store(workspace).get([record.digest for record in chosen])
    return ImageSet(
        images=images if len(chosen) else np.zeros((0, *cohort.spec.shape), dtype=np.uint8),
        labels=np.array([record.label for record in chosen], dtype=np.int64),
        patients=np.array([codes[record.subject] for record in chosen], dtype=np.int64),
        label_names=cohort.label_names,
        attributes={
            name: np.array([record.attributes.get(name, "") for record in chosen], dtype=np.str_)
            for name in columns
        },
    )


def _sync_folder(folder: Path) -> None:
    """Make renames survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
