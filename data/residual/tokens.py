"""What of a source must not be found again: texts of its headers, its file names, its undeclared columns."""

import re
from dataclasses import dataclass, field
from itertools import pairwise

SHORTEST = 4
"""Characters of the shortest token that is looked for."""

LONGEST = 1 << 12
"""Characters of the longest token: a longer text is sought by its beginning, and word by word."""

VALUE_BYTES = 1 << 20
"""Bytes of the longest value that is read."""

PICTURE = "picture header"
"""Where texts in a picture's own header come from."""

_PALETTES = frozenset(f"(0028,12{place:02d})" for place in (1, 2, 3, 21, 22, 23))
"""Elements whose values are tables of colours."""

LETTERS = re.compile(r"[^\W\d_]{3}")
DAY = re.compile(r"(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])")
_ASCII_RUN = re.compile(rb"[\x20-\x7e]{6,}")
_ANY_RUN = re.compile(rb"[\x20-\x7e\x80-\xff]{6,}")
_WIDE_RUN = re.compile(rb"(?:[\x20-\x7e]\0){4,}")
_ESCAPES = re.compile(rb"\x1b\$?[()-]?[@-Z]")
_WORDS = re.compile(r"[^\W_]+")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


@dataclass(slots=True)
class Tokens:
    """Texts that must not be found, each with the place that it came from: a tag, "file name", "column".

    Attributes:
        words: parts of texts, at least `SHORTEST` characters; whole values are in `values`.
        values: texts as they stand, and UIDs.
        names: names and numbers of persons as they stand: sought as a whole, whatever their words are.
        days: dates as ``YYYYMMDD``.
        raw: bytes of texts whose character set nobody knows, or that are not UTF-8.
    """

    words: dict[str, str] = field(default_factory=dict[str, str])
    values: dict[str, str] = field(default_factory=dict[str, str])
    names: dict[str, str] = field(default_factory=dict[str, str])
    days: dict[str, str] = field(default_factory=dict[str, str])
    raw: dict[bytes, str] = field(default_factory=dict[bytes, str])
    _seen: set[tuple[bytes, str, bool]] = field(default_factory=set[tuple[bytes, str, bool]])

    def __len__(self) -> int:
        return len(self.words) + len(self.values) + len(self.days) + len(self.raw)

    def add_bytes(self, value: bytes, codec: str, where: str, is_person: bool = False) -> None:
        """Take the bytes of a text; ``is_person`` where it is the name or the number of one."""
        if (value, codec, is_person) in self._seen:
            return
        self._seen.add((value, codec, is_person))
        plain = value if codec == "iso2022_jp" else _ESCAPES.sub(b"", value)
        try:
            text = plain.decode(codec or "ascii")
        except (UnicodeDecodeError, LookupError):
            text = value.decode("latin-1")
        if not value.isascii() or b"\x1b" in value:
            for part in re.split(rb"[\^=\\ \0]+", plain):
                if len(part) >= SHORTEST:
                    self.raw.setdefault(part[:LONGEST], where)
        self.add(text, where, is_person)

    def add(self, text: str, where: str, is_person: bool = False) -> None:
        """Take a text: as it stands, and in parts."""
        for value in re.split(r"[\\=\0]", text):
            stripped = " ".join(value.split())
            if len(stripped) >= SHORTEST:
                self.values.setdefault(stripped[:LONGEST], where)
                if is_person:
                    self.names.setdefault(stripped[:LONGEST], where)
            for uuid in _UUID.findall(stripped):  # its parts alone may be those of another by chance
                self.values.setdefault(uuid, where)
            for word in _WORDS.findall(stripped):
                if len(word) >= SHORTEST:
                    self.words.setdefault(word[:LONGEST], where)

    def add_uid(self, value: bytes, where: str) -> None:
        """Take a UID, unless the standard itself gave it out."""
        for part in value.split(b"\\"):
            text = part.strip(b"\0 ").decode("latin-1")
            if len(text) >= 2 * SHORTEST and not text.startswith("1.2.840.10008."):
                self.values.setdefault(text[:LONGEST], where)

    def add_days(self, value: bytes, where: str) -> None:
        """Take the dates in a value; what is no date is text."""
        for part in value.split(b"\\"):
            text = part.strip(b"\0 ").decode("latin-1")
            match = DAY.match(text)
            if match:
                self.days.setdefault(match[0], where)
            elif LETTERS.search(text):
                self.add(text, where)

    def add_runs(self, content: bytes, where: str) -> None:
        """Take the printable runs of some bytes that have three letters in a row.

        In pictures those in UTF-16 too; in palettes, which are numbers, those of ASCII alone, and no ramps.
        """
        content = content[:VALUE_BYTES]
        is_plain = where == PICTURE or where in _PALETTES
        runs = [run.strip() for run in (_ASCII_RUN if is_plain else _ANY_RUN).findall(content)]
        texts = [run.decode("latin-1") for run in runs if len(run) >= 6 and not _is_ramp(run)]
        if where == PICTURE:  # elsewhere a ramp of numbers, such as a palette's, would read as an alphabet
            texts += [run.decode("utf-16-le") for run in _WIDE_RUN.findall(content)]
        for text in texts:
            if LETTERS.search(text):
                self.add(text, where)


def _is_ramp(run: bytes) -> bool:
    """Return whether each byte lies as far from the one before it: numbers, as in a palette, and no text."""
    return len({after - before for before, after in pairwise(run)}) == 1
