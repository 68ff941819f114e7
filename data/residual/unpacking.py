"""Packed bytes, unpacked as far as they are sound, and never further than a bound."""

import struct
import zlib

INFLATED_BYTES = 256 << 20
_STEP = 1 << 12
_GZIP = b"\x1f\x8b"


def inflated(content: bytes, window_bits: int = zlib.MAX_WBITS, most: int = INFLATED_BYTES) -> bytes:
    """Return what some packed bytes hold, up to ``most``; of damaged ones what stands before the damage."""
    engine, found, size = zlib.decompressobj(window_bits), [b""], 0
    for start in range(0, len(content), _STEP):
        try:
            found.append(engine.decompress(content[start : start + _STEP], most - size))
        except zlib.error:
            break
        size += len(found[-1])
        if size >= most or engine.eof:
            break
    return b"".join(found)


def gunzipped(content: bytes, most: int = INFLATED_BYTES) -> bytes:
    """Return what a gzip file holds, its first member, up to ``most``."""
    return inflated(content, zlib.MAX_WBITS | 16, most)


def is_gzip(content: bytes) -> bool:
    """Return whether some bytes begin as a gzip file does."""
    return content[:2] == _GZIP


def gzip_texts(content: bytes) -> list[bytes]:
    """Return what a gzip header says: the extra field, the name and the comment (RFC 1952, 2.3)."""
    flags, place = content[3] if len(content) > 3 else 0, 10
    found: list[bytes] = []
    if flags & 4:
        length = struct.unpack_from("<H", content, place)[0] if len(content) >= place + 2 else 0
        found.append(content[place + 2 : place + 2 + length])
        place += 2 + length
    for flag in (8, 16):
        if flags & flag:
            end = content.find(b"\0", place)
            end = len(content) if end < 0 else end
            found.append(content[place:end])
            place = end + 1
    return found
