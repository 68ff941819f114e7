"""The mark of synthetic origin: what published images carry, and what no real image may carry.

A synthetic set that comes back as if it were real would be learned from, and judged against, as if people
stood behind it. So each way in asks here before it takes an image.
"""

import zlib
from typing import Any

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""IPTC's digital source type for media made by a trained model: every published image carries it."""

NPZ_KEY = "digital_source_type"
"""The array of an ``.npz`` file that holds `SOURCE_TYPE`."""

SYNTHETIC_DATA = 0x0008001C
"""DICOM's Synthetic Data (CS, YES or NO), by number: older dictionaries do not know its keyword."""

SYNTHESIZING_EQUIPMENT = "109100"
"""DICOM's code for a contributing equipment that synthesizes (DCM, CID 7005)."""

SERIES = "SYNTHETIC"
"""How the series description of a published DICOM file begins: anonymisers may strip the other marks."""

_IPTC = b"digitalsourcetype/"
_MADE = (b"trainedalgorithmicmedia", b"compositewithtrainedalgorithmicmedia")
_PNG = b"\x89PNG\r\n\x1a\n"
_PACKET_BYTES = 1 << 20


def is_marked_picture(content: bytes) -> bool:
    """Say whether a picture file carries XMP that names a trained model as its source.

    XMP lies uncompressed in the bytes of JPEG, TIFF and most PNG files, so the bytes themselves are searched;
    a compressed text chunk of a PNG is inflated first.

    Source: IPTC Photo Metadata Standard, Digital Source Type; XMP Specification Part 3.
    """
    return _names_a_model(content) or (content.startswith(_PNG) and any(map(_names_a_model, _texts(content))))


def is_marked_dicom(data: Any) -> bool:
    """Say whether a DICOM data set declares itself, or the equipment that made it, as synthesizing.

    Source: DICOM PS3.3 C.12.1.1 (SOP Common: Synthetic Data) and C.12.1.1.5 (Contributing Equipment).
    """
    declared = data.get(SYNTHETIC_DATA)
    if declared is not None and str(declared.value).strip().upper() == "YES":
        return True
    if str(data.get("SeriesDescription", "")).startswith(SERIES):
        return True
    codes = (
        code.get("CodeValue")
        for equipment in data.get("ContributingEquipmentSequence") or ()
        for code in equipment.get("PurposeOfReferenceCodeSequence") or ()
    )
    return any(str(code) == SYNTHESIZING_EQUIPMENT for code in codes)


def _names_a_model(content: bytes) -> bool:
    """Look for the source type's last part behind IPTC's vocabulary, at every place where that stands."""
    at = content.find(_IPTC)
    while at >= 0:
        name = content[at + len(_IPTC) : at + len(_IPTC) + 40].lower()
        if name.startswith(_MADE):
            return True
        at = content.find(_IPTC, at + 1)
    return False


def _texts(content: bytes) -> list[bytes]:
    """Return the inflated text of each compressed text chunk of a PNG, the first MiB of it."""
    texts: list[bytes] = []
    at = len(_PNG)
    while at + 8 <= len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        if content[at + 4 : at + 8] in (b"iTXt", b"zTXt"):
            body = content[at + 8 : at + 8 + length]
            start = body.find(b"\x78")  # the head of a zlib stream follows the keyword and the language
            while start >= 0:
                try:
                    texts.append(zlib.decompressobj().decompress(body[start:], _PACKET_BYTES))
                    break
                except zlib.error:
                    start = body.find(b"\x78", start + 1)
        at += 12 + length
    return texts
