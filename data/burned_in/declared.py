"""Burned-in text as far as a header tells: what is kept out, and which device comes in behind a mask."""

from collections.abc import Iterator
from typing import Any

from phantomset.data.deidentify import Box, DeidentifySettings
from phantomset.data.dicom.elements import word
from phantomset.data.quarantine.ledger import Unfit

_RISKY = ("Secondary Capture", "Ultrasound", "Endoscopic")
_RISKY_MODALITIES = ("DOC", "ES", "IVOCT", "IVUS", "OT", "US")
_SCREENS = ("LOCALIZER", "SCREEN", "DOSE_INFO", "DOSE REPORT")
"""What the image type of a view that is no image of a patient holds: "SCREEN SAVE", "SCREENSHOT"."""


def hold_clean(data: Any, class_name: str, deidentify: DeidentifySettings, waived: frozenset[str]) -> None:
    """Hold that neither the class of an object nor its header speaks of text in the pixels.

    A header that says NO is not believed, only one that says YES. A device with a mask comes in, since the
    mask covers its text; so does a file that a person released from every code that speaks against it.

    Raises:
        Unfit: BURNED_IN_DECLARED, BURNED_IN_RISK or LOCALIZER_OR_SCREEN.
    """
    for code in _verdicts(data, class_name, deidentify):
        if code not in waived:
            raise Unfit(code)


def mask_of(data: Any, deidentify: DeidentifySettings) -> tuple[Box, ...]:
    """Return the rectangles that the recipe blackens on images of the device that made this one."""
    made_by = (_word(data, "Manufacturer"), _word(data, "ManufacturerModelName"))
    for device in deidentify.devices:
        if made_by == (device.manufacturer.upper(), device.model.upper()):
            return device.mask
    return ()


def _verdicts(data: Any, class_name: str, deidentify: DeidentifySettings) -> Iterator[str]:
    kinds, modality = _word(data, "ImageType"), _word(data, "Modality")
    covered = bool(mask_of(data, deidentify))
    if _word(data, "BurnedInAnnotation") == "YES" and not covered:
        yield "BURNED_IN_DECLARED"
    risky = any(word in class_name for word in _RISKY) or modality in _RISKY_MODALITIES
    risky = risky or (modality in ("XA", "RF") and "SECONDARY" in kinds)
    if risky and not (covered or deidentify.accept_screens):
        yield "BURNED_IN_RISK"
    if any(screen in kinds for screen in _SCREENS):
        yield "LOCALIZER_OR_SCREEN"


def _word(data: Any, keyword: str) -> str:
    return word(data, keyword).upper()
