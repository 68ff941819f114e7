"""The 89 places of the planted corpus, in their order."""

from collections.abc import Callable

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from .planted import (
    IMPLICIT,
    PDF,
    SR,
    Plant,
    after_pixels,
    as_jpeg,
    burned_mr,
    burned_sc,
    burned_us,
    date,
    element,
    high_bits,
    icon,
    in_group,
    jpeg_comment,
    misused,
    nested,
    overlay,
    patched,
    raw,
    sound,
    uid,
)

Planter = Callable[[Plant], None]


def age(it: Plant) -> None:
    it.data.PatientAge = "097Y"
    it.say("097Y")


def address(it: Plant) -> None:
    it.data.PatientAddress = it.word
    it.data.PatientTelephoneNumbers = f"{it.word} 555"
    it.say(it.word)


def other_ids(it: Plant) -> None:
    it.data.add_new(Tag(0x0010, 0x1000), "LO", it.word)
    it.say(it.word)


def institution(it: Plant) -> None:
    it.data.InstitutionName, it.data.InstitutionAddress = it.word, f"{it.word} Street"
    it.say(it.word)


def sop_instance(it: Plant) -> None:
    it.data.SOPInstanceUID = it.uid
    it.say(it.uid)


def meta_instance(it: Plant) -> None:
    it.data.SOPInstanceUID = it.uid
    it.meta["MediaStorageSOPInstanceUID"] = it.uid
    it.say(it.uid)


def private(vr: str, syntax: str = "", creator: bool = True) -> Planter:
    def plant(it: Plant) -> None:
        it.syntax = syntax or it.syntax
        if creator:
            it.data.add_new(Tag(0x0009, 0x0010), "LO", "SOME HOUSE")
        value = it.word.encode() + b" " if vr == "UN" else it.word
        it.data.add_new(Tag(0x0009, 0x1001), vr, value)
        it.say(it.word)

    return plant


def private_creator(it: Plant) -> None:
    it.data.add_new(Tag(0x0009, 0x0010), "LO", it.word)
    it.data.add_new(Tag(0x0009, 0x1001), "LO", "x")
    it.say(it.word)


def private_sequence(it: Plant) -> None:
    item = Dataset()
    item.PatientName = it.word
    it.data.add_new(Tag(0x0009, 0x0010), "LO", "SOME HOUSE")
    it.data.add_new(Tag(0x0009, 0x1002), "SQ", Sequence([item]))
    it.say(it.word)


def private_in_sequence(it: Plant) -> None:
    item = Dataset()
    item.CodeValue = "x"
    item.add_new(Tag(0x0009, 0x0010), "LO", "SOME HOUSE")
    item.add_new(Tag(0x0009, 0x1001), "LO", it.word)
    it.data.ProcedureCodeSequence = Sequence([item])
    it.say(it.word)


def image_type(it: Plant) -> None:
    it.data.ImageType = ["ORIGINAL", "PRIMARY", it.word.upper()]
    it.say(it.word, it.word.upper())


def maker(it: Plant) -> None:
    it.data.Manufacturer = it.data.ManufacturerModelName = it.word
    it.say(it.word)


def label_text(it: Plant) -> None:
    it.data.add_new(Tag(0x2030, 0x0020), "LO", it.word)
    it.data.add_new(Tag(0x2200, 0x0002), "UT", it.word)
    it.say(it.word)


def name_as_un(it: Plant) -> None:
    it.data.add_new(Tag(0x0010, 0x0010), "UN", it.word.encode() + b" ")
    it.say(it.word)


def preamble(it: Plant) -> None:
    it.preamble = it.word.encode().ljust(128, b"\0")
    it.say(it.word)


def trailing(it: Plant) -> None:
    it.after = b"reported by " + (it.word.encode() + b" ") * 3
    it.say(it.word)


def padding(it: Plant) -> None:
    it.data.add_new(Tag(0xFFFC, 0xFFFC), "OB", (it.word.encode() + b" ") * 2)
    it.say(it.word)


