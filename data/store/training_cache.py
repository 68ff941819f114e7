"""The training cache: the images of a cohort's part as one memory-mapped array, made from the archive.

``cache/<key>.npy`` is ``(N, C, H, W) uint8``; the key is made from the N digests in their order. Every item
has one size, so reading one is no work, and processes share the pages. It holds nothing that the archive does
not: deleted by hand or damaged, it is made again.
"""

import os
import secrets
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from phantomset.data.deidentify import TECHNICAL
from phantomset.data.digest import digest_of
from phantomset.data.errors import WorkspaceError
from phantomset.data.pixels.canonical import digest_of_pixels
from phantomset.data.records import Cohort, ImageSet
from phantomset.data.store import packs
from phantomset.data.store.archive import Store
from phantomset.data.workspace import Workspace

_KEPT = 12
"""So many arrays stay, three parts for each of four cohorts; the one that was used longest ago goes first."""


def image_set(workspace: Workspace, cohort: Cohort, positions: Sequence[int]) -> ImageSet:
    """Return the images of a cohort at the given positions of its records, from the training cache.

    ``patients`` counts the cohort's subjects in the order of their first record: the codes are shared by all
    parts of one cohort, and do not depend on the project key. Attributes that only describe settings
    and pixels stay with the records.

    Raises:
        WorkspaceError: an image is not in the store, or the cache cannot be written.
    """
    codes: dict[str, int] = {}
    for record in cohort.records:
        codes.setdefault(record.subject, len(codes))
    chosen = [cohort.records[position] for position in positions]
    columns = sorted({name for record in cohort.records for name in record.attributes} - TECHNICAL)
    return ImageSet(
        images=cached(workspace, [record.digest for record in chosen], cohort.spec.shape),
        labels=np.array([record.label for record in chosen], dtype=np.int64),
        patients=np.array([codes[record.subject] for record in chosen], dtype=np.int64),
        label_names=cohort.label_names,
        attributes={
            name: np.array([record.attributes.get(name, "") for record in chosen], dtype=np.str_)
            for name in columns
        },
    )


def cached(workspace: Workspace, digests: Sequence[str], shape: tuple[int, int, int]) -> np.ndarray:
    """Return the images of the digests, ``(N, C, H, W) uint8``, in their order, memory-mapped.

    The map is copy-on-write: who changes a pixel changes his own copy, never the file.

    Args:
        workspace: whose store and cache.
        digests: names of N images.
        shape: ``(C, H, W)`` of each.

    Raises:
        WorkspaceError: an image is not in the store or of another shape, or the cache cannot be written.
    """
    if not digests:
        return np.zeros((0, *shape), dtype=np.uint8)
    path = workspace.restricted("cache", f"{digest_of('cache', list(digests))}.npy")
    try:
        images = _opened(path, digests, shape)
        if images is None:
            _make(path, Store(workspace), digests, shape)
            images = _opened(path, digests, shape)
            _tidy(path.parent)
        os.utime(path)
    except OSError as error:
        raise WorkspaceError(
            f"cache: cannot write to {path.parent} ({error.strerror}). "
            "Free some space or mend the permissions, or choose another --workspace."
        ) from None
    if images is None:
        raise WorkspaceError(f"cache: {path} was changed while it was made. Run the same command again.")
    return images


def _opened(path: Path, digests: Sequence[str], shape: tuple[int, int, int]) -> np.ndarray | None:
    """The array, if its length, shape and three of its images are right."""
    try:
        images = np.asarray(np.load(path, mmap_mode="c", allow_pickle=False))
    except (FileNotFoundError, ValueError, EOFError):
        return None
    if images.dtype != np.uint8 or images.shape != (len(digests), *shape):
        return None
    spots = {0, len(digests) // 2, len(digests) - 1}
    return images if all(digest_of_pixels(images[spot]) == digests[spot] for spot in spots) else None


def _make(path: Path, store: Store, digests: Sequence[str], shape: tuple[int, int, int]) -> None:
    """Write the array image by image, wherever each lies in the archive; it appears whole."""
    part = path.with_name(f"{path.stem}.{secrets.token_hex(4)}.part")
    try:
        with packs.private(part) as stream:
            head = {"descr": "|u1", "fortran_order": False, "shape": (len(digests), *shape)}
            np.lib.format.write_array_header_1_0(stream, head)
            stream.flush()
            start = stream.tell()
            for position, image in store.read(digests):
                if image.shape != shape:
                    raise WorkspaceError(f"cache: found an image of {image.shape}, expected {shape}.")
                os.pwrite(stream.fileno(), image.data, start + position * image.nbytes)
            packs.synced(stream)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _tidy(folder: Path) -> None:
    """Keep the arrays that were used last, and no part that a killed run left."""
    by_use = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in by_use[_KEPT:]:
        path.unlink(missing_ok=True)
