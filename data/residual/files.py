"""The residual scan's own way through a source: every file, its name, and its texts by what it is.

It shares no code with the way in. What it cannot read gives no token but its name.
"""

import contextlib
import csv
import io
import os
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path

from phantomset.data.residual.dicom import is_dicom, take_dicom
from phantomset.data.residual.headers import (
    header_end,
    is_volume,
    take_png,
    take_tiff,
    take_volume,
)
from phantomset.data.residual.jpeg import take_jpeg
from phantomset.data.residual.tokens import Tokens
from phantomset.data.residual.unpacking import gunzipped, gzip_texts, is_gzip

_FILE_BYTES = 1 << 30
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_LINES = 3
"""Lines that must have equally many delimiters for a text to be taken for a table."""


def batches(source: Path, declared: frozenset[str], most: int, table: Path | None = None) -> Iterator[Tokens]:
    """Yield the tokens of every file below a source, some ``most`` at a time, so that memory stays bounded.

    Args:
        source: a folder, a ZIP file, or one file.
        declared: names of table columns whose cells may be kept.
        most: tokens a batch.
        table: the label table: inside the source, or relative to its folder, or absolute.
    """
    tokens = Tokens()
    for name, content, is_table in _with_table(source, table, tokens):
        take(content, name, declared, tokens, is_table)
        if len(tokens) >= most:
            yield tokens
            tokens = Tokens()
    yield tokens


def take(content: bytes, name: str, declared: frozenset[str], tokens: Tokens, is_table: bool = False) -> None:
    """Take the tokens of one file: of its path below the source, and of what it holds."""
    if name:
        _add_path(name, tokens, "file name")
        for folder in name.split("/")[:-1]:
            tokens.add(folder, "folder name")
    read(content, name, declared, tokens, is_table)


def read(content: bytes, name: str, declared: frozenset[str], tokens: Tokens, is_table: bool = False) -> None:
    """Take the tokens of what one file holds, by what it is; of a packed one by what it unpacks to."""
    if content[:4] in _TIFF:
        take_tiff(content, tokens)  # and go on: a DICOM file may begin as a TIFF file does
    if is_table or name.lower().endswith((".csv", ".tsv")):
        _take_table(content, declared, tokens)
    elif is_dicom(content):
        take_dicom(content, tokens)
    elif is_gzip(content):
        for text in gzip_texts(content):
            tokens.add_bytes(text, "latin-1", "gzip header")
        inner = gunzipped(content, 1024)
        inner = gunzipped(content, header_end(inner)) if is_volume(inner) else gunzipped(content)
        if not is_gzip(inner):
            read(inner, _stem(name), declared, tokens)
    elif content[:8] == b"\x89PNG\r\n\x1a\n":
        take_png(content, tokens)
    elif content[:2] == b"\xff\xd8":
        take_jpeg(content, tokens)
    elif is_volume(content):
        take_volume(content, tokens)
    elif _is_table(content):
        _take_table(content, declared, tokens)


def members(archive: zipfile.ZipFile, tokens: Tokens) -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of every file in an archive; take its own comments."""
    tokens.add_runs(archive.comment, "archive comment")
    for info in archive.infolist():
        tokens.add_runs(info.comment, "archive comment")
        if info.is_dir():
            continue
        try:
            content = archive.read(info) if info.file_size <= _FILE_BYTES else b""
        except Exception:  # a damaged or encrypted member was quarantined; its name still counts
            content = b""
        yield info.filename, content


def _with_table(source: Path, table: Path | None, tokens: Tokens) -> Iterator[tuple[str, bytes, bool]]:
    """Every regular file below the source, then the label table, without a name, if it lies elsewhere."""
    place = None if table is None else (source if source.is_dir() else source.parent) / table
    inside = place is not None and source.is_dir() and place.is_relative_to(source)
    key = place.relative_to(source).as_posix() if place and inside else str(table)
    for name, content in _files(source, tokens):
        if name == key:
            place = None
        yield name, content, name == key
    if place is not None:
        yield "", _content(place.resolve()), True


def _files(source: Path, tokens: Tokens) -> Iterator[tuple[str, bytes]]:
    """Every regular file: its name below the source, and its bytes; none where they were kept out unread."""
    if source.is_dir():
        for folder, _, names in os.walk(source):
            for name in sorted(names):
                path = Path(folder) / name
                yield path.relative_to(source).as_posix(), _content(path)
    elif zipfile.is_zipfile(source) and source.suffix.lower() != ".npz":
        with zipfile.ZipFile(source) as archive:
            yield from members(archive, tokens)


def _content(path: Path) -> bytes:
    """The bytes of a regular file; none of a link, of a huge file, and of one that may not be read."""
    try:
        status = path.lstat()
        return path.read_bytes() if stat.S_ISREG(status.st_mode) and status.st_size <= _FILE_BYTES else b""
    except OSError:
        return b""


def sizes(source: Path) -> Iterator[int]:
    """Yield how many bytes each file below a source has, of an archive's members unpacked."""
    if source.is_dir():
        for folder, _, names in os.walk(source):
            for name in names:
                with contextlib.suppress(OSError):
                    yield Path(folder, name).lstat().st_size
    elif zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as archive:
            yield from (info.file_size for info in archive.infolist())


def _add_path(name: str, tokens: Tokens, where: str) -> None:
    """Take the last part of a path, with what may be a suffix, or a surname after "Dr.", and without."""
    last = name.rpartition("/")[2]
    for form in dict.fromkeys((last, _stem(name))):
        tokens.add(form, where)


def _stem(name: str) -> str:
    """The last part of a path, without its suffix."""
    last = name.rpartition("/")[2]
    return last.rpartition(".")[0] or last


def _is_table(content: bytes) -> bool:
    """Whether some bytes are lines of text with equally many commas, semicolons or tabs."""
    lines = content[:65536].splitlines()[:_LINES]
    if len(lines) < _LINES or b"\0" in content[:65536]:
        return False
    return any(
        len({line.count(mark) for line in lines}) == 1 and mark in lines[0] for mark in (b",", b";", b"\t")
    )


def _take_table(content: bytes, declared: frozenset[str], tokens: Tokens) -> None:
    try:
        text = content.decode("utf-8-sig").replace("\0", "")
    except UnicodeDecodeError:
        text = content.decode("latin-1").replace("\0", "")
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    try:
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        names = next(rows, list[str]())
        for row in rows:
            for number, cell in enumerate(row):
                if number >= len(names) or names[number] not in declared:
                    tokens.add(cell, "column")
                    _add_path(cell, tokens, "column")
    except csv.Error:
        return
