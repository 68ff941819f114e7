"""The header: what is refused before a pixel is read, what is kept, what is dropped and counted."""

import logging
import re
import struct
import sys
import warnings
from collections.abc import Callable
from datetime import datetime

import numpy as np
import pytest
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.sr._concepts_dict import concepts
from pydicom.tag import Tag

from phantomset.data.deidentify import (
    ALLOWED,
    PATIENT_CHARACTERISTICS,
    claim,
    column_value,
    kept,
    label_value,
    patient_key,
)
from phantomset.data.dicom.header import (
    attributes_of,
    hold_image,
    left_out,
    links_of,
    parse,
    quiet,
    subject_of,
)
from phantomset.data.dicom.pixels import unit_images
from phantomset.data.quarantine.ledger import CODES, Unfit
from phantomset.data.source import Limits

from .gate import DEFAULT, held

Make = Callable[..., bytes]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "EMPTY_FILE"),
        (b"hello, doctor\n" * 50, "NOT_RECOGNISED"),
        (b"\x89PNG\r\n\x1a\n" + bytes(300), "NOT_RECOGNISED"),
        (b"PK\x03\x04" + bytes(300), "NOT_RECOGNISED"),
        (b"\x08\x00\x05\x00" + bytes(20), "NO_PREAMBLE_UNPROVEN"),
    ],
)
def test_type_is_told_by_content(content: bytes, code: str) -> None:
    """Neither a name nor a suffix makes a DICOM file."""
    assert held(content) == code


@pytest.mark.parametrize(
    ("elements", "code"),
    [
        ({}, ""),
        ({"BurnedInAnnotation": "YES"}, "BURNED_IN_DECLARED"),
        ({"BurnedInAnnotation": "NO"}, ""),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "BURNED_IN_RISK"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.6.1"}, "BURNED_IN_RISK"),
        *(({"Modality": kind}, "BURNED_IN_RISK") for kind in ("DOC", "ES", "IVOCT", "IVUS", "OT", "US")),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.77.1.1"}, "BURNED_IN_RISK"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREENSHOT"]}, "LOCALIZER_OR_SCREEN"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "LOCALIZER_OR_SCREEN"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4"}, "DERIVED_OBJECT"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.481.2"}, "DERIVED_OBJECT"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.11", "PixelData": None}, "NOT_AN_IMAGE"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.104.1", "PixelData": None}, "NOT_AN_IMAGE"),
        ({"PixelData": None}, "MISSING_REQUIRED"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "LOCALIZER_OR_SCREEN"),
        ({"NumberOfFrames": 2}, ""),
        ({"NumberOfFrames": 1_000_000}, "TOO_MANY_FRAMES"),
        ({"NumberOfFrames": 20_000, "Rows": 8_000, "Columns": 8_000}, "TOO_MANY_PIXELS"),
        ({"NumberOfFrames": 1}, ""),
        ({"Rows": 0}, "INVALID_VALUE"),
        ({"Rows": None}, "MISSING_REQUIRED"),
        ({"Rows": 65535, "Columns": 65535}, "TOO_MANY_PIXELS"),
    ],
)
def test_gate_from_the_header_alone(make_dicom: Make, elements: dict[str, object], code: str) -> None:
    """What may not be taken in is refused before anything of its size is allocated."""
    assert held(make_dicom(**elements)) == code


@pytest.mark.parametrize(
    ("part", "modality", "is_risk"),
    [
        *(("HEADNECK", "MR", True), ("Brain", "CT", True), ("ORBIT", "CT", True), ("SINUS", "CT", True)),
        *(("CSPINE", "MR", True), ("EAR", "CT", True), ("NECK", "MR", True), ("KOPF", "CT", True)),
        *((None, "CT", True), ("", "MR", True), (None, "CR", False), ("HEAD", "DX", False)),
        *(("CHEST", "CT", False), ("heart", "MR", False), ("L-SPINE", "MR", False)),
    ],
)
def test_only_a_part_below_the_neck_is_no_head(
    part: str | None, modality: str, is_risk: bool, make_dicom: Make
) -> None:
    """A slice of CT or MR is linked as one of a head unless the header names a part that has none."""
    about = {"Modality": modality, "SeriesInstanceUID": "1.2.7"}
    with quiet():
        data = parse(make_dicom(BodyPartExamined=part, **about), Limits())
        assert links_of(data).get("head") == ("1.2.7" if is_risk else None)


