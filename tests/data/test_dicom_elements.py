"""Values of a header that are remembered from file to file: the same as pydicom parses them each time."""

from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydicom.charset import python_encoding
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from phantomset.data.deidentify import ALLOWED, kept
from phantomset.data.dicom.elements import element, plain, tag_of
from phantomset.data.dicom.header import attributes_of, parse, quiet
from phantomset.data.quarantine.ledger import Unfit
from phantomset.data.source import Limits

Make = Callable[..., bytes]


def _of_bytes(keyword: str, representation: str | None, value: bytes, little: bool) -> Dataset:
    """A data set with one element as a file would hold it."""
    data, tag = Dataset(), tag_of(keyword)
    data[tag] = RawDataElement(tag, representation, len(value), value, 0, representation is None, little)
    return data


def _pydicom(data: Dataset, keyword: str) -> str:
    try:
        return repr(data.get(keyword))
    except Exception:
        return "refused"


@given(
    st.sampled_from([*ALLOWED, "PatientID", "PixelPaddingValue", "WindowCenter", "StudyDate"]),
    st.sampled_from([None, "AS", "CS", "DA", "DS", "IS", "LO", "SH", "SS", "UI", "UN", "US"]),
    st.one_of(st.binary(max_size=8), st.from_regex(rb"[0-9A-Z.\\ ]{0,12}", fullmatch=True)),
    st.booleans(),
)
@settings(deadline=None)
def test_any_bytes_have_the_value_that_pydicom_gives_them(
    keyword: str, representation: str | None, value: bytes, little: bool
) -> None:
    """Whatever stands in an element, under whatever representation: asked once or again, it is pydicom's."""
    with quiet():
        expected = _pydicom(_of_bytes(keyword, representation, value, little), keyword)
        for _ in range(2):
            data = _of_bytes(keyword, representation, value, little)
            try:
                found = repr(element(data, keyword))
            except Unfit:
                found = "refused"
            assert found == expected
            attribute = kept(keyword, plain(_of_bytes(keyword, representation, value, little), keyword))
            assert attributes_of(data).get(keyword) == attribute


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_equal_bytes_in_another_byte_order_are_another_value(make_dicom: Make, syntax: str) -> None:
    """256 in one order is 1 in the other: what is remembered of one file is not taken for the next."""
    data = parse(make_dicom(syntax=syntax, Rows=8, BitsStored=16, SeriesNumber=256), Limits())
    assert (element(data, "Rows"), element(data, "BitsStored"), element(data, "SeriesNumber")) == (8, 16, 256)


def test_text_is_read_in_the_character_set_of_its_own_file(make_dicom: Make) -> None:
    """The same bytes are other letters in another character set."""
    letters = [
        element(parse(make_dicom(SpecificCharacterSet=name, PatientID=text), Limits()), "PatientID")
        for name, text in (("ISO_IR 100", "\xe9"), ("ISO_IR 144", "\u0449"))  # both are written as E9
    ]
    assert letters == ["\xe9", "\u0449"]


@given(
    st.sampled_from(["", *python_encoding, ["", "ISO 2022 IR 87"], ["ISO 2022 IR 13", "ISO 2022 IR 87"]]),
    st.binary(max_size=8).filter(bytes.isascii),
)
@example(["", "ISO 2022 IR 87"], b"\x1b$B;3\x1b(B")  # a mountain
@settings(deadline=None)
def test_plain_text_is_remembered_over_all_character_sets(terms: str | list[str], value: bytes) -> None:
    """ASCII is one text in each of them; what an escape switches to is as pydicom reads it."""
    answers: list[str] = []
    for ask in (_pydicom, lambda data, keyword: repr(element(data, keyword))):
        data = _of_bytes("StationName", "SH", value, little=True)
        data.SpecificCharacterSet = terms
        with quiet():
            answers.append(ask(data, "StationName"))
    assert answers[0] == answers[1]
