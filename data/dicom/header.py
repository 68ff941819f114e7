"""A DICOM header, read warily: parsing, the gate before any pixel is touched, and what is left out."""

import itertools
import logging
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from functools import lru_cache
from io import BytesIO
from typing import Any, cast

from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_partial
from pydicom.multival import MultiValue
from pydicom.valuerep import VR

from phantomset.data.burned_in.declared import hold_clean
from phantomset.data.deidentify import (
    ALLOWED,
    DATES,
    SLICES_OF_A_FACE,
    DeidentifySettings,
    allowed,
    kept,
    patient_key,
    shifted,
)
from phantomset.data.dicom.elements import parsed, plain, raw, tag_of, whole, word
from phantomset.data.dicom.heads import may_show_a_head
from phantomset.data.quarantine.ledger import Unfit
from phantomset.data.source import Limits
from phantomset.data.synthetic_mark import is_marked_dicom

_DEFLATED = b"1.2.840.10008.1.2.1.99"
_PREAMBLE = 132
_DERIVED = ("Segmentation", "Parametric Map", "RT Dose", "Real World Value")

_RULES = {
    "PN": "person names",
    "UI": "unique identifiers",
    "DA": "dates and times",
    "DT": "dates and times",
    "TM": "dates and times",
    "AS": "dates and times",
    "LO": "free text",
    "SH": "free text",
    "ST": "free text",
    "LT": "free text",
    "UT": "free text",
    "UC": "free text",
    "UR": "free text",
    "AE": "free text",
    "SQ": "sequences",
}
"""Under which name an element that is left out is counted, by its value representation."""

_REPRESENTATIONS = frozenset(map(str, VR))

_FIRST_GROUPS = (b"\x08\x00", b"\x00\x08", b"\x02\x00")
"""How a file without preamble begins: group 0008 in either byte order, or 0002."""

_CHARSET = 0x00080005
_PIXEL_DATA = 0x7FE00010
_ELEMENT = 8
"""Bytes of the shortest element, and of what ends one of undefined length."""

_UNDEFINED = 0xFFFFFFFF
_MAY_FOLLOW_PIXELS = frozenset({0xFFFAFFFA, 0xFFFCFFFC, 0x00000000})
"""Digital signatures, trailing padding, and bytes that are all zero."""

_PIXEL_GROUPS = (0x0028, 0x7FE0)

_LINKS = {"study": "StudyInstanceUID", "series": "SeriesInstanceUID", "instance": "SOPInstanceUID"}

_NOTHING: Mapping[str, str] = {}
_ALLOWED_TAGS = {int(tag_for_keyword(keyword) or 0): keyword for keyword in ALLOWED}


@contextmanager
def quiet() -> Generator[None]:
    """Keep pydicom's warnings and log lines to itself: they carry values from headers."""
    logger = logging.getLogger("pydicom")
    before = logger.propagate
    logger.propagate = False  # which also stops what its children, the decoders, have to say
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.propagate = before


def parse(content: bytes, limits: Limits) -> Dataset:
    """Return the data set of a DICOM file; values stay unparsed until they are asked for.

    Raises:
        Unfit: EMPTY_FILE, NOT_RECOGNISED, NO_PREAMBLE_UNPROVEN, BOMB_RATIO, TOO_DEEP, TOO_MANY_MEMBERS,
            TRAILING_DATA or PARSE_ERROR.
    """
    if not content:
        raise Unfit("EMPTY_FILE")
    proven = content[128:_PREAMBLE] == b"DICM"
    if not proven and content[:2] not in _FIRST_GROUPS:
        raise Unfit("NOT_RECOGNISED")
    size, tail = len(content), content[-_ELEMENT:]
    if _DEFLATED in content[:1024]:
        size, tail = _hold_inflated(content, limits)
    try:
        data: Dataset = read_partial(BytesIO(content), _counting(limits.elements), force=not proven)
        named = str(data.get("SOPClassUID", "")).startswith("1.2.840.10008.")
    except InvalidDicomError:
        raise Unfit("NOT_RECOGNISED") from None
    except RecursionError:
        raise Unfit("TOO_DEEP") from None
    except Unfit:
        raise
    except Exception:  # the parser raises whatever a broken file drives it to
        raise Unfit("PARSE_ERROR") from None
    if not proven and not named:
        raise Unfit("NO_PREAMBLE_UNPROVEN")
    _hold_depth(data, limits)
    _hold_end(data, size, tail)
    return data


