"""The residual scan's own reader of DICOM: it walks the bytes, and knows no dictionary and no allow-list.

It steps into whatever looks like a sequence. What it cannot read as elements it reads as printable runs.
"""

import math
import re
import struct
import zlib

from phantomset.data.residual.jpeg import take_jpeg
from phantomset.data.residual.tokens import DAY, LETTERS, PICTURE, VALUE_BYTES, Tokens
from phantomset.data.residual.unpacking import inflated

_ELEMENTS = 1_000_000
_UNDEFINED = 0xFFFFFFFF
_LONG = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"UC", b"UN", b"UR", b"UT", b"SV", b"UV"})
_TEXT = frozenset({b"PN", b"LO", b"SH", b"ST", b"LT", b"UC", b"UT", b"UR", b"AE", b"AS", b"CS"})
_NUMERIC = frozenset({b"DS", b"IS", b"TM"})
_DATE = frozenset({b"DA", b"DT"})
_BINARY = frozenset(
    {b"US", b"SS", b"UL", b"SL", b"FL", b"FD", b"AT", b"SV", b"UV", b"OF", b"OD", b"OL", b"OV"}
)
_PERSON = frozenset({"(0010,0010)", "(0010,0020)", "(0010,1000)", "(0010,1001)"})
_SHAPE = frozenset({0x0002, 0x0008, 0x0010, 0x0011, 0x0100})
"""Of group 0028: samples, frames, rows, columns, allocated bits."""

_ITEM = b"\xfe\xff\x00\xe0"
_ITEM_BIG = b"\xff\xfe\xe0\x00"
_CODECS = {
    "ISO_IR 100": "latin-1",
    "ISO_IR 101": "iso8859_2",
    "ISO_IR 109": "iso8859_3",
    "ISO_IR 110": "iso8859_4",
    "ISO_IR 126": "iso8859_7",
    "ISO_IR 127": "iso8859_6",
    "ISO_IR 138": "iso8859_8",
    "ISO_IR 144": "iso8859_5",
    "ISO_IR 148": "iso8859_9",
    "ISO_IR 166": "tis_620",
    "ISO_IR 13": "shift_jis",
    "ISO 2022 IR 87": "iso2022_jp",
    "ISO 2022 IR 149": "euc_kr",
    "ISO 2022 IR 58": "gb2312",
    "GB18030": "gb18030",
    "GBK": "gbk",
}


def is_dicom(content: bytes) -> bool:
    """Return whether some bytes begin as a DICOM file does, or as a data set without file meta."""
    return content[128:132] == b"DICM" or content[:2] in (b"\x08\x00", b"\x02\x00", b"\x00\x08")


def take_dicom(content: bytes, tokens: Tokens) -> None:
    """Take the texts, dates and UIDs of a DICOM file, at every depth."""
    place, explicit, order = 0, True, "<"
    if content[128:132] == b"DICM":
        tokens.add_runs(content[:128], "preamble")
        place, syntax = _walk(content, 132, True, "<", tokens, stop_after_meta=True)
        if syntax == b"1.2.840.10008.1.2.1.99":
            content, place = inflated(content[place:], -zlib.MAX_WBITS), 0
        explicit, order = syntax != b"1.2.840.10008.1.2", ">" if syntax == b"1.2.840.10008.1.2.2" else "<"
    elif content[:2] == b"\x00\x08":
        order = ">"
    _walk(content, place, explicit, order, tokens)


