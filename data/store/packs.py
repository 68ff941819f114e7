"""What lies in a pack: objects one after another, each of which can be read and verified alone.

An object is a header of 64 bytes and the row-major bytes of one image, compressed with zstd::

    magic and version   4 bytes   "PSO1"
    digest             32 bytes   `digest_of_pixels`, the image's name
    dtype               4 bytes   "|u1"
    C, H, W        3 x  4 bytes   little-endian, as all numbers here
    length              4 bytes   of the compressed bytes that follow
    checksum            4 bytes   CRC-32 of the compressed bytes
    checksum            4 bytes   CRC-32 of the header before it: chance bytes are not taken for one

An open pack grows at its end. Sealing sorts its objects by digest into a new file and writes the index last:
a parquet file with the place of each. It is the same step for a writer that is done, for a pack whose writer
was killed, and for one whose index was lost: objects that are whole are kept, a torn tail is not.
"""

import fcntl
import functools
import math
import os
import struct
import zlib
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np

from phantomset.data.digest import digest_of
from phantomset.data.pixels.canonical import digest_of_pixels

_MAGIC, _DTYPE = b"PSO1", b"|u1\0"
_FIELDS = struct.Struct("<4s32s4s3III")
_CHECK = struct.Struct("<I")
_HEAD_BYTES = _FIELDS.size + _CHECK.size
_LEVEL = 3

OPEN, SEALING = "open-", "sealing-"
"""How the names begin of packs that are being written."""


class DamagedObject(ValueError):  # noqa: N818 - what it is, not what went wrong in the program
    """Bytes that are not the object that they should be."""


class Header(NamedTuple):
    """What an object says of itself: its digest, ``(C, H, W)``, and the compressed bytes that follow."""

    digest: str
    shape: tuple[int, int, int]
    length: int
    checksum: int


class Place(NamedTuple):
    """Where an object lies in a pack: its digest, and its offset and length with the header, in bytes."""

    digest: str
    offset: int
    length: int


def packed(image: np.ndarray, digest: str) -> bytes:
    """Return an image ``(C, H, W) uint8`` as an object."""
    body: bytes = _codec().compress(image.tobytes(), asbytes=True)
    head = _FIELDS.pack(_MAGIC, bytes.fromhex(digest), _DTYPE, *image.shape, len(body), zlib.crc32(body))
    return head + _CHECK.pack(zlib.crc32(head)) + body


def unpacked(content: bytes, digest: str) -> np.ndarray:
    """Return the image ``(C, H, W) uint8`` of an object, held against its digest.

    Raises:
        DamagedObject: the object is cut, changed, or another one.
    """
    header = _header(content[:_HEAD_BYTES])
    if header is None or header.digest != digest or len(content) != _HEAD_BYTES + header.length:
        raise DamagedObject(digest)
    try:
        pixels = _codec().decompress(content[_HEAD_BYTES:], math.prod(header.shape), asbytes=True)
    except OSError:
        raise DamagedObject(digest) from None
    image = np.frombuffer(pixels, dtype=np.uint8).reshape(header.shape)
    if digest_of_pixels(image) != digest:
        raise DamagedObject(digest)
    return image


def whole_objects(stream: BinaryIO) -> Iterator[Place]:
    """Yield the objects of a pack, in their order; one whose bytes were changed is passed over.

    Where no whole header stands, or bytes are missing, the rest is a torn tail.
    """
    offset = stream.seek(0)
    while (header := _header(stream.read(_HEAD_BYTES))) is not None:
        body = stream.read(header.length)
        if len(body) < header.length:
            return
        length = _HEAD_BYTES + header.length
        if zlib.crc32(body) == header.checksum:
            yield Place(header.digest, offset, length)
        offset += length


def seal(stream: BinaryIO, folder: Path, staging: Path, known: Container[str]) -> Path | None:
    """Move the whole objects of an open pack into ``folder``, its index last; return the sealed pack.

    Its name is made from the digests in it: equal content is equal bytes under an equal name. The open pack
    stays for the caller to take away.

    Args:
        stream: the open pack, a file, flushed.
        folder: where sealed packs lie.
        staging: where the new files are written, on the same disk.
        known: digests that lie in sealed packs already and are left out; None is returned if all are.
    """
    places = {place.digest: place for place in whole_objects(stream) if place.digest not in known}
    if not places:
        return None
    pack = folder / f"{digest_of('pack', sorted(places))}.pack"
    parts = [staging / f"{SEALING}{path.name}" for path in (pack, index_of(pack))]
    sealed: list[Place] = []
    try:
        with private(parts[0]) as copy:
            for digest in sorted(places):
                _, offset, length = places[digest]
                content = os.pread(stream.fileno(), length, offset)  # a buffer would be filled for each
                sealed.append(Place(digest, copy.tell(), copy.write(content)))
            synced(copy)
        with private(parts[1]) as copy:
            copy.write(_index(pack, sealed))
            synced(copy)
        for part, path in zip(parts, (pack, index_of(pack)), strict=True):
            part.replace(path)
    finally:
        for part in parts:
            part.unlink(missing_ok=True)
    _sync_folder(folder)
    return pack


def index_of(pack: Path) -> Path:
    """Return where the index of a pack lies."""
    return pack.with_suffix(".pack.parquet")


def private(path: Path) -> BinaryIO:
    """Open a new file that its owner alone can read, locked as long as it is open."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
    stream = os.fdopen(os.open(path, flags, 0o600), "w+b", buffering=1 << 20)
    fcntl.flock(stream, fcntl.LOCK_EX)
    return stream


def is_left(stream: BinaryIO) -> bool:
    """Return whether the process that opened a file with `private` is done with it, or gone."""
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def synced(stream: BinaryIO) -> None:
    """Make what was written survive a power cut."""
    stream.flush()
    os.fsync(stream.fileno())


def _header(content: bytes) -> Header | None:
    """What the first 64 bytes of an object say; None where they are no whole header."""
    fields, check = content[: _FIELDS.size], content[_FIELDS.size :]
    if len(content) < _HEAD_BYTES or check != _CHECK.pack(zlib.crc32(fields)):
        return None
    magic, digest, dtype, channels, height, width, length, checksum = _FIELDS.unpack(fields)
    if (magic, dtype) != (_MAGIC, _DTYPE):
        return None
    return Header(digest.hex(), (channels, height, width), length, checksum)


def _index(pack: Path, places: list[Place]) -> bytes:
    import pandas as pd

    frame = pd.DataFrame(places, columns=list(Place._fields))
    frame.insert(1, "pack", pack.name)
    return frame.to_parquet(index=False)


@functools.cache
def _codec() -> Any:
    import pyarrow as pa  # pyright: ignore[reportMissingTypeStubs]

    return cast(Any, pa).Codec("zstd", _LEVEL)


def _sync_folder(folder: Path) -> None:
    """Make renames survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