def test_a_release_from_one_code_is_no_release_from_the_next(make_dicom: Make) -> None:
    """Ultrasound whose header says YES, of a localizer: each of the three codes must be released."""
    about = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.6.1", "Modality": "US", "BurnedInAnnotation": "YES"}
    codes = ["BURNED_IN_DECLARED", "BURNED_IN_RISK", "LOCALIZER_OR_SCREEN"]
    with quiet():
        data = parse(make_dicom(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], **about), Limits())
        for number, code in enumerate(codes):
            with pytest.raises(Unfit, match=code):
                hold_image(data, DEFAULT, Limits(), frozenset(codes[:number]))
        hold_image(data, DEFAULT, Limits(), frozenset(codes))


def test_encrypted_attributes_are_encrypted(make_dicom: Make) -> None:
    """A file that carries its identifiers encrypted would be taken for one without them: ENCRYPTED."""
    item = Dataset()
    item.EncryptedContentTransferSyntaxUID = "1.2.840.10008.1.2"
    item.EncryptedContent = b"\1\2"
    assert held(make_dicom(EncryptedAttributesSequence=[item])) == "ENCRYPTED"


def test_a_file_cut_anywhere_has_a_code(make_dicom: Make) -> None:
    """Truncated at every length: a reason code, no crash, no picture."""
    content = make_dicom(WindowCenter=3, WindowWidth=9)
    for length in range(len(content)):
        try:
            with quiet():
                data = parse(content[:length], Limits())
                hold_image(data, DEFAULT, Limits())
                list(unit_images(data, "auto", Limits()))
        except Unfit as unfit:
            assert unfit.code in CODES
        else:
            pytest.fail(f"cut to {length} of {len(content)} bytes gave a picture")


def test_an_empty_element_of_no_known_representation_is_left_out(make_dicom: Make) -> None:
    """Two letters that the standard does not know: counted as what its tag is, a name; the file goes on."""
    content = make_dicom(ReferringPhysicianName="")
    broken = content.replace(b"\x08\x00\x90\x00PN", b"\x08\x00\x90\x00Pn")
    assert broken != content
    with quiet():
        assert left_out(parse(broken, Limits())) == left_out(parse(content, Limits()))


def test_a_flipped_byte_has_a_code_or_a_picture(make_dicom: Make) -> None:
    """One byte changed at a time over the whole header: nothing but a code or a picture."""
    content = make_dicom(WindowCenter=3, WindowWidth=9)
    for place in range(128, len(content) - 128):
        broken = bytearray(content)
        broken[place] ^= 0xFF
        try:
            with quiet():
                data = parse(bytes(broken), Limits())
                hold_image(data, DEFAULT, Limits())
                subject_of(data, "PatientID")
                attributes_of(data)
                left_out(data)
                assert all(np.isfinite(frame.unit).all() for frame in unit_images(data, "auto", Limits()))
        except Unfit as unfit:
            assert unfit.code in CODES


