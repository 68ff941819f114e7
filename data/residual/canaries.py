"""The residual scan's test of itself: a canary in each place that carries text, in each form."""

import json
import struct
import zlib
from collections.abc import Iterator

from phantomset.data.residual.canaries_in_files import WORD, in_files, jpeg

_DAY = "19310417"
_UID = "1.3.6.1.4.1.55555.31.4.17"
_SYNTAX = b"1.2.840.10008.1.2.1\0"
_LONG = (b"OB", b"OW", b"SQ", b"UN", b"UT", b"UC", b"UR")


def planted() -> Iterator[tuple[str, str, bytes, str]]:
    """Yield a place, the name and the bytes of a file with a canary there, and the canary."""
    yield from ((place, "file.dcm", content, canary) for place, content, canary in _in_dicom())
    yield from ((place, name, content, WORD) for place, name, content in in_files(_file(_name())))


def _in_dicom() -> Iterator[tuple[str, bytes, str]]:
    plain = WORD.encode() + b" "
    day, uid = _DAY.encode(), _UID.encode() + b"\0"
    yield "the preamble", plain.ljust(128, b"\0") + b"DICM" + _meta() + _pixels(), WORD
    yield "file meta", _file(b"", meta=_explicit(2, 0x16, b"AE", plain)), WORD
    for kind in (b"PN", b"LO", b"SH", b"ST", b"LT", b"UT", b"UC", b"UR", b"AE", b"CS", b"DS", b"UN"):
        yield f"an element {kind.decode()}", _file(_explicit(0x10, 0x10, kind, plain)), WORD
    yield "an age", _file(_explicit(0x10, 0x1010, b"AS", b"097Y")), "097Y"
    for kind, value in ((b"DA", day), (b"DT", day + b"101112")):
        yield f"a date {kind.decode()}", _file(_explicit(8, 0x20, kind, value)), _DAY
    yield "a name in a date", _file(_explicit(8, 0x20, b"DA", plain)), WORD
    yield "a UID", _file(_explicit(8, 0x18, b"UI", uid)), _UID
    yield "a private element", _file(_explicit(9, 0x1001, b"LO", plain)), WORD
    yield "an overlay's label", _file(_explicit(0x6000, 0x1500, b"LO", plain)), WORD
    yield from ((place, content, WORD) for place, content in _elsewhere(plain))
    nested = _name()
    for _ in range(12):
        nested = _sequence(0x40, 0x275, nested)
    yield "a sequence twelve deep", _file(nested), WORD
    yield "a UID in a sequence", _file(_sequence(8, 0x1140, _explicit(8, 0x1155, b"UI", uid))), _UID
    yield "the file meta's UID", _file(b"", meta=_explicit(2, 3, b"UI", uid)), _UID
    yield "after the pixels, in their element", _overlong(plain), WORD
    yield "after the pixels", _file(b"", after=_explicit(0xFFFC, 0xFFFC, b"OB", plain)), WORD
    yield "after the data set", _file(b"", after=b"said " + plain * 2), WORD
    body = _implicit(8, 0x20, day) + _implicit(0x10, 0x10, plain)
    yield "implicit representation", _file(body, syntax=b"1.2.840.10008.1.2\0"), WORD
    body = _implicit(9, 0x1001, plain)
    yield "a private element, implicit", _file(body, syntax=b"1.2.840.10008.1.2\0"), WORD
    for stream, content in (
        ("a JPEG", jpeg(plain)),
        ("a JPEG 2000", b"\xff\x4f\xff\x51\0\2\xff\x64\0\x0e\0\1" + plain + b"\xff\x90"),
    ):
        item = b"\xfe\xff\x00\xe0"
        frames = (
            item
            + bytes(4)
            + item
            + struct.pack("<L", len(content))
            + content
            + b"\xfe\xff\xdd\xe0"
            + bytes(4)
        )
        head = struct.pack("<HH", 0x7FE0, 0x10) + b"OB" + bytes(2) + b"\xff\xff\xff\xff"
        yield f"{stream} comment in a frame", bytes(128) + b"DICM" + _meta() + head + frames, WORD
    packed = zlib.compress(_explicit(0x10, 0x10, b"PN", plain), wbits=-15)
    yield "a deflated data set", bytes(128) + b"DICM" + _meta(b"1.2.840.10008.1.2.1.99") + packed, WORD
    for term, codec, name in (
        (b"ISO_IR 192", "utf-8", "Müßigbrodt"),
        (b"ISO_IR 100", "latin-1", "Müßigbrodt"),
        (b"ISO_IR 144", "iso8859_5", "Люксембург"),
        (b"\\ISO 2022 IR 87 ", "iso2022_jp", "山城太郎座"),
        (b"\\ISO 2022 IR 149", "euc_kr", "김희중환자"),
        (b"GB18030 ", "gb18030", "王小东先生"),
        (b"ISO_IR 999", "ascii", WORD),
    ):
        value = name.encode(codec)
        value += b" " * (len(value) % 2)
        charset = _explicit(8, 5, b"CS", term + b" " * (len(term) % 2))
        yield f"character set {term.decode()}", _file(charset + _explicit(0x10, 0x10, b"PN", value)), name


