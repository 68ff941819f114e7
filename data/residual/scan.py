"""The residual scan: a second pair of eyes on every byte that was written, for any text of the source.

It shares no code with what writes. Tokens of the source come from `tokens`; here they are sought, in
any case, as UTF-8, UTF-16, Latin-1, in the escapes of JSON and as the bytes that stood in the source; dates
in five layouts. The search is a filter over all positions at once (the hash of the next four or eight bytes
is looked up in a bit map) and an exact comparison where the filter lets through: linear in the bytes, for any
number of tokens.

What is no evidence: a word that this program writes itself, alone (a name made of two such words is sought as
a whole), or the beginning of one, where that whole word stands; a number of up to five digits; the size of a
file in the ledger; digits or hexadecimal letters inside a digest or a UUID; a date with a clock time after
it, in the run's own log. In pixels and packed bytes short tokens occur by chance: there a token
must be so long that one run in a hundred would meet any by chance.
"""

import io
import json
import math
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from phantomset.data.errors import ResidualHit
from phantomset.data.residual.areas import Area
from phantomset.data.residual.files import batches, members, sizes, take
from phantomset.data.residual.tokens import SHORTEST, Tokens
from phantomset.data.residual.vocabulary import program_texts, program_words, words_of

_BATCH = 100_000
"""Tokens that are sought in one pass; an input of any size is sought in several."""

_PIECE = 1 << 22
_MAP_BITS = 22
_ODD = np.uint64(0x9E3779B97F4A7C15)
_BITS_OF_CHANCE = 4.0
"""Bits that a byte of pixels surprises by; real pixels have more, so the true rate of chance is lower."""

