"""The residual scan's own reader of what pictures and volumes say beside their pixels.

PNG: text chunks, packed or not, and what follows the end. TIFF: every directory. NIfTI and Analyze: the
header's texts, and its extensions.
"""

import re
import struct
from collections.abc import Iterator

from phantomset.data.residual.dicom import is_dicom, take_dicom
from phantomset.data.residual.tokens import PICTURE, VALUE_BYTES, Tokens
from phantomset.data.residual.unpacking import inflated

_DIRECTORIES = 10_000
_POINTERS = frozenset({330, 34665, 34853})
_HEADER = "volume header"
_SIZES = (348, 540)
_TEXTS = {348: ((4, 32), (148, 252), (328, 344)), 540: ((240, 344), (508, 524))}
_ANALYZE_TEXTS = ((4, 32), (148, 252), (253, 323))


def take_png(content: bytes, tokens: Tokens) -> None:
    """Take the texts of a PNG file, and what follows its end."""
    place = 8
    while place + 8 <= len(content):
        length, kind = struct.unpack_from(">L4s", content, place)
        value, place = content[place + 8 : place + 8 + length], place + 12 + length
        if kind in (b"tEXt", b"zTXt", b"iTXt"):
            _take_text(kind, value, tokens)
        elif kind == b"eXIf":
            tokens.add_runs(value, PICTURE)
        elif kind == b"IEND":
            tokens.add_runs(content[place:], PICTURE)
            return


def _take_text(kind: bytes, value: bytes, tokens: Tokens) -> None:
    keyword, _, text = value.partition(b"\0")
    if kind == b"zTXt":
        text = inflated(text[1:], most=VALUE_BYTES)
    elif kind == b"iTXt":
        is_packed, rest = text[:1] == b"\1", text[2:].partition(b"\0")[2]  # the language is stepped over
        translated, _, text = rest.partition(b"\0")
        text = inflated(text, most=VALUE_BYTES) if is_packed else text
        tokens.add_bytes(translated, "utf-8", PICTURE)
    if keyword.startswith(
        b"Raw profile type"
    ):  # a header of another format, in hexadecimal, as ImageMagick does
        digits = b"".join(text.split()[2:])
        if re.fullmatch(rb"(?:[0-9a-fA-F]{2})+", digits):
            tokens.add_runs(bytes.fromhex(digits.decode()), PICTURE)
            return
    tokens.add_bytes(keyword, "latin-1", PICTURE)
    tokens.add_bytes(text[:VALUE_BYTES], "utf-8" if kind == b"iTXt" else "latin-1", PICTURE)


def take_tiff(content: bytes, tokens: Tokens) -> None:
    """Take the texts of all directories of a TIFF file, also of those for a camera and a place."""
    order = "<" if content[:2] == b"II" else ">"
    wide = content[2:4] in (b"+\0", b"\0+")
    starts = [_number(content, 8 if wide else 4, order, wide)]
    seen: set[int] = set()
    while starts and len(seen) < _DIRECTORIES:
        start = starts.pop()
        if start not in seen:
            seen.add(start)
            for tag, value in _tiff_entries(content, start, order, wide, starts):
                if tag in _POINTERS:
                    form = order + ("Q" if wide and len(value) % 8 == 0 else "L")
                    size = struct.calcsize(form)
                    starts += [
                        struct.unpack_from(form, value, at)[0] for at in range(0, len(value) - size + 1, size)
                    ]
                else:
                    tokens.add_runs(value, PICTURE)


def _tiff_entries(
    content: bytes, start: int, order: str, wide: bool, starts: list[int]
) -> Iterator[tuple[int, bytes]]:
    """Yield tag and bytes of the entries that hold text or point to a directory; note the next directory."""
    head, size, field = (8, 20, 12) if wide else (2, 12, 8)
    count = (
        struct.unpack_from(order + ("Q" if wide else "H"), content.ljust(start + head, b"\0"), start)[0]
        if (0 < start <= len(content) - head)
        else 0
    )
    count = min(count, len(content) // size)
    for at in range(start + head, start + head + count * size, size):
        if at + size > len(content):
            return
        tag, kind = struct.unpack_from(order + "HH", content, at)
        length = _number(content, at + 4, order, wide)
        is_pointer = tag in _POINTERS and kind in (4, 13, 16, 18)
        if kind not in (1, 2, 7) and not is_pointer:
            continue
        length *= (8 if kind in (16, 18) else 4) if is_pointer else 1
        room = size - field
        place = at + field if length <= room else _number(content, at + field, order, wide)
        yield tag, content[place : place + min(length, VALUE_BYTES)]
    after = start + head + count * size
    if count and after + 4 <= len(content):
        starts.append(_number(content, after, order, wide))


def _number(content: bytes, place: int, order: str, wide: bool) -> int:
    """A count or an offset, as wide as the file has them; 0 past the end."""
    form = order + ("Q" if wide else "L")
    return struct.unpack_from(form, content, place)[0] if place + struct.calcsize(form) <= len(content) else 0


def is_volume(content: bytes) -> bool:
    """Return whether some bytes begin as a NIfTI-1, NIfTI-2 or Analyze header does."""
    return len(content) >= 348 and _order(content) is not None


def header_end(content: bytes) -> int:
    """Return where the header and its extensions end, at most 16 MiB on: how far to unpack."""
    order = _order(content) or "<"
    if struct.unpack_from(order + "l", content)[0] == 540:
        end = struct.unpack_from(order + "q", content, 168)[0]
    else:
        offset = struct.unpack_from(order + "f", content, 108)[0]
        end = int(offset) if 0 <= offset < 1e9 else 0
    return min(max(end, 544), 16 << 20)


def take_volume(content: bytes, tokens: Tokens) -> None:
    """Take the texts of a volume's header, and of its extensions: other headers, XML, comments."""
    order = _order(content) or "<"
    size = struct.unpack_from(order + "l", content)[0]
    has_magic = size == 540 or content[344:347] in (b"n+1", b"ni1")
    for low, high in _TEXTS[size] if has_magic else _ANALYZE_TEXTS:
        for part in content[low:high].split(b"\0"):
            if part.strip() and not any(byte < 32 for byte in part):
                tokens.add_bytes(part, "utf-8", _HEADER)
    is_pair = content[344:347] == b"ni1" or content[4:7] == b"ni2"
    end = len(content) if is_pair else min(len(content), header_end(content))
    place = size + 4
    if not has_magic or content[size : size + 1] == b"\0":
        return
    while place + 8 <= end:
        length = struct.unpack_from(order + "l", content, place)[0]
        if length < 8:
            break
        value = content[place + 8 : min(place + length, end)]
        if is_dicom(value):
            take_dicom(value, tokens)
        tokens.add_runs(value, _HEADER)
        place += length


def _order(content: bytes) -> str | None:
    """The order of bytes in which the header's size is one of a volume's."""
    return next((order for order in "<>" if struct.unpack_from(order + "l", content)[0] in _SIZES), None)