def _elsewhere(plain: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield elements that no dictionary names, of curves, sound and documents, and texts in sequences."""
    for place, group, number, kind in (
        ("curve data", 0x5000, 0x3000, b"OB"),
        ("a curve's label", 0x5000, 0x2500, b"LO"),
        ("sound", 0x5000, 0x200C, b"OB"),
        ("an overlay's comments", 0x6000, 0x4000, b"LT"),
        ("a private creator", 9, 0x10, b"LO"),
        ("an unknown private value", 9, 0x1001, b"UN"),
        ("an element of no dictionary", 0x18, 0xEEEE, b"LO"),
        ("an encapsulated document", 0x42, 0x11, b"OB"),
        ("a padding", 0xFFFC, 0xFFFC, b"OB"),
    ):
        yield place, _file(_explicit(group, number, kind, plain))
    for place, outer, inner in (
        ("a private element in a sequence", (8, 0x1032), _explicit(9, 0x1001, b"LO", plain)),
        ("a private sequence", (9, 0x1002), _explicit(0x10, 0x10, b"PN", plain)),
        ("a text of a report", (0x40, 0xA730), _explicit(0x40, 0xA160, b"UT", plain)),
        ("a person of a report", (0x40, 0xA730), _explicit(0x40, 0xA123, b"PN", plain)),
        ("a frame's comments", (0x5200, 0x9230), _explicit(0x20, 0x9158, b"LT", plain)),
        ("an annotation", (0x70, 1), _sequence(0x70, 8, _explicit(0x70, 6, b"ST", plain))),
    ):
        yield place, _file(_sequence(*outer, inner))
    yield "file meta, private", _file(b"", meta=_explicit(2, 0x102, b"OB", plain))


def unclean(canary: str) -> Iterator[tuple[str, bytes]]:
    """Yield the forms in which a text may have been written."""
    around = "a record {} and more"
    for form, text in (("text", canary), ("capitals", canary.upper())):
        yield form, around.format(text).encode()
    yield "UTF-16", around.format(canary).encode("utf-16-le")
    if canary.isdecimal():
        year, month, day = canary[:4], canary[4:6], canary[6:]
        for layout in (f"{year}-{month}-{day}", f"{day}.{month}.{year}", f"{month}/{day}/{year}"):
            yield f"the date as {layout[4:5]}", around.format(layout).encode()
    if not canary.isascii():
        once = json.dumps(around.format(canary))
        yield "JSON escapes", once.encode()
        yield "JSON within JSON", json.dumps(once).encode()
        yield "Python's escapes", around.format(canary).encode("unicode_escape")


def clean() -> bytes:
    """What any run writes: digests, numbers, words."""
    return b'{"digest": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "files": 19310}'


def _explicit(group: int, number: int, kind: bytes, value: bytes) -> bytes:
    head = struct.pack("<HH", group, number) + kind
    return (
        head + (struct.pack("<HL", 0, len(value)) if kind in _LONG else struct.pack("<H", len(value))) + value
    )


def _sequence(group: int, number: int, item: bytes) -> bytes:
    return _explicit(group, number, b"SQ", b"\xfe\xff\x00\xe0" + struct.pack("<L", len(item)) + item)


def _overlong(after: bytes) -> bytes:
    """A file of four by four pixels of 16 bits, with more behind them in the element of the pixels."""
    sides = ((2, 1), (0x10, 4), (0x11, 4), (0x100, 16))
    shape = b"".join(_explicit(0x28, number, b"US", struct.pack("<H", value)) for number, value in sides)
    return bytes(128) + b"DICM" + _meta() + shape + _explicit(0x7FE0, 0x10, b"OW", bytes(32) + after)


def _name() -> bytes:
    return _explicit(0x10, 0x10, b"PN", WORD.encode() + b" ")


def _implicit(group: int, number: int, value: bytes) -> bytes:
    return struct.pack("<HHL", group, number, len(value)) + value


def _meta(syntax: bytes = _SYNTAX, more: bytes = b"") -> bytes:
    return _explicit(2, 0x10, b"UI", syntax) + more


def _pixels() -> bytes:
    return _explicit(0x7FE0, 0x10, b"OW", bytes(32))


def _file(body: bytes, meta: bytes = b"", after: bytes = b"", syntax: bytes = _SYNTAX) -> bytes:
    pixels = _implicit(0x7FE0, 0x10, bytes(32)) if syntax == b"1.2.840.10008.1.2\0" else _pixels()
    return bytes(128) + b"DICM" + _meta(syntax, meta) + body + pixels + after
