"""What may be kept beside the pixels, and why the rest is not.

The position: no file of the source is edited and passed on. A record is built from nothing, and only
elements of the allow-list below enter it, each through a grammar of its values: an element is not safe
because of its name, since any text can stand in any element. What fails its grammar is dropped and counted.
"""

import datetime
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from phantomset.data.keys import pseudonym

Share = Annotated[float, Field(ge=0, le=1)]
Box = tuple[Share, Share, Share, Share]
"""A rectangle as shares of width and height: left, top, right, bottom; 0 0 is the upper left corner."""


class Device(BaseModel):
    """A device of which a person knows where its images carry text: at some places, or nowhere.

    Attributes:
        manufacturer, model: what its files say, letter by letter (case does not count).
        mask: the rectangles that are blackened before anything else sees the image; "none" says that it burns
            in no text at all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    manufacturer: str = Field(min_length=1, max_length=64)
    model: str = Field(min_length=1, max_length=64)
    mask: Annotated[tuple[Box, ...], Field(min_length=1, max_length=64)] | Literal["none"]

    @field_validator("mask", mode="before")
    @classmethod
    def _no_other_word(cls, mask: object) -> object:
        if isinstance(mask, str) and mask != "none":
            raise ValueError("is a list of boxes, or the word none for a device that burns in no text")
        return mask

    @property
    def name(self) -> tuple[str, str]:
        """What a file of this device says of it, in capitals."""
        return self.manufacturer.upper(), self.model.upper()

    @property
    def boxes(self) -> tuple[Box, ...]:
        """The rectangles of the mask."""
        return () if self.mask == "none" else self.mask

    @model_validator(mode="after")
    def _boxes_have_an_area(self) -> Self:
        for left, top, right, bottom in self.boxes:
            if left >= right or top >= bottom:
                raise ValueError("a box is left, top, right, bottom, as shares of the image from 0 to 1")
        return self


class DeidentifySettings(BaseModel):
    """The recipe's section ``deidentify``.

    Attributes:
        retain: options of DICOM PS3.15 Annex E. ``patient-characteristics`` keeps sex, and age in bands of
            ten years; ``modified-dates`` keeps dates, all of a patient shifted by the same 1 to 3,650 days.
        accept_quarantined_share: ingest fails when a larger share of the files is kept out; 0 to 1.
            Exact duplicates and classes that were not asked for do not count.
        accept_faces: let in volumes that show a head, or may: a face can be drawn from them.
        burned_in_text: what becomes of images in which text is read: ``quarantine`` keeps the file out,
            ``blacken`` covers the text, ``off`` does not look; ``auto`` is ``quarantine`` for inputs of files
            where the extra [ocr] is installed, else ``off``.
        devices: whose secondary captures, ultrasound and other images of classes that often carry burned-in
            text may come in, each behind a mask that blackens its text.
        reviewed: a CSV file of what a person looked at and releases from the quarantine.
        known_words: words of the source that are no identifiers, for the residual scan.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    retain: tuple[Literal["patient-characteristics", "modified-dates"], ...] = ()
    accept_quarantined_share: float = Field(default=0.05, ge=0, le=1)
    accept_faces: bool = False
    burned_in_text: Literal["auto", "quarantine", "blacken", "off"] = "auto"
    devices: tuple[Device, ...] = ()
    reviewed: Path | None = None
    known_words: tuple[str, ...] = ()

    @property
    def rules(self) -> dict[str, Any]:
        """What decides every record, as plain values; reviewed files and text in pixels are named apart."""
        return self.model_dump(mode="json", exclude={"reviewed", "burned_in_text"})

    @model_validator(mode="after")
    def _each_device_has_one_mask(self) -> Self:
        names = [device.name for device in self.devices]
        if len(set(names)) < len(names):
            raise ValueError("devices: a device stands there twice; give it one mask")
        return self


Grammar = Callable[[list[str]], str | None]
"""Takes the values of an element as text, returns what may be kept, or None."""


def _one_of(words: str) -> Grammar:
    known = frozenset(words.split("|") if "|" in words else words.split())
    return lambda values: values[0] if len(values) == 1 and values[0] in known else None


def _all_of(words: str, most: int) -> Grammar:
    known = frozenset(words.split())
    return lambda values: "\\".join(values) if len(values) <= most and known.issuperset(values) else None


def _number(low: float, high: float, most: int = 1) -> Grammar:
    """Decimal numbers within the range, at four digits: more could spell a date or a number of a patient."""

    def grammar(values: list[str]) -> str | None:
        if len(values) > most or not all(_DECIMAL.fullmatch(value) for value in values):
            return None
        found = [float(value) for value in values]
        return "\\".join(f"{value:.4g}" for value in found) if all(low <= v <= high for v in found) else None

    return grammar


def _age_band(values: list[str]) -> str | None:
    """Years in bands of ten, from 90 on in one; below one year is the first band."""
    match = re.fullmatch(r"(\d{3})([DWMY])", values[0])
    if match is None or len(values) > 1:
        return None
    years = int(match[1]) if match[2] == "Y" else 0
    return "90+" if years >= 90 else f"{years // 10 * 10}-{years // 10 * 10 + 9}"