def meta(keyword: str) -> Planter:
    def plant(it: Plant) -> None:
        value = it.word.encode() + b" " if keyword == "PrivateInformation" else it.word
        it.meta[keyword] = value
        if keyword == "PrivateInformation":
            it.meta["PrivateInformationCreatorUID"] = "1.2.3"
        it.say(it.word)

    return plant


def file_name(it: Plant) -> None:
    it.name = f"{it.word}^Ada 1931.dcm"
    it.say(it.word)


def graphic(it: Plant) -> None:
    text, layer = Dataset(), Dataset()
    text.UnformattedTextValue = it.word
    layer.TextObjectSequence = Sequence([text])
    it.data.GraphicAnnotationSequence = Sequence([layer])
    it.say(it.word)


def charset(term: str | list[str], keyword: str, text: str, codec: str) -> Planter:
    def plant(it: Plant) -> None:
        it.data.SpecificCharacterSet = term
        setattr(it.data, keyword, text)
        parts = [part for part in text.replace("=", "^").split("^") if len(part) > 1]
        it.say(*parts, encodings=("utf-8", "utf-16-le", codec, "unicode_escape"))

    return plant


def invalid_charset(it: Plant) -> None:
    it.data.PatientName = it.word
    it.data.add_new(Tag(0x0008, 0x0005), "CS", "ISO_IR 999")
    it.say(it.word)


def no_image(kind: str, keyword: str) -> Planter:
    def plant(it: Plant) -> None:
        for name in ("PixelData", "Rows", "Columns", "BitsStored", "BitsAllocated", "HighBit"):
            delattr(it.data, name)
        it.data.SOPClassUID, it.data.Modality = kind, "SR" if kind == SR else "DOC"
        if keyword == "EncapsulatedDocument":
            it.data.EncapsulatedDocument = b"%PDF-1.4 " + it.word.encode() + b" "
            it.data.MIMETypeOfEncapsulatedDocument = "application/pdf"
        else:
            item = Dataset()
            setattr(item, keyword, it.word)
            it.data.ContentSequence = Sequence([item])
        it.say(it.word)

    return plant


def unlisted_uid(it: Plant) -> None:
    it.data.add_new(Tag(0x0018, 0x100B), "UI", it.uid)
    it.say(it.uid)


def frame_comments(it: Plant) -> None:
    content, frame = Dataset(), Dataset()
    content.FrameComments = it.word
    frame.FrameContentSequence = Sequence([content])
    it.data.PerFrameFunctionalGroupsSequence = Sequence([frame])
    it.say(it.word)


JAPANESE = ["", "ISO 2022 IR 87"]
TWELVE = ("RequestAttributesSequence",) + ("ReferencedRequestSequence",) * 11

