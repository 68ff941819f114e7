"""The images of a release, whichever form of ours it was written in, with the labels that it gives them.

Every form holds the whole set, so one is enough; which of them is read says nothing about the others:
`releases verify` holds them against the manifest.
"""

import csv
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow  # pyright: ignore[reportMissingTypeStubs]
import pyarrow.parquet  # pyright: ignore[reportMissingTypeStubs]

from phantomset.data.dicom import header
from phantomset.data.dicom.frames import stored_frames
from phantomset.data.errors import SourceError
from phantomset.data.pixels.pictures import unit_pictures
from phantomset.data.quarantine.ledger import Unfit
from phantomset.data.reading.tree import read_file
from phantomset.data.source import Limits
from phantomset.data.synthetic_mark import is_marked_dicom

parquet: Any = pyarrow.parquet

Entry = tuple[Callable[[], bytes], str]
"""What gives the bytes of an image's file, or an `Unfit`; and its label."""


def entries(folder: Path, limits: Limits) -> Iterator[Entry]:
    """Yield the images of the release in a folder, from Parquet files, a MONAI datalist, WebDataset shards or
    DICOM files; nothing where it has none of these.

    Raises:
        SourceError: a table, a list or a shard cannot be read.
    """
    for pattern, read in _FORMS.items():
        files = sorted(folder.glob(pattern))
        if files:
            try:
                yield from read(folder, files, limits)
            except (Unfit, OSError, ValueError, KeyError, IndexError, TypeError, tarfile.TarError):
                raise SourceError(
                    f"{folder}: the release cannot be read by {files[0].relative_to(folder)}; see what is "
                    "wrong with `phantomset releases verify`."
                ) from None
            return


def unit_image(content: bytes, limits: Limits, marked: bool) -> np.ndarray:
    """Return the image in a file of a release, ``(H, W)`` or ``(H, W, 3)`` float32 in [0, 1].

    ``marked``: whether one that says that a trained model made it is read.

    Raises:
        Unfit: the reason code.
    """
    if content[128:132] != b"DICM":
        return next(unit_pictures(content, limits, marked=marked)).unit
    with header.quiet():
        data = header.parse(content, limits)
        if not marked and is_marked_dicom(data):
            raise Unfit("MARKED_SYNTHETIC")
        frames = stored_frames(data, limits)
    is_ours = data.get("PhotometricInterpretation") in ("MONOCHROME2", "RGB") and data.get("BitsStored") == 8
    if len(frames) != 1 or not is_ours:
        raise Unfit("UNSUPPORTED_PIXEL_FORMAT")
    return frames[0].astype(np.float32) / np.float32(255)


def _rows(folder: Path, files: list[Path], limits: Limits) -> Iterator[Entry]:
    del limits
    names = _names(folder)
    for path in files:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1_000, columns=["image", "label"]):
                for row in batch.to_pylist():
                    yield _given(row["image"]["bytes"]), names[row["label"]]


def _listed(folder: Path, files: list[Path], limits: Limits) -> Iterator[Entry]:
    names, told = _names(folder), _json(files[0], limits)
    for part in ("training", "validation", "test"):
        for item in told.get(part, []):
            yield _below(folder, item["image"], limits), names[item["label"]]


def _shards(folder: Path, files: list[Path], limits: Limits) -> Iterator[Entry]:
    names = _names(folder)
    for path in files:
        label = ("", "")
        with tarfile.open(path, "r:") as shard:
            for member in shard:
                stream = shard.extractfile(member)
                if stream is None or member.size > limits.file_bytes:
                    raise ValueError(member.name)
                sample, _, kind = member.name.rpartition(".")
                if kind == "cls":
                    label = (sample, names[int(stream.read())])
                elif label[0] != sample:
                    raise KeyError(sample)
                else:
                    yield _given(stream.read()), label[1]


def _tables(folder: Path, files: list[Path], limits: Limits) -> Iterator[Entry]:
    for path in files:
        text = read_file(path, replace(limits, file_bytes=limits.table_bytes), folder).decode()
        for row in csv.DictReader(io.StringIO(text, newline="")):
            yield _below(path.parent, row["file_name"], limits), row["label"]


_FORMS: dict[str, Callable[[Path, list[Path], Limits], Iterator[Entry]]] = {
    "data/*.parquet": _rows,
    "datalist.json": _listed,
    "shards/*.tar": _shards,
    "dicom/**/metadata.csv": _tables,
}
"""By what a form is known, below the release's folder."""


def _given(content: bytes) -> Callable[[], bytes]:
    return lambda: content


def _below(root: Path, name: str, limits: Limits) -> Callable[[], bytes]:
    """Return what reads a file that a table names: one below the table's folder, over no link."""
    place = PurePosixPath(name)
    if place.is_absolute() or ".." in place.parts:
        raise ValueError(name)
    return lambda: read_file(root / place, limits, root)


def _names(folder: Path) -> list[str]:
    """Return the class names, by label."""
    return [str(name) for name in _json(folder / "labels.json", Limits())["names"]]


def _json(path: Path, limits: Limits) -> Any:
    return json.loads(read_file(path, replace(limits, file_bytes=limits.table_bytes)))
