"""Burned-in text as far as a header tells: what is kept out, and which device comes in behind a mask."""

from collections.abc import Iterator
from typing import Any

from phantomset.data.deidentify import Box, DeidentifySettings, Device
from phantomset.data.dicom.elements import word
from phantomset.data.quarantine.ledger import Unfit

_RISKY = ("Secondary Capture", "Ultrasound", "Endoscopic")
_RISKY_MODALITIES = ("DOC", "ES", "IVOCT", "IVUS", "OT", "US")
_SCREENS = ("LOCALIZER", "SCREEN", "DOSE_INFO", "DOSE REPORT")
"""What the image type of a view that is no image of a patient holds: "SCREEN SAVE", "SCREENSHOT"."""


def hold_clean(data: Any, class_name: str, deidentify: DeidentifySettings, waived: frozenset[str]) -> None:
    """Hold that neither the class of an object nor its header speaks of text in the pixels.

    A header that says NO is not believed, only one that says YES. A device that the recipe names comes in,
    since its mask covers its text; where its mask is "none", a header that says YES shows that it is not so.
    A file comes in as well that a person released from every code that speaks against it.

    Raises:
        Unfit: BURNED_IN_DECLARED, BURNED_IN_RISK or LOCALIZER_OR_SCREEN.
    """
    for code in _verdicts(data, class_name, deidentify):
        if code not in waived:
            raise Unfit(code)


def mask_of(data: Any, deidentify: DeidentifySettings) -> tuple[Box, ...]:
    """Return the rectangles that the recipe blackens on images of the device that made this one."""
    device = _device_of(data, deidentify)
    return () if device is None else device.boxes


def _device_of(data: Any, deidentify: DeidentifySettings) -> Device | None:
    made_by = (_word(data, "Manufacturer"), _word(data, "ManufacturerModelName"))
    return next((device for device in deidentify.devices if device.name == made_by), None)


def _verdicts(data: Any, class_name: str, deidentify: DeidentifySettings) -> Iterator[str]:
    kinds, modality = _word(data, "ImageType"), _word(data, "Modality")
    device = _device_of(data, deidentify)
    if _word(data, "BurnedInAnnotation") == "YES" and not (device and device.boxes):
        yield "BURNED_IN_DECLARED"
    risky = any(word in class_name for word in _RISKY) or modality in _RISKY_MODALITIES
    risky = risky or (modality in ("XA", "RF") and "SECONDARY" in kinds)
    if risky and device is None:
        yield "BURNED_IN_RISK"
    if any(screen in kinds for screen in _SCREENS):
        yield "LOCALIZER_OR_SCREEN"


def _word(data: Any, keyword: str) -> str:
    return word(data, keyword).upper()