def test_deep_nesting_has_a_code(make_dicom: Make) -> None:
    """Sequences nested ten thousand deep exhaust a recursive parser; that is a code and not a crash."""
    head = make_dicom()[: 132 + 12 + 200]
    meta = 144 + struct.unpack("<L", head[140:144])[0]
    opened = struct.pack("<HH2sHL", 0x0040, 0xA730, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    limit = sys.getrecursionlimit()
    assert held(make_dicom()[:meta] + opened * 10_000) in (
        "TOO_DEEP",
        "PARSE_ERROR",
        "TRUNCATED",
        "NOT_AN_IMAGE",
    )
    assert sys.getrecursionlimit() == limit


def test_only_values_that_pass_their_grammar_are_kept(make_dicom: Make) -> None:
    """A name that stands in an allow-listed element is no allow-listed value: dropped, and counted."""
    described = ("Modality", "Rows", "Columns", "BitsStored", "PhotometricInterpretation", "NumberOfFrames")
    planted = {keyword: "Canary" for keyword in ALLOWED if keyword not in described}
    with warnings.catch_warnings(action="ignore"):
        content = make_dicom(PatientAge="Canary", **{k: v for k, v in planted.items() if not _numeric(k)})
        data = parse(content, Limits())
        for keyword in filter(_numeric, planted):
            data[keyword] = RawDataElement(Tag(keyword), "DS", 6, b"Canary", 0, False, True)
        attributes = attributes_of(data, ("patient-characteristics",))
    others = dict.fromkeys(("Manufacturer", "ManufacturerModelName", "ConvolutionKernel"), "OTHER")
    pixels = {"Rows": "8", "Columns": "8", "BitsStored": "16", "PhotometricInterpretation": "MONOCHROME2"}
    assert attributes == {"Modality": "CR", **others, **pixels}
    failed = left_out(data, attributes)["values that fail their grammar"]
    assert failed == len(planted) - len(others)


def _numeric(keyword: str) -> bool:
    return dictionary_VR(keyword) in ("DS", "IS")


def test_the_allow_list_has_some_forty_elements_and_none_that_names_anybody() -> None:
    """No person's name, identifier, date or free text is on it; what is text goes by a dictionary."""
    assert 40 <= len(ALLOWED) + len(PATIENT_CHARACTERISTICS) <= 60
    texts = {keyword for keyword in ALLOWED if dictionary_VR(keyword) not in ("CS", "DS", "IS", "US")}
    assert texts == {"Manufacturer", "ManufacturerModelName", "ConvolutionKernel", "RescaleType"}
    assert all(kept(keyword, "Canary") in (None, "OTHER") for keyword in ALLOWED)


def test_what_is_claimed_in_dicoms_own_codes() -> None:
    """Each code has the name that pydicom's copy of the standard gives it; options come when asked for."""
    known = {code: entry[0] for names in concepts["DCM"].values() for code, entry in names.items()}
    everything = claim(["modified-dates", "patient-characteristics"], is_screened=True)
    found = re.findall(r"([A-Z][A-Za-z ]+) \((\d+)\)", everything)
    assert [code for _, code in found] == [
        "113100",
        "113101",
        "113103",
        "113104",
        "113105",
        "113107",
        "113108",
    ]
    assert all(known[code] == name for name, code in found)
    assert re.findall(r"\d{6}", claim([], is_screened=False)) == ["113100", "113103", "113104", "113105"]


def test_dates_are_shifted_by_one_number_a_patient(make_dicom: Make) -> None:
    """On request only; 1 to 3,650 days back; distances within a patient stay, another patient has another."""
    with warnings.catch_warnings(action="ignore"):
        content = make_dicom(StudyDate="20240229", ContentDate="20240310", AcquisitionDate="Canary")
        data = parse(content, Limits())
        data.AcquisitionDate  # noqa: B018 - parsed while warnings are off
    assert "StudyDate" not in attributes_of(data)
    shifts = set()
    for subject in ("a", "b", "c"):
        found = attributes_of(data, ("modified-dates",), subject)
        days = [datetime.strptime(found[name], "%Y%m%d") for name in ("StudyDate", "ContentDate")]
        assert (days[1] - days[0]).days == 10
        shift = (datetime(2024, 2, 29) - days[0]).days
        assert 1 <= shift <= 3650
        assert "AcquisitionDate" not in found
        shifts.add(shift)
    assert len(shifts) == 3


@pytest.mark.parametrize(
    ("keyword", "raw", "value"),
    [
        ("PatientSex", "F", "F"),
        ("PatientSex", "female", None),
        ("PatientAge", "097Y", "90+"),
        ("PatientAge", "089Y", "80-89"),
        ("PatientAge", "007M", "0-9"),
        ("PatientAge", "47", None),
        ("PixelSpacing", "0.1430000001\\0.143", "0.143\\0.143"),
        ("SliceThickness", "20240131", None),
        ("SliceThickness", "1.20240131", "1.202"),
        ("SliceThickness", "1e400", None),
        ("ImageType", "ORIGINAL\\PRIMARY\\AXIAL", "ORIGINAL\\PRIMARY\\AXIAL"),
        ("ImageType", "ORIGINAL\\PRIMARY\\CANARY", None),
        ("ConvolutionKernel", "Br40d3", "Br40d3"),
        ("ConvolutionKernel", "CANARY", "OTHER"),
        ("ManufacturerModelName", "SOMATOM Force of Dr Canary", "Somatom"),
        ("Manufacturer", "SIEMENS Healthineers of Dr Canary", "SIEMENS"),
        ("Manufacturer", "Dr Canary", "OTHER"),
        ("ViewPosition", "PA", "PA"),
        ("PatientName", "Canary", None),
        ("StudyInstanceUID", "1.2.3", None),
        ("Modality", "", None),
    ],
)
def test_value_grammar(keyword: str, raw: str, value: str | None) -> None:
    """Enumerations, ages in bands of ten with one from 90 on, vendors by dictionary; all else is dropped."""
    assert kept(keyword, raw) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("AP", "AP"),
        ("follow-up", "follow-up"),
        ("63", "63"),
        ("-1.5", "-1.5"),
        ("19540312", None),
        ("=1+1", None),
        ("a@b", None),
        ("", None),
    ],
)
def test_attribute_columns_keep_short_words_and_numbers(text: str, value: str | None) -> None:
    """Dates, long numbers, formulas and addresses are dropped."""
    assert column_value(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no finding", "no finding"),
        ("  two   words ", "two words"),
        ("0", "0"),
        ("Übelkeit", "Übelkeit"),
        ("a\x1b[31m", None),
        ("x" * 65, None),
        ("../a", None),
        ("=cmd", None),
    ],
)
def test_label_grammar(text: str, value: str | None) -> None:
    """One line of printable characters that begins with a letter or a digit."""
    assert label_value(text) == value


