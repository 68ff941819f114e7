"""Burned-in text as far as a header tells: what is kept out, and which device comes in behind a mask."""

from typing import Any

from phantomset.data.deidentify import Box, DeidentifySettings
from phantomset.data.dicom.elements import word
from phantomset.data.quarantine.ledger import Unfit

_RISKY = ("Secondary Capture", "Ultrasound")
_SCREENS = ("LOCALIZER", "SCREEN SAVE", "DOSE_INFO", "DOSE REPORT")


def hold_clean(data: Any, class_name: str, deidentify: DeidentifySettings, waived: frozenset[str]) -> None:
    """Hold that neither the class of an object nor its header speaks of text in the pixels.

    A header that says NO is not believed, only one that says YES. A device with a mask comes in, since the
    mask covers its text; so does a file that a person released from the code.

    Raises:
        Unfit: BURNED_IN_DECLARED, BURNED_IN_RISK or LOCALIZER_OR_SCREEN.
    """
    code = _verdict(data, class_name, deidentify)
    if code and code not in waived:
        raise Unfit(code)


def mask_of(data: Any, deidentify: DeidentifySettings) -> tuple[Box, ...]:
    """Return the rectangles that the recipe blackens on images of the device that made this one."""
    made_by = (_word(data, "Manufacturer"), _word(data, "ManufacturerModelName"))
    for device in deidentify.devices:
        if made_by == (device.manufacturer.upper(), device.model.upper()):
            return device.mask
    return ()


def _verdict(data: Any, class_name: str, deidentify: DeidentifySettings) -> str | None:
    kinds, modality = _word(data, "ImageType"), _word(data, "Modality")
    covered = bool(mask_of(data, deidentify))
    if _word(data, "BurnedInAnnotation") == "YES" and not covered:
        return "BURNED_IN_DECLARED"
    risky = any(word in class_name for word in _RISKY) or modality in ("OT", "US")
    risky = risky or (modality in ("XA", "RF") and "SECONDARY" in kinds)
    if risky and not (covered or deidentify.accept_screens):
        return "BURNED_IN_RISK"
    return "LOCALIZER_OR_SCREEN" if any(screen in kinds for screen in _SCREENS) else None


def _word(data: Any, keyword: str) -> str:
    return word(data, keyword).upper()