_FOLD = np.array([byte + 32 if 65 <= byte <= 90 else byte for byte in range(256)], dtype=np.uint8)
_HEXADECIMAL = re.compile(rb"[0-9a-f]+")
_UUID, _UUID_LETTERS = re.compile(rb"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), 36
_NUMBER = re.compile(r"[+-]?\d*\.?\d*")
_CLOCK = re.compile(rb"[t ]?\d\d:?\d\d")
_HEAD, _TAIL = re.compile(rb"[a-z0-9]*\Z"), re.compile(rb"[a-z0-9]*")
_LEDGER = "quarantine.parquet"
"""The only table that holds the sizes of files, as a manifest beside them may."""

_DIGITS_ALONE = 6


@dataclass(frozen=True, slots=True)
class Hit:
    """A text of the source in what was written: where it came from, where it was found, never the text."""

    origin: str
    place: str
    offset: int


@dataclass(slots=True)
class _Needles:
    """Byte strings, folded to lower case, by what they are."""

    free: dict[bytes, str] = field(default_factory=dict[bytes, str])
    days: dict[bytes, str] = field(default_factory=dict[bytes, str])


def scan(
    source: Path,
    areas: Callable[[], Iterable[Area]],
    known: Iterable[str],
    declared: frozenset[str] = frozenset(),
    dates_in: tuple[str, ...] = (),
    table: Path | None = None,
) -> list[Hit]:
    """Return every text of a source that is found in what was written.

    Args:
        source: the folder, archive or file that was read.
        areas: called for each pass over what was written.
        known: words that may be found: labels, words of the recipe, of the workspace's own path.
        declared: columns of the label table that may be kept.
        dates_in: where dates, shifted, may stand: a shifted date of one patient is the true one of another.
        table: the label table, as the recipe names it: it may lie outside the source.
    """
    known = [*known]
    vocabulary = program_words() | words_of(known)
    phrases = "\n".join([*program_texts(), *known]).lower()
    measured = frozenset(str(size).encode() for size in sizes(source))
    hits: list[Hit] = []
    for tokens in batches(source, declared, _BATCH, table):
        hits += search(tokens, areas(), vocabulary, dates_in, phrases, measured)
    return hits


def search(
    tokens: Tokens,
    areas: Iterable[Area],
    vocabulary: frozenset[str],
    dates_in: tuple[str, ...] = (),
    phrases: str = "",
    sizes_of_files: frozenset[bytes] = frozenset(),
) -> list[Hit]:
    """Return where the tokens occur in the areas.

    Args:
        tokens: what is sought.
        areas: where.
        vocabulary: words that alone are no evidence.
        dates_in: beginnings of the names of areas in which dates are none.
        phrases: texts that may be found: a name made of known words is sought unless it stands in them.
        sizes_of_files: numbers that the ledger of the quarantine may hold.
    """
    needles = _needles(tokens, vocabulary, phrases)
    for name, where in tokens.names.items():
        for form in _spellings(name, vocabulary):
            if form not in phrases:
                _forms(form, where, needles.free)
    everything = needles.free | needles.days
    if not everything:
        return []
    short = _Filter(everything, 4)
    found: list[Hit] = []
    long, built_for = short, SHORTEST
    for area in areas:
        least = _least_by_chance(len(area.content), len(everything)) if area.kind == "packed" else SHORTEST
        if least > SHORTEST and least != built_for:  # areas of one length follow one another
            long, built_for = _Filter({n: w for n, w in everything.items() if len(n) >= least}, 8), least
        for needle, place in (long if least > SHORTEST else short).matches(area.content):
            if area.own is not None and place not in area.own:
                continue
            is_day = needle in needles.days
            if is_day and area.name.startswith(dates_in or ("\0",)):
                continue
            if needle in sizes_of_files and area.name.endswith(_LEDGER):
                continue
            if _is_evidence(needle, place, area, is_day, vocabulary):
                found.append(Hit(everything[needle], area.name, area.start + place))
    return found


def prove() -> None:
    """Hold that the search finds a canary in each place that can carry text, and none where there is none.

    Raises:
        ResidualHit: it does not: then nothing that it says can be trusted.
    """
    from phantomset.data.residual.canaries import clean, planted, unclean

    for place, name, content, canary in planted():
        tokens = Tokens()
        for inner, bytes_of_it in _opened(name, content, tokens):
            take(bytes_of_it, inner, frozenset(), tokens)
        dirty = dict(unclean(canary))
        areas = [Area(form, text, "text") for form, text in (*dirty.items(), ("clean", clean()))]
        found = {hit.place for hit in search(tokens, areas, frozenset())}
        if found - dirty.keys():
            raise ResidualHit(
                "residual scan: its own test found a canary where there is none: a bug of ours."
            )
        for form in dirty.keys() - found:
            raise ResidualHit(
                f"residual scan: blind for {place} written as {form}: its own test failed, so nothing is "
                "let through. Report it: a bug of ours."
            )


def _opened(name: str, content: bytes, tokens: Tokens) -> Iterable[tuple[str, bytes]]:
    if not name.endswith(".zip"):
        return [(name, content)]
    return members(zipfile.ZipFile(io.BytesIO(content)), tokens)


def _needles(tokens: Tokens, vocabulary: frozenset[str], phrases: str) -> _Needles:
    found = _Needles()
    for word, where in tokens.words.items():
        if word.lower() not in vocabulary and not _is_small(word):
            _forms(word, where, found.free)
    for value, where in tokens.values.items():
        words = re.findall(r"[^\W_]+", value.lower())
        plain = all(word in vocabulary or len(word) < SHORTEST for word in words)
        usual = len(words) < 3 or len(value) < 12 or value.lower() in phrases
        if not (plain and usual) and not _is_small(value):
            _forms(value, where, found.free)
    for day, where in tokens.days.items():
        year, month, date = day[:4], day[4:6], day[6:]
        for text in (
            day,
            f"{year}-{month}-{date}",
            f"{year}/{month}/{date}",
            f"{date}.{month}.{year}",
            f"{month}/{date}/{year}",
            f"{date}/{month}/{year}",
        ):
            found.days.setdefault(text.encode(), where)
            found.days.setdefault(text.encode("utf-16-le"), where)
    for value, where in tokens.raw.items():
        if value.decode("latin-1").lower() not in vocabulary:
            found.free.setdefault(_folded(value).tobytes(), where)
    return found


def _is_small(text: str) -> bool:
    """Return whether a text is a number, maybe with sign and point, of too few digits to tell anything."""
    return bool(_NUMBER.fullmatch(text)) and sum(letter.isdecimal() for letter in text) < _DIGITS_ALONE


def _spellings(name: str, vocabulary: frozenset[str]) -> set[str]:
    """Return how a person's name or number may be written, where its words alone are no evidence."""
    lower = name.lower()
    if not all(word in vocabulary or len(word) < SHORTEST for word in re.findall(r"[^\W_]+", lower)):
        return set()  # the word that is not known is sought by itself
    found = set[str]() if lower in vocabulary or _is_small(lower) else {lower}
    parts = [part for part in re.split(r"[\^\s,_]+", lower) if len(part) > 1]
    if len(parts) > 1:
        first, second = parts[:2]
        found |= {f"{first}{mark}{second}" for mark in ("^", " ", ", ", "_")} | {f"{second} {first}"}
    return {form for form in found if len(form) > SHORTEST}


def _forms(text: str, where: str, into: dict[bytes, str]) -> None:
    """Enter a text in every encoding in which it could have been written."""
    lower = text.lower()
    into.setdefault(_folded(lower.encode("utf-8", "surrogateescape")).tobytes(), where)
    into.setdefault(_folded(lower.encode("utf-16-le", "surrogatepass")).tobytes(), where)
    if not text.isascii():
        for same in {text, lower, text.upper()}:
            into.setdefault(_folded(same.encode("utf-8", "surrogateescape")).tobytes(), where)
            into.setdefault(_folded(same.encode("utf-16-le", "surrogatepass")).tobytes(), where)
            for escaped in _escaped(same):
                into.setdefault(escaped.lower(), where)
            latin = same.encode("latin-1", "ignore")
            if len(latin) == len(same):
                into.setdefault(_folded(latin).tobytes(), where)


def _escaped(text: str) -> Iterator[bytes]:
    r"""A text as JSON writes it ("\u00fc"), as JSON within JSON does, and as Python does ("\xfc")."""
    once = json.dumps(text)[1:-1]
    yield from (once.encode(), json.dumps(once)[1:-1].encode(), text.encode("unicode_escape"))


def _folded(content: bytes) -> np.ndarray:
    return _FOLD[np.frombuffer(content, dtype=np.uint8)]


def _least_by_chance(positions: int, tokens: int) -> int:
    """Return the shortest token whose chance meeting in that many positions is under one in a hundred."""
    return max(8, math.ceil(math.log2(max(1, positions) * max(1, tokens) * 100) / _BITS_OF_CHANCE))


class _Filter:
    """Many byte strings sought at once. Those shorter than ``width`` are padded out of the filter's way."""

    def __init__(self, needles: dict[bytes, str], width: Literal[4, 8]) -> None:
        self._width = width
        self._by_start: dict[bytes, list[bytes]] = {}
        for needle in needles:
            if len(needle) >= width:
                self._by_start.setdefault(needle[:width], []).append(needle)
        self._map = np.zeros(1 << _MAP_BITS, dtype=bool)
        if self._by_start:
            starts = np.frombuffer(b"".join(self._by_start), dtype=f"<u{width}")
            self._map[self._hash(starts)] = True

    def matches(self, content: bytes) -> Iterator[tuple[bytes, int]]:
        """Yield every needle and the offset at which it stands."""
        if not self._by_start:
            return
        longest = max(len(needle) for group in self._by_start.values() for needle in group)
        for start in range(0, len(content), _PIECE):
            piece = _folded(content[start : start + _PIECE + longest])
            plain = piece.tobytes()
            for place in self._candidates(piece).tolist():
                if place < _PIECE:
                    for needle in self._by_start.get(plain[place : place + self._width], ()):
                        if plain.startswith(needle, place):
                            yield needle, start + place

    def _candidates(self, piece: np.ndarray) -> np.ndarray:
        width = self._width
        found: list[np.ndarray] = []
        for shift in range(min(width, max(0, len(piece) - width + 1))):
            count = (len(piece) - shift) // width
            keys = np.frombuffer(piece[shift : shift + count * width].tobytes(), dtype=f"<u{width}")
            found.append(np.flatnonzero(self._map[self._hash(keys)]) * width + shift)
        return np.sort(np.concatenate(found)) if found else np.zeros(0, dtype=np.int64)

    def _hash(self, keys: np.ndarray) -> np.ndarray:
        return (keys.astype(np.uint64) * _ODD) >> np.uint64(64 - _MAP_BITS)


def _is_evidence(needle: bytes, place: int, area: Area, is_day: bool, vocabulary: frozenset[str]) -> bool:
    """Return whether a match is a text of the source, not a part of a digest, a number, the run's clock or a
    word that this program writes: headers and tables cut texts off amid a word.
    """
    content, end = area.content, place + len(needle)
    before, after = content[max(0, place - 16) : place].lower(), content[end : end + 16].lower()
    if is_day and area.has_clock and _CLOCK.match(after):
        return False
    head, tail = _HEAD.search(before), _TAIL.match(after)
    around = (head[0] if head else b"") + needle + (tail[0] if tail else b"")
    if around != needle and around.decode("latin-1") in vocabulary:
        return False
    letters = needle.replace(b"\0", b"")
    if _HEXADECIMAL.fullmatch(letters):
        left = len(before) - len(before.rstrip(b"0123456789abcdef"))
        right = len(after) - len(after.lstrip(b"0123456789abcdef"))
        if left + len(letters) + right >= 16 and left + right > 0:
            return False
        if _is_in_uuid(content, place, end):
            return False
    if letters.isdigit() and (
        before[-1:].isdigit() or after[:1].isdigit() or b"." in (before[-1:], after[:1])
    ):
        return False
    whole = len(letters) >= 8 or not letters.isascii() or area.kind == "packed"
    return whole or not (before[-1:].isalnum() or after[:1].isalnum())


def _is_in_uuid(content: bytes, place: int, end: int) -> bool:
    """Return whether what stands there is a part of a UUID, by which Prefect names its runs and events."""
    first = max(0, place - _UUID_LETTERS)
    around = content[first : end + _UUID_LETTERS].lower()
    return any(
        first + found.start() <= place
        and end <= first + found.end()
        and found.end() - found.start() > end - place
        for found in _UUID.finditer(around)
    )
