"""What of a source must not be found again: texts of its headers, its file names, its undeclared columns.

This is the residual scan's own reader. It shares no code with the way in: it walks the bytes of a DICOM file
itself, knows no dictionary and no allow-list, and steps into whatever looks like a sequence. What it cannot
read as DICOM it reads as printable runs.
"""

import csv
import io
import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SHORTEST = 4
"""Characters of the shortest token that is looked for."""

_FILE_BYTES = 1 << 30
_VALUE_BYTES = 1 << 20
_INFLATED_BYTES = 256 << 20
_STEP = 1 << 12
_ELEMENTS = 1_000_000
_UNDEFINED = 0xFFFFFFFF
_LONG = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"UC", b"UN", b"UR", b"UT", b"SV", b"UV"})
_TEXT = frozenset({b"PN", b"LO", b"SH", b"ST", b"LT", b"UC", b"UT", b"UR", b"AE", b"AS", b"CS"})
_NUMERIC = frozenset({b"DS", b"IS", b"TM"})
_DATE = frozenset({b"DA", b"DT"})
_BINARY = frozenset(
    {b"US", b"SS", b"UL", b"SL", b"FL", b"FD", b"AT", b"SV", b"UV", b"OF", b"OD", b"OL", b"OV"}
)
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
_ASCII_RUN = re.compile(rb"[\x20-\x7e]{6,}")
_ANY_RUN = re.compile(rb"[\x20-\x7e\x80-\xff]{6,}")
_ESCAPES = re.compile(rb"\x1b\$?[()-]?[@-Z]")
_PICTURE = "picture header"
_WORDS = re.compile(r"[^\W_]+")
_LETTERS = re.compile(r"[^\W\d_]{3}")
_DAY = re.compile(r"(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])")


@dataclass(slots=True)
class Tokens:
    """Texts that must not be found, each with the place that it came from: a tag, "file name", "column".

    Attributes:
        words: parts of texts, at least `SHORTEST` characters; whole values are in `values`.
        values: texts as they stand, and UIDs.
        days: dates as ``YYYYMMDD``.
        raw: bytes of texts whose character set nobody knows, or that are not UTF-8.
    """

    words: dict[str, str] = field(default_factory=dict[str, str])
    values: dict[str, str] = field(default_factory=dict[str, str])
    days: dict[str, str] = field(default_factory=dict[str, str])
    raw: dict[bytes, str] = field(default_factory=dict[bytes, str])
    _seen: set[tuple[bytes, str, str]] = field(default_factory=set[tuple[bytes, str, str]])

    def __len__(self) -> int:
        return len(self.words) + len(self.values) + len(self.days) + len(self.raw)

    def add_bytes(self, value: bytes, codec: str, where: str) -> None:
        """Take the bytes of a text."""
        if (value, codec, "") in self._seen:
            return
        self._seen.add((value, codec, ""))
        plain = value if codec == "iso2022_jp" else _ESCAPES.sub(b"", value)
        try:
            text = plain.decode(codec or "ascii")
        except (UnicodeDecodeError, LookupError):
            text = value.decode("latin-1")
        if not value.isascii() or b"\x1b" in value:
            for part in re.split(rb"[\^=\\ \0]+", plain):
                if len(part) >= SHORTEST:
                    self.raw.setdefault(part, where)
        self.add(text, where)

    def add(self, text: str, where: str) -> None:
        """Take a text: as it stands, and in parts."""
        for value in re.split(r"[\\=\0]", text):
            stripped = " ".join(value.split())
            if len(stripped) >= SHORTEST:
                self.values.setdefault(stripped, where)
            for word in _WORDS.findall(stripped):
                if len(word) >= SHORTEST:
                    self.words.setdefault(word, where)

    def add_uid(self, value: bytes, where: str) -> None:
        """Take a UID, unless the standard itself gave it out."""
        for part in value.split(b"\\"):
            text = part.strip(b"\0 ").decode("latin-1")
            if len(text) >= 2 * SHORTEST and not text.startswith("1.2.840.10008."):
                self.values.setdefault(text, where)

    def add_days(self, value: bytes, where: str) -> None:
        """Take the dates in a value; what is no date is text."""
        for part in value.split(b"\\"):
            text = part.strip(b"\0 ").decode("latin-1")
            match = _DAY.match(text)
            if match:
                self.days.setdefault(match[0], where)
            elif _LETTERS.search(text):
                self.add(text, where)


