"""One ``.npz`` file of images and labels: MedMNIST's keys, or those that MNIST files go by."""

import tokenize
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.lib import format as npy

from phantomset.data.digest import digest_of_file
from phantomset.data.errors import SourceError
from phantomset.data.pixels.arrays import hold_names, hold_shape, numbered, raw_image
from phantomset.data.reading.tree import ZIP_ERRORS, missing
from phantomset.data.records import RawImage, Rejected
from phantomset.data.source import Limits, ReadContext, Source, SourceSettings
from phantomset.data.synthetic_mark import NPZ_KEY

_WANTED = "an .npz file of images and labels"
_PAIRS = (
    ("train_images", "train_labels"),
    ("val_images", "val_labels"),
    ("test_images", "test_labels"),
    ("x_train", "y_train"),
    ("x_test", "y_test"),
)
"""Which arrays belong together; all that are there are pooled."""


class Settings(SourceSettings, frozen=True):
    """``source: {format: medmnist, ...}``.

    Attributes:
        path: the file.
        label_names: the names of labels 0, 1, ...; None: the numbers.
    """

    format: Literal["medmnist"] = "medmnist"
    path: Path
    label_names: tuple[str, ...] | None = None

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The declared classes."""
        return self.label_names


def read(settings: Settings, context: ReadContext) -> Iterator[RawImage | Rejected]:
    """Yield the images of all parts, in order; the given division into parts is dropped."""
    with _open(settings.path) as archive:
        if f"{NPZ_KEY}.npy" in archive.namelist():
            raise SourceError(
                f"source.path: {settings.path} says, by its array {NPZ_KEY}, that a trained model made it. "
                "A synthetic set is not taken in as real; give the real images."
            )
        pairs = [pair for pair in _PAIRS if {f"{name}.npy" for name in pair} <= set(archive.namelist())]
        if not pairs:
            raise SourceError(
                f"source.path: {settings.path} has no pair of arrays such as train_images and train_labels. "
                "Rename the arrays as MedMNIST does."
            )
        for images, labels in pairs:
            yield from _part(archive, images, labels, settings, context.limits)


def fingerprint(settings: Settings) -> str:
    """Return the digest of the file."""
    with _open(settings.path):
        return digest_of_file(settings.path)


def _open(path: Path) -> zipfile.ZipFile:
    try:
        if path.is_dir():
            raise SourceError(f"source.path: {path} is a folder; expected {_WANTED}.")
        return zipfile.ZipFile(path)
    except OSError as error:
        raise missing(path, _WANTED, error) from None
    except ZIP_ERRORS:
        raise SourceError(f"source.path: {path} is damaged or no .npz file; expected {_WANTED}.") from None


def _part(
    archive: zipfile.ZipFile, images: str, labels: str, settings: Settings, limits: Limits
) -> Iterator[RawImage | Rejected]:
    """Stream one array from the archive: memory holds one image, whatever the header claims."""
    try:
        with archive.open(_member(archive, labels, limits)) as stream:
            shape, dtype = _header(stream, labels)
            content = stream.read(limits.table_bytes)
            numbers = np.frombuffer(content, dtype=dtype) if dtype.itemsize else np.zeros(0, dtype)
            numbers = numbers.reshape(shape)
        with archive.open(_member(archive, images, limits)) as stream:
            shape, dtype = _header(stream, images)
            hold_shape(images, shape, dtype, numbers, limits)
            numbers = numbers.reshape(-1)
            hold_names(numbers, settings.label_names)
            size = int(np.prod(shape[1:]))
            for key, label in zip(numbered(images, shape[0]), numbers.tolist(), strict=True):
                values = np.frombuffer(stream.read(size), dtype=np.uint8).reshape(shape[1:])
                yield raw_image(key, values, label, settings.label_names)
            if stream.read(1):
                raise SourceError(
                    f"source.path: array {images} goes on after what its header declares. Fetch it again."
                )
    except (*ZIP_ERRORS, tokenize.TokenError):  # an .npy header is Python's text
        raise SourceError(
            f"source.path: {settings.path} is damaged: arrays {images} and {labels} cannot be read to their "
            "end. Fetch the file again."
        ) from None


def _member(archive: zipfile.ZipFile, name: str, limits: Limits) -> zipfile.ZipInfo:
    info = archive.getinfo(f"{name}.npy")
    free = info.file_size <= limits.expansion_free_bytes
    if not free and info.file_size > limits.expansion * max(1, info.compress_size):
        raise SourceError(
            f"source.path: array {name} expands {info.file_size // max(1, info.compress_size):,} times: "
            "it is refused as a decompression bomb."
        )
    return info


def _header(stream: IO[bytes], name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Read an .npy header; what holds Python objects is refused, since reading it runs code."""
    version = npy.read_magic(stream)
    reader = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = reader(stream)
    if dtype.hasobject:
        raise SourceError(
            f"source.path: array {name} holds Python objects, which are never read. Save plain numbers."
        )
    if fortran and len(shape) > 1:
        raise SourceError(
            f"source.path: array {name} is stored column by column; use numpy.ascontiguousarray."
        )
    return tuple(int(side) for side in shape), dtype


SOURCE = Source("medmnist", Settings, read, fingerprint)