def hold_image(
    data: Dataset, deidentify: DeidentifySettings, limits: Limits, waived: frozenset[str] = frozenset()
) -> None:
    """Hold, from the header only, that this is an image that may be taken in.

    ``waived`` are the codes that a person who looked at the file released it from.

    Raises:
        Unfit: the reason code.
    """
    if "EncryptedAttributesSequence" in data:
        raise Unfit("ENCRYPTED")
    if is_marked_dicom(data):
        raise Unfit("MARKED_SYNTHETIC")
    name = _class_name(data)
    if any(derived in name for derived in _DERIVED) or word(data, "Modality") in ("SEG", "RTDOSE"):
        raise Unfit("DERIVED_OBJECT")
    if "PixelData" not in data:
        if "FloatPixelData" in data or "DoubleFloatPixelData" in data:
            raise Unfit("UNSUPPORTED_PIXEL_FORMAT")
        if "Image Storage" not in name:
            raise Unfit("NOT_AN_IMAGE")
        # an image object without its pixels and without their description was cut off before both
        raise Unfit("MISSING_REQUIRED" if "BitsStored" in data else "TRUNCATED")
    hold_clean(data, name, deidentify, waived)
    frames = shape_of(data, limits)[0]
    # by what the object holds: of neighbours that are thinned later too few are left to be counted
    is_face = frames >= SLICES_OF_A_FACE and may_show_a_head(data)
    if is_face and not deidentify.accept_faces and "FACE_RISK" not in waived:
        raise Unfit("FACE_RISK")


def shape_of(data: Dataset, limits: Limits) -> tuple[int, ...]:
    """Return the shape ``(N, H, W)`` or ``(N, H, W, C)`` that the header declares: N frames, C samples.

    Raises:
        Unfit: MISSING_REQUIRED, INVALID_VALUE, or one of the limits.
    """
    samples = whole(data, "SamplesPerPixel", 1, 65535, default=1)
    rows, columns = whole(data, "Rows", 1, 65535), whole(data, "Columns", 1, 65535)
    frames = whole(data, "NumberOfFrames", 1, 1 << 31, default=1)
    if frames > limits.frames:
        raise Unfit("TOO_MANY_FRAMES")
    if rows * columns > limits.pixels or frames * rows * columns * samples > limits.object_pixels:
        raise Unfit("TOO_MANY_PIXELS")
    return (frames, rows, columns, samples) if samples > 1 else (frames, rows, columns)


def subject_of(data: Dataset, tag: str) -> str:
    """Return the patient key that the element ``tag`` holds, with its issuer.

    Raises:
        Unfit: NO_PATIENT.
    """
    issuer = word(data, "IssuerOfPatientID") if tag == "PatientID" else ""
    key = patient_key(word(data, tag), issuer)
    if key is None:
        raise Unfit("NO_PATIENT")
    return key


def links_of(data: Dataset) -> dict[str, str]:
    """Return what joins this image to others: its study, series and instance, as the file names them.

    ``head`` is the study again, where it may show one: from many such slices, in whatever series, a face can
    be drawn.
    """
    found = {kind: word(data, keyword) for kind, keyword in _LINKS.items()}
    if may_show_a_head(data):
        found["head"] = found["study"] or found["series"] or "no study"
    return {kind: name for kind, name in found.items() if name}


def attributes_of(data: Dataset, retain: tuple[str, ...] = (), subject: str = "") -> dict[str, str]:
    """Return the allow-listed attributes whose values pass their grammar, and shifted dates on request."""
    there = data.keys()
    found = {keyword: _kept(data, keyword) for keyword in allowed(retain) if tag_of(keyword) in there}
    if "modified-dates" in retain:
        found |= {date: shifted(plain(data, date), subject) for date in DATES if date in data}
    return {keyword: value for keyword, value in found.items() if value is not None}


def _kept(data: Dataset, keyword: str) -> str | None:
    found = raw(data, keyword)
    return kept(keyword, plain(data, keyword)) if found is None else _kept_of(keyword, *found)


@lru_cache(maxsize=4096)
def _kept_of(keyword: str, *found: Any) -> str | None:
    try:
        return kept(keyword, parsed(*found))
    except Exception:  # a value that its own representation refuses
        return None


def left_out(data: Dataset, attributes: Mapping[str, str] = _NOTHING) -> dict[str, int]:
    """Return how many elements of the header do not reach the record, by rule, never by value.

    ``attributes`` are those that were kept: an allow-listed element not among them failed its grammar.
    """
    counts: Counter[str] = Counter()
    elements: Any = data.values()  # iterating over the data set itself would parse every value
    for tag, found in zip(map(int, data.keys()), elements, strict=True):
        group = tag >> 16
        if group & 1:
            counts["private elements"] += 1
        elif group >> 8 in (0x50, 0x60):
            counts["overlays, curves and audio"] += 1
        elif tag == _CHARSET:
            counts["unknown character sets"] += not _is_known_charset(plain(data, "SpecificCharacterSet"))
        elif tag in _ALLOWED_TAGS:
            counts["values that fail their grammar"] += _ALLOWED_TAGS[tag] not in attributes
        elif group not in _PIXEL_GROUPS:
            counts[_rule(tag, found.VR, found.value is None)] += 1
    return {rule: count for rule, count in counts.items() if count}


