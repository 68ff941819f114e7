"""What becomes of a DICOM file before a pixel of it is read."""

from phantomset.data.deidentify import DeidentifySettings
from phantomset.data.dicom.header import hold_image, parse, quiet
from phantomset.data.quarantine.ledger import Unfit
from phantomset.data.source import Limits

DEFAULT = DeidentifySettings()


def held(content: bytes, deidentify: DeidentifySettings = DEFAULT) -> str:
    """The code that parsing and the gate end with, or "" where the file passes."""
    try:
        with quiet():
            data = parse(content, Limits())
            hold_image(data, deidentify, Limits())
    except Unfit as unfit:
        return unfit.code
    return ""