PLACES: tuple[tuple[str, str, Planter, str], ...] = (
    ("std", "PatientName (0010,0010)", element("PatientName"), ""),
    ("std", "PatientID (0010,0020)", element("PatientID"), ""),
    ("std", "PatientBirthDate", date("PatientBirthDate"), ""),
    ("std", "PatientAge 097Y", age, ""),
    ("std", "PatientAddress+Phone", address, ""),
    ("std", "OtherPatientIDs retired", other_ids, ""),
    ("std", "AccessionNumber", element("AccessionNumber"), ""),
    ("std", "StudyID", element("StudyID"), ""),
    ("std", "InstitutionName/Address", institution, ""),
    ("std", "ReferringPhysicianName", element("ReferringPhysicianName"), ""),
    ("std", "OperatorsName", element("OperatorsName"), ""),
    ("std", "StationName", element("StationName"), ""),
    ("std", "DeviceSerialNumber", element("DeviceSerialNumber"), ""),
    ("dates", "StudyDate", date("StudyDate"), ""),
    ("dates", "AcquisitionDateTime", date("AcquisitionDateTime", "101112"), ""),
    ("dates", "ContentDate", date("ContentDate"), ""),
    ("dates", "DateOfLastCalibration", date("DateOfLastCalibration"), ""),
    ("uid", "StudyInstanceUID", uid("StudyInstanceUID"), ""),
    ("uid", "SeriesInstanceUID", uid("SeriesInstanceUID"), ""),
    ("uid", "SOPInstanceUID", sop_instance, ""),
    ("uid", "FrameOfReferenceUID", uid("FrameOfReferenceUID"), ""),
    ("uid", "file-meta MediaStorageSOPInstanceUID", meta_instance, ""),
    (
        "uid",
        "ReferencedSOPInstanceUID in sequence",
        nested("ReferencedImageSequence", last="ReferencedSOPInstanceUID", value="uid"),
        "",
    ),
    ("uid", "InstanceCreatorUID", uid("InstanceCreatorUID"), ""),
    ("uid", "DeviceUID / unlisted UI (0018,100B Mfr class UID)", unlisted_uid, ""),
    ("seq", "OtherPatientIDsSequence>PatientID", nested("OtherPatientIDsSequence", last="PatientID"), ""),
    (
        "seq",
        "RequestAttributesSequence>…>CodeMeaning",
        nested("RequestAttributesSequence", "ReasonForRequestedProcedureCodeSequence", last="CodeMeaning"),
        "",
    ),
    (
        "seq",
        "RequestAttributesSequence>RequestedProcedureID",
        nested("RequestAttributesSequence", last="RequestedProcedureID"),
        "",
    ),
    (
        "seq",
        "OriginalAttributesSequence>…>PatientName",
        nested("OriginalAttributesSequence", "ModifiedAttributesSequence", last="PatientName"),
        "",
    ),
    (
        "seq",
        "OperatorIdentificationSequence>PersonIdCode",
        nested("OperatorIdentificationSequence", "PersonIdentificationCodeSequence", last="CodeValue"),
        "",
    ),
    ("seq", "PerFrameFG>FrameContent>FrameComments", frame_comments, ""),
    (
        "seq",
        "AcquisitionContextSequence>TextValue",
        nested("AcquisitionContextSequence", last="TextValue"),
        "",
    ),
    ("seq", "12 levels deep PatientName", nested(*TWELVE, last="PatientName"), ""),
    ("priv", "private LO", private("LO"), ""),
    ("priv", "private SQ>PatientName", private_sequence, ""),
    ("priv", "private UN blob", private("UN"), ""),
    ("priv", "private creator value", private_creator, ""),
    ("priv", "private, no creator", private("LO", creator=False), ""),
    ("priv", "private inside standard sequence", private_in_sequence, ""),
    ("text", "StudyDescription", element("StudyDescription"), ""),
    ("text", "SeriesDescription", element("SeriesDescription"), ""),
    ("text", "ProtocolName", element("ProtocolName"), ""),
    ("text", "ImageComments", element("ImageComments"), ""),
    ("text", "PatientComments", element("PatientComments"), ""),
    ("text", "AdditionalPatientHistory", element("AdditionalPatientHistory"), ""),
    ("text", "DerivationDescription", element("DerivationDescription"), ""),
    ("text", "ContrastBolusAgent", element("ContrastBolusAgent"), ""),
    ("text", "PerformedProcedureStepDescription", element("PerformedProcedureStepDescription"), ""),
    ("text", "ImageType value 3 (CS)", image_type, ""),
    ("text", "WindowCenterWidthExplanation", element("WindowCenterWidthExplanation"), ""),
    ("text", "ConvolutionKernel", element("ConvolutionKernel"), ""),
    ("text", "Manufacturer/Model misuse", maker, ""),
    ("text", "RetrieveURL UR", element("RetrieveURL"), ""),
    ("text", "unknown even-group tag LO", raw((0x0018, 0xEEEE), "LO"), ""),
    ("text", "TextString (2030,0020) / LabelText", label_text, ""),
    ("odd", "PatientName written as UN", name_as_un, ""),
    ("odd", "name inside a DA tag", misused("PatientBirthDate", "DA"), ""),
    ("odd", "name bytes in StudyDate (DA)", misused("StudyDate", "DA"), ""),
    ("odd", "name bytes in SliceThickness (DS)", misused("SliceThickness", "DS"), ""),
    ("container", "preamble", preamble, ""),
    ("container", "trailing bytes after data set", trailing, "TRAILING_DATA"),
    ("container", "DataSetTrailingPadding", padding, ""),
    ("container", "file meta SourceAETitle", meta("SourceApplicationEntityTitle"), ""),
    ("container", "file meta PrivateInformation", meta("PrivateInformation"), ""),
    ("container", "file name", file_name, ""),
    ("pixel", "extra bytes after pixels", after_pixels, ""),
    ("pixel", "burned-in text (MR, BurnedIn=YES)", burned_mr, "BURNED_IN_DECLARED"),
    ("pixel", "burned-in text (SC RGB)", burned_sc, "BURNED_IN_RISK"),
    ("pixel", "burned-in text outside US region", burned_us, "BURNED_IN_RISK"),
    ("pixel", "text in unused high bits (bit 15)", high_bits, ""),
    ("overlay", "overlay 6000 bits", overlay(0x6000), ""),
    ("overlay", "overlay 6006 bits", overlay(0x6006), ""),
    (
        "overlay",
        "overlay description/label/comments",
        in_group(0x6000, (0x0022, "LO"), (0x1500, "LO"), (0x4000, "LT")),
        "",
    ),
    ("overlay", "curve description/label (50xx)", in_group(0x5000, (0x0022, "LO"), (0x2500, "LO")), ""),
    ("overlay", "curve data bytes (50xx,3000)", in_group(0x5000, (0x3000, "OB")), ""),
    ("overlay", "icon image pixels", icon, ""),
    ("overlay", "GraphicAnnotation text", graphic, ""),
    ("overlay", "audio sample data (50xx,200C)", in_group(0x5000, (0x200C, "OB")), ""),
    (
        "charset",
        "PN ISO 2022 IR 87, 3 groups",
        charset(JAPANESE, "PatientName", "Yamashiro^Tarouza=山城^太郎座=やましろ^たろうざ", "iso2022_jp"),
        "",
    ),
    (
        "charset",
        "StudyDescription ISO 2022 IR 87",
        charset(JAPANESE, "StudyDescription", "胸部山城撮影", "iso2022_jp"),
        "",
    ),
    ("charset", "PN ISO_IR 144", charset("ISO_IR 144", "PatientName", "Люксембургский^Ада", "iso8859_5"), ""),
    (
        "charset",
        "PatientComments ISO 2022 IR 149",
        charset(["", "ISO 2022 IR 149"], "PatientComments", "김희중환자", "euc_kr"),
        "",
    ),
    ("charset", "PN GB18030", charset("GB18030", "PatientName", "王小东先生^明德", "gb18030"), ""),
    ("charset", "PN, invalid charset term", invalid_charset, ""),
    ("nonimage", "SR TextValue", no_image(SR, "TextValue"), "NOT_AN_IMAGE"),
    ("nonimage", "SR PersonName", no_image(SR, "PersonName"), "NOT_AN_IMAGE"),
    ("nonimage", "encapsulated PDF bytes", no_image(PDF, "EncapsulatedDocument"), "NOT_AN_IMAGE"),
    ("pixel", "JPEG COM segment inside frame", jpeg_comment, ""),
    ("priv", "private LO, implicit VR", private("LO", IMPLICIT), ""),
)


def corpus() -> list[tuple[Plant, bytes, bytes]]:
    """Return each plant with the bytes of its file and of its twin: the same pixels and no plant."""
    made: list[tuple[Plant, bytes, bytes]] = []
    for number, (group, place, planter, code) in enumerate(PLACES, start=1):
        it = Plant(group, place, number, code, data=sound(number), name=f"f{number:02d}.dcm")
        planter(it)
        patch = it.meta.pop("_patch", None)
        content = it.content()
        twin = Plant(group, place, number, data=sound(number))
        if planter is jpeg_comment:
            as_jpeg(twin, b"")
        made.append((it, patched(content, *patch) if patch else content, twin.content()))
    return made