def _known(names: Iterable[str]) -> Grammar:
    """A name of a dictionary that the text holds, the longest first, or OTHER: never the text itself."""
    ordered = sorted(names, key=lambda name: (-len(name), name))

    def grammar(values: list[str]) -> str:
        folded = " ".join(values).upper()
        return next((name for name in ordered if name.upper() in folded), "OTHER")

    return grammar


def _kernel(values: list[str]) -> str | None:
    return values[0] if len(values) == 1 and _KERNEL.fullmatch(values[0]) else "OTHER"


_DECIMAL = re.compile(r"[+-]?\d{1,9}(\.\d{0,12})?([eE][+-]?\d{1,2})?")
_KERNEL = re.compile(
    r"STANDARD|BONE(PLUS)?|LUNG|DETAIL|SOFT|CHST|EDGE|FC\d\d|[BHTUIQDSJ][rfvwl]?\d\d[a-z]?\d?"
)

_VENDORS = (
    "AGFA|CANON|CARESTREAM|FUJI|GE MEDICAL|HITACHI|HOLOGIC|KODAK|KONICA|PHILIPS|SAMSUNG|SHIMADZU|SIEMENS|"
    "TOSHIBA|UNITED IMAGING"
)
_MODELS = (
    "Achieva|Aera|Aquilion|Avanto|Axiom|Biograph|BrightSpeed|Brilliance|CR 30|CR 85|Definium|DigitalDiagnost|"
    "Discovery|DRX|Emotion|Espree|Essenza|FCR|Force|Gyroscan|Hirise|Hologic|Ingenia|Ingenuity|iCT|Intera|"
    "LightSpeed|Lorad|Magnetom|Mammomat|Optima|Panorama|Prisma|ProGrade|Revolution|Selenia|Senographe|Sensation|"
    "Signa|Skyra|Somatom|Sonata|Symphony|Thunder|Titan|Trio|Vantage|Verio|Vida|XR220|XR656|Ysio"
)
_PLANES = "A P L R H F AL AR AH AF PL PR PH PF LA LP LH LF RA RP RH RF HA HP HL HR FA FP FL FR"

PATIENT_CHARACTERISTICS: Mapping[str, Grammar] = {
    "PatientSex": _one_of("M F O"),
    "PatientAge": _age_band,
}
"""What ``retain: [patient-characteristics]`` adds to the allow-list."""

SLICES_OF_A_FACE = 10
"""Of CT or MR: from so many that may show a head a face can be drawn, in whatever series they lie."""

DATES = ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate")
"""What ``retain: [modified-dates]`` adds, shifted."""

ALLOWED: Mapping[str, Grammar] = {
    # What is shown, and how.
    "Modality": _one_of("BI CR CT DG DX ES GM IO LS MG MR NM OP OPT OT PT PX RF RG SM TG US XA XC"),
    "ImageType": _all_of(
        "ORIGINAL DERIVED PRIMARY SECONDARY AXIAL LOCALIZER M ND NORM OTHER P R I MPR MIP PROJECTION FFE SE "
        "TSE DIS2D DIS3D T1 T2 ADC DIFFUSION TRACEW ADD SUB RIGHT LEFT",
        8,
    ),
    "PresentationIntentType": _one_of("FOR PRESENTATION|FOR PROCESSING"),
    "BodyPartExamined": _one_of(
        "ABDOMEN ANKLE ARM BRAIN BREAST CHEST CSPINE ELBOW EXTREMITY EYE FINGER FOOT HAND HEAD HEART HIP JAW "
        "KNEE LEG LSPINE NECK PELVIS PROSTATE RIB SHOULDER SKIN SKULL SPINE TOE TSPINE WRIST"
    ),
    "ViewPosition": _one_of("AP PA LL RL RLD LLD RLO LLO LAO RAO CC MLO ML LM LMO XCC XCCL XCCM FB SIO"),
    "Laterality": _one_of("L R"),
    "ImageLaterality": _one_of("L R B U"),
    "PatientPosition": _one_of("HFP HFS HFDR HFDL FFP FFS FFDR FFDL"),
    "PatientOrientation": _all_of(_PLANES, 2),
    # What made it.
    "Manufacturer": _known(_VENDORS.split("|")),
    "ManufacturerModelName": _known(_MODELS.split("|")),
    "DetectorType": _one_of("DIRECT SCINTILLATOR STORAGE FILM"),
    "ConversionType": _one_of("DV DI DF WSD SD SI DRW SYN"),
    "ConvolutionKernel": _kernel,
    "ScanningSequence": _all_of("SE IR GR EP RM", 4),
    "SequenceVariant": _all_of("SK MTC SS TRSS SP MP OSP TOF NONE", 6),
    "MRAcquisitionType": _one_of("2D 3D"),
    "KVP": _number(1, 500),
    "ExposureTime": _number(0, 1e5),
    "XRayTubeCurrent": _number(0, 5e3),
    "Exposure": _number(0, 1e5),
    "DistanceSourceToDetector": _number(1, 1e4),
    "MagneticFieldStrength": _number(0.01, 20),
    "RepetitionTime": _number(0, 1e5),
    "EchoTime": _number(0, 1e4),
    "InversionTime": _number(0, 1e5),
    "FlipAngle": _number(0, 360),
    "EchoTrainLength": _number(0, 1024),
    "ReconstructionDiameter": _number(1, 2000),
    "GantryDetectorTilt": _number(-90, 90),
    # What the pixels are.
    "PhotometricInterpretation": _one_of(
        "MONOCHROME1|MONOCHROME2|RGB|PALETTE COLOR|YBR_FULL|YBR_FULL_422|YBR_ICT|YBR_RCT"
    ),
    "Rows": _number(1, 65535),
    "Columns": _number(1, 65535),
    "NumberOfFrames": _number(1, 1e6),
    "BitsStored": _number(1, 64),
    "PixelSpacing": _number(1e-4, 100, most=2),
    "ImagerPixelSpacing": _number(1e-4, 100, most=2),
    "SliceThickness": _number(1e-3, 500),
    "SpacingBetweenSlices": _number(-500, 500),
    "RescaleSlope": _number(-1e6, 1e6),
    "RescaleIntercept": _number(-1e6, 1e6),
    "RescaleType": _one_of("HU US OD MGML PCT"),
    "PixelIntensityRelationship": _one_of("LIN LOG DISP"),
    "LossyImageCompression": _one_of("00 01"),
    "BurnedInAnnotation": _one_of("YES NO"),
}
"""The elements of a header that may reach a record, by DICOM keyword, each with its grammar."""

