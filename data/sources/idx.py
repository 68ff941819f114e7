"""IDX files, as MNIST and its kin are published, gzipped or not.

Source: LeCun, Cortes and Burges, "The MNIST database", section "File formats".
"""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Literal, Self, cast

import numpy as np
from pydantic import model_validator

from phantomset.data.digest import digest_of, digest_of_file
from phantomset.data.errors import SourceError
from phantomset.data.pixels.arrays import hold_names, hold_shape, numbered, raw_image
from phantomset.data.reading.tree import missing
from phantomset.data.records import RawImage, Rejected
from phantomset.data.source import Limits, ReadContext, Source, SourceSettings

_WANTED = "a folder with IDX files"
_STANDARD = (
    ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
)
_UNSIGNED_BYTE = 8


class Settings(SourceSettings, frozen=True):
    """``source: {format: idx, ...}``.

    Attributes:
        path: the folder; the files of MNIST's names in it are pooled.
        images, labels: names of one pair of files in the folder instead.
        label_names: the names of labels 0, 1, ...; None: the numbers.
    """

    format: Literal["idx"] = "idx"
    path: Path
    images: str | None = None
    labels: str | None = None
    label_names: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.images is None) != (self.labels is None):
            raise ValueError("images and labels name one pair of files: give both or none")
        return self

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The declared classes."""
        return self.label_names


def read(settings: Settings, context: ReadContext) -> Iterator[RawImage | Rejected]:
    """Yield the images of all pairs, in order; the given division into parts is dropped."""
    for images, labels in _pairs(settings):
        try:
            yield from _pair(images, labels, settings, context.limits)
        except (OSError, EOFError, zlib.error):  # gzip.BadGzipFile is an OSError
            raise SourceError(
                f"source.path: {images.name} or {labels.name} is damaged. Fetch it again."
            ) from None


def fingerprint(settings: Settings) -> str:
    """Return the digest of all files that are read."""
    return digest_of("idx", [digest_of_file(path) for pair in _pairs(settings) for path in pair])


def _pairs(settings: Settings) -> list[tuple[Path, Path]]:
    folder = settings.path
    try:
        present = {path.name for path in folder.iterdir()}
    except OSError as error:
        raise missing(folder, _WANTED, error) from None
    named = ((settings.images, settings.labels),) if settings.images and settings.labels else _STANDARD
    pairs: list[tuple[Path, Path]] = []
    for pair in named:
        found = [next((form for form in (name, f"{name}.gz") if form in present), None) for name in pair]
        if found[0] is not None and found[1] is not None:
            pairs.append((folder / found[0], folder / found[1]))
    if not pairs:
        raise SourceError(
            f"source.path: {folder} has no pair of IDX files; expected {named[0][0]} and {named[0][1]}, or "
            "the same with .gz. Name them in source.images and source.labels."
        )
    return pairs


def _pair(images: Path, labels: Path, settings: Settings, limits: Limits) -> Iterator[RawImage | Rejected]:
    with _stream(labels) as stream:
        shape = _header(stream, labels.name)
        if len(shape) != 1 or shape[0] > limits.members:
            raise SourceError(f"source.path: {labels.name} has shape {shape}; expected one number an image.")
        numbers = np.frombuffer(_exactly(stream, shape[0], labels.name), dtype=np.uint8)
        _hold_end(stream, labels.name)
    hold_names(numbers, settings.label_names)
    with _stream(images) as stream:
        shape = _header(stream, images.name)
        hold_shape(images.name, shape, np.dtype(np.uint8), numbers, limits)
        size = int(np.prod(shape[1:]))
        prefix = images.name.removesuffix(".gz")
        for key, label in zip(numbered(prefix, shape[0]), numbers.tolist(), strict=True):
            values = np.frombuffer(_exactly(stream, size, images.name), dtype=np.uint8).reshape(shape[1:])
            yield raw_image(key, values, label, settings.label_names)
        _hold_end(stream, images.name)


def _stream(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return cast(IO[bytes], gzip.open(path, "rb")) if zipped else path.open("rb")


def _header(stream: IO[bytes], name: str) -> tuple[int, ...]:
    """Read magic and sides: two zero bytes, the type, the number of sides, each side as big-endian uint32."""
    magic = _exactly(stream, 4, name)
    if magic[:2] != b"\0\0" or magic[2] != _UNSIGNED_BYTE or not 1 <= magic[3] <= 4:
        raise SourceError(f"source.path: {name} is no IDX file of unsigned bytes.")
    return tuple(np.frombuffer(_exactly(stream, 4 * magic[3], name), dtype=">u4").astype(int).tolist())


def _exactly(stream: IO[bytes], size: int, name: str) -> bytes:
    content = stream.read(size)
    if len(content) != size:
        raise SourceError(f"source.path: {name} ends early: its header declares more. Fetch it again.")
    return content


def _hold_end(stream: IO[bytes], name: str) -> None:
    """Reading past the end is also what makes gzip hold its checksum."""
    if stream.read(1):
        raise SourceError(f"source.path: {name} goes on after what its header declares. Fetch it again.")


SOURCE = Source("idx", Settings, read, fingerprint)
