"""What of a recipe and of counts may be shown outside the data office."""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, cast

KEPT_BACK = "kept-back"
"""Stands where a path, a pattern or a file name stood."""

SHOWN_OF_SOURCE = frozenset({"format", "from", "tag", "column", "key"})
"""The only text entries of a source that are shown: an allow-list, so that a new format leaks nothing."""

PLACES = frozenset({"path", "table", "folder", "file", "images", "labels", "root", "archive", "weights"})
"""Keys whose text is a place on a disk, wherever they stand."""

_PATH_LIKE = re.compile(r"[/\\]|^~|^\.|\.[A-Za-z][A-Za-z0-9]{1,4}$")
_TERMS = frozenset({"source_owner", "source_terms", "creator", "url", "licence", "reason", "summary"})

SMALL = 10
"""Counts of real files and patients below this are shown as "fewer than 10" in public forms."""


def public_recipe(recipe: dict[str, Any]) -> dict[str, Any]:
    """Return the recipe as it may be shown: every path, pattern and file name is ``kept-back``.

    Under ``source`` only numbers and the text entries of `SHOWN_OF_SOURCE` are kept. Elsewhere text that
    looks like a path is kept back, except in the free-text entries that are written to be read (licence,
    terms).

    >>> public_recipe({"name": "x", "source": {"format": "dicom", "path": "./in", "size": 3}})
    {'name': 'x', 'source': {'format': 'dicom', 'path': 'kept-back', 'size': 3}}
    """
    return {
        key: _source(value, key) if key == "source" else _section(value, key) for key, value in recipe.items()
    }


def _source(value: Any, key: str) -> Any:
    return _walk(value, key, lambda text, key: key in SHOWN_OF_SOURCE and _plain(text))


def _section(value: Any, key: str) -> Any:
    return _walk(value, key, lambda text, key: key in _TERMS or (key not in PLACES and _plain(text)))


def _walk(value: Any, key: str, is_shown: Callable[[str, str], bool]) -> Any:
    """Return a section in which each text that is not shown is kept back; a list's texts go by its key."""
    if isinstance(value, dict):
        section = cast("dict[str, Any]", value)
        return {name: _walk(item, name, is_shown) for name, item in section.items()}
    if isinstance(value, list | tuple):
        return [_walk(item, key, is_shown) for item in cast("Sequence[Any]", value)]
    return KEPT_BACK if isinstance(value, str) and not is_shown(value, key) else value


def _plain(value: str) -> bool:
    return _PATH_LIKE.search(value) is None


def source_places(recipe: dict[str, Any]) -> tuple[str, ...]:
    """Return the texts that stand at places of the recipe's source: none may be found in a public file."""

    found: list[str] = []

    def note(text: str, key: str) -> bool:
        if key in PLACES and text != KEPT_BACK:
            found.append(text)
        return True

    _walk(recipe.get("source", {}), "source", note)
    return tuple(found)


def coarse(count: int) -> int:
    """Return a count rounded to two digits.

    >>> coarse(1742), coarse(38), coarse(4)
    (1700, 38, 4)
    """
    if count == 0:
        return 0
    return round(count, 1 - math.floor(math.log10(abs(count))))


def coarse_text(count: int) -> str:
    """Return a count of real things in words for a public form: two digits, and small ones not told apart.

    Exact counts in two releases would tell whether one person joined between them.

    >>> coarse_text(1742), coarse_text(3), coarse_text(0)
    ('about 1,700', 'fewer than 10', 'none')
    """
    if count == 0:
        return "none"
    return f"fewer than {SMALL}" if count < SMALL else f"about {coarse(count):,}"


_COUNTED = re.compile(r"^[\d,]+(?= rows of the label table)|(?<=more than one patient identifier: )[\d,]+")
"""Counts of real things in what ingest notes; days and reasons of earlier judgements are none."""


def coarse_note(note: str) -> str:
    """Return a sentence on the cohort as a public form tells it.

    >>> coarse_note("3 rows of the label table have no file.")
    'Fewer than 10 rows of the label table have no file.'
    """
    told = _COUNTED.sub(lambda match: coarse_text(int(match[0].replace(",", ""))), note)
    return told[:1].upper() + told[1:]
