"""Values of a DICOM data set, asked for warily: any element may be absent, empty or not what it should be."""

from functools import cache, lru_cache
from typing import Any

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement, convert_raw_data_element
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from phantomset.data.quarantine.ledger import Unfit

_PLAIN = frozenset(("AS", "CS", "DA", "DS", "IS", "UI", "US"))
"""Value representations that depend on neither a character set nor another element."""

_TEXT = frozenset(("LO", "SH"))
"""Text in the character set of the file: ASCII is the same in all of them, until an escape switches sets."""

_ESCAPE = b"\x1b"

_SHORT = 64
"""Up to so many bytes a value is remembered."""

Raw = tuple[BaseTag, str | None, int, bytes | None, bool, bool]
"""Tag, value representation, length, bytes; whether the representation is implicit, and little-endian."""


def plain(data: Dataset, keyword: str) -> Any:
    """Return an element's value or values, None where it cannot be parsed."""
    try:
        return _value(data, keyword)
    except Exception:  # a value that its own representation refuses
        return None


def word(data: Dataset, keyword: str) -> str:
    """Return an element as text; empty where it is absent or cannot be parsed."""
    try:
        value = _value(data, keyword)
    except Exception:  # a value that its own representation refuses
        return ""
    return "" if value is None else str(value).strip()


def element(data: Dataset, keyword: str) -> Any:
    """Return an element's value; None where it is absent.

    Raises:
        Unfit: INVALID_VALUE where it cannot be parsed.
    """
    try:
        return _value(data, keyword)
    except Exception:  # a value, or a representation, that no parser knows
        raise Unfit("INVALID_VALUE") from None


def whole(data: Dataset, keyword: str, low: int, high: int, default: int | None = None) -> int:
    """Return an element as a whole number within ``[low, high]``.

    Raises:
        Unfit: MISSING_REQUIRED (absent, without a default) or INVALID_VALUE.
    """
    text = word(data, keyword)
    if not text and default is not None:
        return default
    if not text and keyword not in data:
        raise Unfit("MISSING_REQUIRED")
    try:
        value = int(text)
    except ValueError:
        raise Unfit("INVALID_VALUE") from None
    if not low <= value <= high:
        raise Unfit("INVALID_VALUE")
    return value


def numbers(data: Dataset, keyword: str) -> list[float]:
    """Return an element's values as numbers; empty where it is absent.

    Raises:
        Unfit: INVALID_VALUE.
    """
    value = element(data, keyword)
    if value is None or value == "":
        return []
    several: Any = value if hasattr(value, "__iter__") and not isinstance(value, str | bytes) else [value]
    try:
        return [float(item) for item in several]
    except (TypeError, ValueError):
        raise Unfit("INVALID_VALUE") from None


def raw(data: Dataset, keyword: str) -> Raw | None:
    """Return an element as it lies in the file, if its value depends on no other element and is short.

    Equal ones have equal values, in whatever file: the files of a series have most of theirs in common.
    """
    tag = tag_of(keyword)
    found: Any = data.get_item(tag)
    if not isinstance(found, RawDataElement) or found.value is None or len(found.value) > _SHORT:
        return None
    representation = found.VR or dictionary_VR(found.tag)
    is_ascii = representation in _TEXT and found.value.isascii() and _ESCAPE not in found.value
    if representation not in _PLAIN and not is_ascii:
        return None
    # one and the same tag object: that two are equal is told by Python code in pydicom
    return tag, *found[1:4], found.is_implicit_VR, found.is_little_endian


@lru_cache(maxsize=4096)
def parsed(
    tag: BaseTag, representation: str | None, length: int, value: bytes | None, implicit: bool, little: bool
) -> Any:
    """Return the value of a `raw` element.

    Raises:
        Exception: whatever a broken value drives pydicom to.
    """
    return convert_raw_data_element(
        RawDataElement(tag, representation, length, value, 0, implicit, little)
    ).value


def _value(data: Dataset, keyword: str) -> Any:
    """As ``data.get(keyword)``, without parsing again what was parsed in the file before."""
    if tag_of(keyword) not in data.keys():  # noqa: SIM118 - most are absent, and pydicom asks itself why
        return None
    found = raw(data, keyword)
    return data.get(keyword) if found is None else parsed(*found)


@cache
def tag_of(keyword: str) -> BaseTag:
    """Return the tag of an element of the dictionary by its name."""
    return BaseTag(tag_for_keyword(keyword) or 0)
