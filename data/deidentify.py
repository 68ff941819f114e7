"""What may be kept beside the pixels, and why the rest is not.

The position: no file of the source is edited and passed on. A record is built from nothing, and only
attributes of the allow-list below enter it, each through a value grammar: an element is not safe because of
its name, since any text can stand in any element. What fails its grammar is dropped and counted.
"""

import re
from collections.abc import Callable, Mapping

from pydantic import BaseModel, ConfigDict, Field


class DeidentifySettings(BaseModel):
    """The recipe's section ``deidentify``.

    Attributes:
        accept_quarantined_share: ingest fails when a larger share of the files is kept out; 0 to 1.
            Exact duplicates and classes that were not asked for do not count.
        accept_screens: let in secondary captures, ultrasound and other classes that often carry burned-in
            text. Pixels are not screened for text: set it only where the devices are known to burn in none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    accept_quarantined_share: float = Field(default=0.05, ge=0, le=1)
    accept_screens: bool = False


Grammar = Callable[[str], str | None]
"""Takes a raw value, returns what may be kept, or None."""


def _one_of(words: str) -> Grammar:
    known = frozenset(words.split())
    return lambda text: text if text in known else None


def _age_band(text: str) -> str | None:
    """Years in bands of ten, from 90 on in one; below one year is the first band."""
    match = re.fullmatch(r"(\d{3})([DWMY])", text)
    if match is None:
        return None
    years = int(match[1]) if match[2] == "Y" else 0
    return "90+" if years >= 90 else f"{years // 10 * 10}-{years // 10 * 10 + 9}"


_VENDORS = frozenset(
    {"AGFA", "CANON", "CARESTREAM", "FUJI", "GE MEDICAL", "HITACHI", "HOLOGIC", "KODAK", "KONICA", "PHILIPS"}
    | {"SAMSUNG", "SHIMADZU", "SIEMENS", "TOSHIBA", "UNITED IMAGING"}
)


def _vendor(text: str) -> str:
    """A vendor from the dictionary, or OTHER: never the text itself."""
    folded = text.upper()
    return next((vendor for vendor in sorted(_VENDORS) if vendor in folded), "OTHER")


ALLOWED: Mapping[str, Grammar] = {
    "PatientSex": _one_of("M F O"),
    "PatientAge": _age_band,
    "Modality": _one_of("BI CR CT DG DX ES GM IO LS MG MR NM OP OPT OT PT PX RF RG SM TG US XA XC"),
    "ViewPosition": _one_of("AP PA LL RL RLD LLD RLO LLO LAO RAO CC MLO ML LM LMO XCC XCCL XCCM FB SIO"),
    "Laterality": _one_of("L R"),
    "ImageLaterality": _one_of("L R B U"),
    "BodyPartExamined": _one_of(
        "ABDOMEN ANKLE ARM BRAIN BREAST CHEST CSPINE ELBOW EXTREMITY EYE FINGER FOOT HAND HEAD HIP JAW KNEE "
        "LEG LSPINE NECK PELVIS RIB SHOULDER SKIN SKULL SPINE TOE TSPINE WRIST"
    ),
    "PatientPosition": _one_of("HFP HFS HFDR HFDL FFP FFS FFDR FFDL"),
    "Manufacturer": _vendor,
}
"""The elements of a header that may reach a record, by DICOM keyword, each with its grammar."""

_TOKEN = re.compile(r"[A-Za-z][A-Za-z0-9 _/+-]{0,31}")
_NUMBER = re.compile(r"-?\d{1,4}(\.\d{1,4})?")
_LABEL = re.compile(r"[^\W_][\w .,:;/+&()'-]{0,63}")


def kept(keyword: str, raw: object) -> str | None:
    """Return the value of an allow-listed element that may be kept, or None."""
    grammar = ALLOWED.get(keyword)
    text = str(raw).strip() if raw is not None else ""
    return grammar(text) if grammar is not None and text else None


def column_value(text: str) -> str | None:
    """Return a cell of a declared attribute column if it is a short word or number, else None."""
    text = text.strip()
    return text if _TOKEN.fullmatch(text) or _NUMBER.fullmatch(text) else None


def label_value(text: str) -> str | None:
    """Return a label that is one line of at most 64 printable characters, else None."""
    text = " ".join(text.split())
    return text if _LABEL.fullmatch(text) else None


def patient_key(text: str | None, issuer: str | None = None) -> str | None:
    """Return the patient identifier in one spelling, or None where there is none.

    White space at the ends and doubled, case and trailing NULs do not make another patient; another issuer
    does.
    """
    name = " ".join((text or "").replace("\0", " ").split()).upper()
    if not name:
        return None
    return f"{' '.join((issuer or '').split()).upper()}\0{name}"