TECHNICAL = frozenset(ALLOWED) - {
    "Modality",
    "BodyPartExamined",
    "ViewPosition",
    "Laterality",
    "ImageLaterality",
    "PatientPosition",
    "Manufacturer",
}
"""Elements that describe settings and pixels: kept in the record, and no way to tell patients apart."""

_TOKEN = re.compile(r"[A-Za-z][A-Za-z0-9 _/+-]{0,31}")
_NUMBER = re.compile(r"-?\d{1,4}(\.\d{1,4})?")
_LABEL = re.compile(r"[^\W_][\w .,:;/+&()'-]{0,63}")


PROFILE = {
    "113100": "Basic Application Confidentiality Profile",
    "113103": "Clean Graphics Option",
    "113104": "Clean Structured Content Option",
    "113105": "Clean Descriptors Option",
}
"""What is claimed of every record of a DICOM file. Source: DICOM PS3.16, CID 7050."""

_SCREENED = {"113101": "Clean Pixel Data Option"}
_RETAINED = {
    "modified-dates": {"113107": "Retain Longitudinal Temporal Information Modified Dates Option"},
    "patient-characteristics": {"113108": "Retain Patient Characteristics Option"},
}


def claim(retain: Iterable[str], is_screened: bool) -> str:
    """Return the sentence that says, in DICOM's codes, which profile and options records keep.

    Args:
        retain: the options of the recipe.
        is_screened: whether pixels were searched for text.
    """
    codes = dict(PROFILE) | (_SCREENED if is_screened else {})
    for option in retain:
        codes |= _RETAINED[option]
    names = "; ".join(f"{name} ({code})" for code, name in sorted(codes.items()))
    return f"Records of DICOM files are claimed to keep, of PS3.15 Annex E: {names}."


def allowed(retain: Iterable[str]) -> Mapping[str, Grammar]:
    """Return the allow-list under the options of a recipe; dates, which need the patient, are not in it."""
    return {**ALLOWED, **PATIENT_CHARACTERISTICS} if "patient-characteristics" in retain else ALLOWED


def kept(keyword: str, raw: object) -> str | None:
    """Return what may be kept of an allow-listed element's value or values, or None."""
    grammar = ALLOWED.get(keyword) or PATIENT_CHARACTERISTICS.get(keyword)
    if grammar is None or raw is None or isinstance(raw, bytes):
        return None
    listed = cast(Iterable[object], raw) if isinstance(raw, Iterable) else (raw,)
    values = [str(value).strip() for value in (raw.split("\\") if isinstance(raw, str) else listed)]
    return grammar(values) if values and all(values) else None


def shifted(raw: object, subject: str) -> str | None:
    """Return a date (DICOM's DA) moved into the past by the patient's own number of days, or None.

    The number is 1 to 3,650, made from the patient with the project key: all dates of one patient keep their
    distances.
    """
    text = str(raw or "").strip()
    if not re.fullmatch(r"(19|20)\d{6}", text):
        return None
    days = 1 + int(pseudonym("days", subject), 16) % 3650
    try:
        date = datetime.date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        return None
    return f"{date - datetime.timedelta(days=days):%Y%m%d}"


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