def batches(source: Path, declared: frozenset[str], most: int) -> Iterator[Tokens]:
    """Yield the tokens of every file below a source, some ``most`` at a time, so that memory stays bounded.

    Args:
        source: a folder, a ZIP file, or one file.
        declared: names of table columns whose cells may be kept.
        most: tokens a batch.
    """
    tokens = Tokens()
    for name, content in _files(source):
        if name:
            tokens.add(_stem(name), "file name")
            for folder in name.split("/")[:-1]:
                tokens.add(folder, "folder name")
        read(content, name, declared, tokens)
        if len(tokens) >= most:
            yield tokens
            tokens = Tokens()
    yield tokens


def read(content: bytes, name: str, declared: frozenset[str], tokens: Tokens) -> None:
    """Take the tokens of one file, by what it is."""
    if content[128:132] == b"DICM" or content[:2] in (b"\x08\x00", b"\x02\x00", b"\x00\x08"):
        _dicom(content, tokens)
    elif name.lower().endswith((".csv", ".tsv")):
        _table(content, declared, tokens)
    elif content[:8] == b"\x89PNG\r\n\x1a\n":
        _png(content, tokens)
    elif content[:2] == b"\xff\xd8":
        _runs(content[: content.find(b"\xff\xda")], _PICTURE, tokens)
    elif content[:2] == b"\x1f\x8b" or content[344:347] in (b"n+1", b"ni1"):
        _nifti(content, tokens)
    elif content[:4] in (b"II*\0", b"MM\0*"):
        _runs(content[:2048] + content[-2048:], _PICTURE, tokens)


def _files(source: Path) -> Iterator[tuple[str, bytes]]:
    """Every regular file: its name below the source, and its bytes; none where they were kept out unread."""
    if source.is_dir():
        for folder, _, names in os.walk(source):
            for name in sorted(names):
                path = Path(folder) / name
                yield path.relative_to(source).as_posix(), _content(path)
    elif zipfile.is_zipfile(source) and source.suffix.lower() != ".npz":
        with zipfile.ZipFile(source) as archive:
            for info in archive.infolist():
                if info.is_dir():
                    continue
                try:
                    content = archive.read(info) if info.file_size <= _FILE_BYTES else b""
                except Exception:  # a damaged or encrypted member was quarantined; its name still counts
                    content = b""
                yield info.filename, content


def _content(path: Path) -> bytes:
    """The bytes of a regular file; none of a link, of a huge file, and of one that may not be read."""
    try:
        status = path.lstat()
        return path.read_bytes() if stat.S_ISREG(status.st_mode) and status.st_size <= _FILE_BYTES else b""
    except OSError:
        return b""


def _stem(name: str) -> str:
    """The last part of a path, without its suffix."""
    last = name.rpartition("/")[2]
    return last.rpartition(".")[0] or last


def _dicom(content: bytes, tokens: Tokens) -> None:
    place, explicit, order = 0, True, "<"
    if content[128:132] == b"DICM":
        _runs(content[:128], "preamble", tokens)
        place, syntax = _walk(content, 132, True, "<", tokens, stop_after_meta=True)
        if syntax == b"1.2.840.10008.1.2.1.99":
            content, place = _inflated(content[place:], -zlib.MAX_WBITS, _INFLATED_BYTES), 0
        explicit, order = syntax != b"1.2.840.10008.1.2", ">" if syntax == b"1.2.840.10008.1.2.2" else "<"
    elif content[:2] == b"\x00\x08":
        order = ">"
    _walk(content, place, explicit, order, tokens)


def _inflated(content: bytes, window_bits: int, most: int) -> bytes:
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