def _walk(
    content: bytes, place: int, explicit: bool, order: str, tokens: Tokens, stop_after_meta: bool = False
) -> tuple[int, bytes]:
    """Go through elements from ``place`` on, stepping into sequences; return where it ended, and the syntax.

    Sequences and items are walked flat: their headers are stepped over, their elements read as they come.
    """
    head, short, long = struct.Struct(order + "HH"), struct.Struct(order + "H"), struct.Struct(order + "L")
    codec, syntax, end, shape = "", b"", len(content), dict[int, bytes]()
    for _ in range(_ELEMENTS):
        if place + 8 > end:
            break
        group, number = head.unpack_from(content, place)
        if stop_after_meta and group != 2:
            break
        if group == 0xFFFE:
            place += 8
            continue
        kind = content[place + 4 : place + 6]
        if explicit and kind.isalpha() and kind.isupper():
            if kind in _LONG:
                if place + 12 > end:
                    break
                length, start = long.unpack_from(content, place + 8)[0], place + 12
            else:
                length, start = short.unpack_from(content, place + 6)[0], place + 8
        else:
            kind, length, start = b"", long.unpack_from(content, place + 4)[0], place + 8
        opens = content[start : start + 4] in (_ITEM, _ITEM_BIG)
        if group == 0x7FE0 and length == _UNDEFINED:
            place = _take_fragments(content, start, long, tokens)
            continue
        if kind == b"SQ" or length == _UNDEFINED or (opens and kind in (b"", b"UN")):
            place = start
            continue
        if start + length > end and group != 0x7FE0:
            break  # cut off, or no element at all: what is left is read as runs
        value = content[start : min(start + length, end)]
        place = start + length
        if (group, number) == (0x0008, 0x0005):
            codec = _codec(value)
        elif (group, number) == (0x0002, 0x0010):
            syntax = value.strip(b"\0 ")
        elif group == 0x0028 and number in _SHAPE:
            shape.setdefault(number, value)  # the first are the image's own, later ones an icon's
        elif (group, number) == (0x7FE0, 0x0010):
            tokens.add_runs(_beyond(value, shape, short), "bytes after the pixels")
        elif group != 0x7FE0 and length <= VALUE_BYTES:
            _value(kind, value, codec, f"({group:04X},{number:04X})", tokens)
    if place < end and not stop_after_meta:
        tokens.add_runs(content[place:], "trailing bytes")
    return place, syntax


def _beyond(value: bytes, shape: dict[int, bytes], short: struct.Struct) -> bytes:
    """Return what stands after the pixels within their element; more than a frame is taken for pixels."""
    sides = [shape.get(number, b"") for number in (0x0002, 0x0010, 0x0011, 0x0100)]
    frames = shape.get(0x0008, b"1").strip(b"\0 ")
    if any(len(side) != 2 for side in sides) or not (frames.isdigit() and len(frames) < 8):
        return b""
    bits = math.prod(short.unpack(side)[0] for side in sides)
    size = -(-bits * int(frames) // 8)
    return value[size:] if len(value) - size < bits // 8 else b""


def _take_fragments(content: bytes, place: int, long: struct.Struct, tokens: Tokens) -> int:
    """Take the texts in the headers of encapsulated streams; return where the element of the pixels ends."""
    while content[place : place + 4] in (_ITEM, _ITEM_BIG) and place + 8 <= len(content):
        length = long.unpack_from(content, place + 4)[0]
        fragment, place = content[place + 8 : place + 8 + length], place + 8 + length
        if fragment[:2] == b"\xff\xd8":
            take_jpeg(fragment, tokens)
        elif fragment[:4] == b"\xff\x4f\xff\x51":  # JPEG 2000: before its first tile lie the comments
            tokens.add_runs(fragment[: max(0, fragment.find(b"\xff\x90"))], PICTURE)
    close = content.find(b"\xfe\xff\xdd\xe0", place)
    return close + 8 if close >= 0 else len(content)


def _value(kind: bytes, value: bytes, codec: str, where: str, tokens: Tokens) -> None:
    """Take one element's value by its representation; an unknown one by what it looks like."""
    if kind in _TEXT:
        tokens.add_bytes(value, codec, where, kind == b"PN" or where in _PERSON)
    elif kind == b"UI":
        tokens.add_uid(value, where)
    elif kind in _DATE:
        tokens.add_days(value, where)
    elif kind in _NUMERIC:
        if LETTERS.search(value.decode("latin-1")):
            tokens.add_bytes(value, codec, where)
    elif kind not in _BINARY:
        plain = value.strip(b"\0 ")
        if re.fullmatch(rb"[\d.]{8,64}", plain) and plain.count(b".") > 3:
            tokens.add_uid(plain, where)
        elif DAY.fullmatch(plain.decode("latin-1")):
            tokens.add_days(plain, where)
        elif (
            kind == b""
            and plain
            and not any(byte < 32 and byte not in b"\t\r\n\x1b\f" for byte in plain[:256])
        ):
            is_person = b"^" in plain or where in _PERSON
            if is_person or LETTERS.search(plain.decode("latin-1")) or not plain.isascii():
                tokens.add_bytes(plain, codec, where, is_person)
        else:
            tokens.add_runs(value, where)


def _codec(value: bytes) -> str:
    """Return Python's name of a character set; the last term that is known, since it extends the first."""
    terms = value.decode("latin-1").strip("\0 ").split("\\")
    if any("192" in term for term in terms):
        return "utf-8"
    known = [_CODECS.get(term.strip().replace("ISO 2022 IR 100", "ISO_IR 100"), "") for term in terms]
    return next((codec for codec in reversed(known) if codec), "ascii")