def _is_known_charset(terms: Any) -> bool:
    several = cast(list[Any], terms) if isinstance(terms, list | MultiValue) else [terms]
    return all(str(term or "").replace("ISO IR", "ISO_IR") in python_encoding for term in several)


def _counting(most: int) -> Callable[[Any, str | None, int], bool]:
    """Return what the parser asks at each element of the data set: one too many ends it before the rest."""
    seen = itertools.count(1)

    def stop(tag: Any, representation: str | None, length: int) -> bool:
        del tag, representation, length
        if next(seen) > most:
            raise Unfit("TOO_MANY_MEMBERS")
        return False

    return stop


def _hold_depth(data: Dataset, limits: Limits) -> None:
    """Hold what the parser has opened: items in items, and their elements. A sequence that tells its length
    is not opened before it is asked for, and none is asked for below the second level.
    """
    level = [data]
    for _ in range(limits.depth + 1):
        opened = [found for each in level for found in each.values() if not isinstance(found, RawDataElement)]
        level = [
            item for found in opened if found.VR == "SQ" for item in cast(Iterable[Dataset], found.value)
        ]
        if not level:
            return
        if max(map(len, level)) > limits.elements:
            raise Unfit("TOO_MANY_MEMBERS")
    raise Unfit("TOO_DEEP")


def _hold_end(data: Dataset, size: int, tail: bytes) -> None:
    """Refuse a file that goes on after its data set.

    What follows was parsed as elements that are none, or is too short for one.

    Args:
        data: parsed.
        size: bytes of its stream, inflated.
        tail: the last of them.
    """
    # neither iterating over the data set itself nor `get_item`: both parse values, which may be of no kind
    elements: dict[int, Any] = dict(zip(map(int, data.keys()), data.values(), strict=True))
    places = {tag: _place(each) for tag, each in elements.items()}
    pixels = places.get(_PIXEL_DATA)
    if pixels is not None and not {tag for tag, at in places.items() if at > pixels} <= _MAY_FOLLOW_PIXELS:
        raise Unfit("TRAILING_DATA")
    last = elements[max(places, key=places.__getitem__)] if places else None
    if isinstance(last, RawDataElement) and last.value is not None:
        left = size - last.value_tell - len(last.value) - _ELEMENT * (last.length == _UNDEFINED)
        if 0 < left < _ELEMENT and tail[-left:].strip(b"\0"):
            raise Unfit("TRAILING_DATA")


def _place(element: Any) -> int:
    """Where the value of an element begins."""
    return element.value_tell if isinstance(element, RawDataElement) else element.file_tell or 0


@lru_cache(maxsize=4096)
def _rule(tag: int, representation: str | None, is_empty: bool) -> str:
    if not representation or (is_empty and representation not in _REPRESENTATIONS):
        try:
            representation = dictionary_VR(tag)
        except KeyError:
            return "unknown elements"
    return _RULES.get(representation, "other elements")


def _class_name(data: Dataset) -> str:
    try:
        return str(data.SOPClassUID.name)
    except Exception:  # absent, or no UID at all
        return ""


def _hold_inflated(content: bytes, limits: Limits) -> tuple[int, bytes]:
    """Refuse a deflated data set that expands beyond the limit, without expanding it.

    Return how many bytes it expands to, and the last of them.
    """
    start = 144 + int.from_bytes(content[140:144], "little")
    cap = max(limits.expansion_free_bytes, limits.expansion * len(content))
    machine = zlib.decompressobj(-zlib.MAX_WBITS)
    left, inflated, tail, checksum = content[start:], 0, b"", 0
    try:
        while left and not machine.eof and inflated <= cap:
            part = machine.decompress(left, 1 << 20)
            inflated, tail = inflated + len(part), (tail + part)[-_ELEMENT:]
            checksum = zlib.crc32(part, checksum)
            left = machine.unconsumed_tail
    except zlib.error:
        raise Unfit("PARSE_ERROR") from None
    if inflated > min(cap, limits.file_bytes):
        raise Unfit("BOMB_RATIO")
    # some writers end the stream as gzip does: checksum and size (RFC 1952, 2.3.1), which hide nothing
    trailer = checksum.to_bytes(4, "little") + inflated.to_bytes(8, "little")[:4]
    if machine.unused_data.removeprefix(trailer).strip(b"\0"):
        raise Unfit("TRAILING_DATA")
    return inflated, tail