def _walk(
    content: bytes, place: int, explicit: bool, order: str, tokens: Tokens, stop_after_meta: bool = False
) -> tuple[int, bytes]:
    """Go through elements from ``place`` on, stepping into sequences; return where it ended, and the syntax.

    Sequences and items are walked flat: their headers are stepped over, their elements read as they come.
    """
    head, short, long = struct.Struct(order + "HH"), struct.Struct(order + "H"), struct.Struct(order + "L")
    codec, syntax, end = "", b"", len(content)
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
            close = content.find(b"\xfe\xff\xdd\xe0", start)
            scan_data = content.find(b"\xff\xda", start, start + 4096)  # before it lie a JPEG's comments
            _runs(content[start : max(start, scan_data)], _PICTURE, tokens)
            place = close + 8 if close >= 0 else end
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
        elif group != 0x7FE0 and length <= _VALUE_BYTES:
            _value(kind, value, codec, f"({group:04X},{number:04X})", tokens)
    if place < end and not stop_after_meta:
        _runs(content[place:], "trailing bytes", tokens)
    return place, syntax


def _value(kind: bytes, value: bytes, codec: str, where: str, tokens: Tokens) -> None:
    """Take one element's value by its representation; an unknown one by what it looks like."""
    if kind in _TEXT:
        tokens.add_bytes(value, codec, where)
    elif kind == b"UI":
        tokens.add_uid(value, where)
    elif kind in _DATE:
        tokens.add_days(value, where)
    elif kind in _NUMERIC:
        if _LETTERS.search(value.decode("latin-1")):
            tokens.add_bytes(value, codec, where)
    elif kind not in _BINARY:
        plain = value.strip(b"\0 ")
        if re.fullmatch(rb"[\d.]{8,64}", plain) and plain.count(b".") > 3:
            tokens.add_uid(plain, where)
        elif _DAY.fullmatch(plain.decode("latin-1")):
            tokens.add_days(plain, where)
        elif (
            kind == b""
            and plain
            and not any(byte < 32 and byte not in b"\t\r\n\x1b\f" for byte in plain[:256])
        ):
            if _LETTERS.search(plain.decode("latin-1")) or not plain.isascii():
                tokens.add_bytes(plain, codec, where)
        else:
            _runs(value, where, tokens)


def _codec(value: bytes) -> str:
    """Return Python's name of a character set; the last term that is known, since it extends the first."""
    terms = value.decode("latin-1").strip("\0 ").split("\\")
    if any("192" in term for term in terms):
        return "utf-8"
    known = [_CODECS.get(term.strip().replace("ISO 2022 IR 100", "ISO_IR 100"), "") for term in terms]
    return next((codec for codec in reversed(known) if codec), "ascii")


def _runs(content: bytes, where: str, tokens: Tokens) -> None:
    """Take the printable runs of some bytes that have three letters in a row."""
    pattern = _ASCII_RUN if where == _PICTURE else _ANY_RUN
    for run in pattern.findall(content[:_VALUE_BYTES]):
        text = run.decode("latin-1").strip()
        if _LETTERS.search(text) and len(text) >= 6:
            tokens.add(text, where)


def _table(content: bytes, declared: frozenset[str], tokens: Tokens) -> None:
    text = content.decode("utf-8-sig", "replace").replace("\0", "")
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    try:
        for row in csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter):
            for column, cell in row.items():
                if column not in declared and isinstance(cell, str):
                    tokens.add(_stem(cell), "column")
    except csv.Error:
        return


def _png(content: bytes, tokens: Tokens) -> None:
    place = 8
    while place + 8 <= len(content):
        length, kind = struct.unpack_from(">L4s", content, place)
        if kind in (b"tEXt", b"iTXt", b"eXIf"):
            _runs(content[place + 8 : place + 8 + length], _PICTURE, tokens)
        place += 12 + length


def _nifti(content: bytes, tokens: Tokens) -> None:
    if content[:2] == b"\x1f\x8b":
        try:
            content = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(content, 1024)
        except zlib.error:
            return
    if content[344:347] in (b"n+1", b"ni1"):
        for low, high in ((4, 32), (148, 252), (328, 344)):
            _runs(content[low:high], "volume header", tokens)