def test_patient_keys_are_normalised() -> None:
    """White space, case and NULs make no other patient; an issuer does; emptiness is nobody."""
    assert patient_key(" a  17\0") == patient_key("A 17")
    assert patient_key("A17", "House 1") != patient_key("A17", "House 2")
    assert patient_key("") is patient_key(None) is patient_key(" \0 ") is None


@pytest.mark.parametrize("elements", [{"PatientID": None}, {"PatientID": ""}, {"PatientID": "   "}])
def test_a_file_without_patient_is_refused(make_dicom: Make, elements: dict[str, object]) -> None:
    """Nobody's image cannot be grouped, so it cannot be split."""
    with pytest.raises(Unfit, match="NO_PATIENT"):
        subject_of(parse(make_dicom(**elements), Limits()), "PatientID")


def test_what_is_left_out_is_counted_by_rule(make_dicom: Make) -> None:
    """Counted from the dictionary: one PN, one LO, two UI (class, instance), one private block of two."""
    data = parse(make_dicom(), Limits())
    data.private_block(0x0009, "CANARY", create=True).add_new(1, "LO", "Canary")
    counts = left_out(data)
    assert counts["person names"] == 1
    assert counts["unique identifiers"] == 2
    assert counts["private elements"] == 2
    assert counts["free text"] == 1


def test_pydicom_is_kept_quiet(caplog: pytest.LogCaptureFixture, make_dicom: Make) -> None:
    """Warnings and log lines of the parser carry header values; none comes out, and the logger works
    afterwards.
    """
    with warnings.catch_warnings(action="ignore"):
        content = make_dicom(PatientBirthDate="Canary of 1954", StudyTime="Canary")
    caplog.clear()
    with caplog.at_level(logging.DEBUG), quiet():
        data = parse(content, Limits())
        attributes_of(data)
        left_out(data)
        assert isinstance(data, Dataset)
        str(data)
    assert "Canary" not in caplog.text
    assert not logging.getLogger("pydicom").disabled
