"""From stored values to grey: each step against pydicom's own functions, or worked by hand."""

from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from phantomset.data.dicom import decoders, pixels
from phantomset.data.dicom.header import parse
from phantomset.data.dicom.pixels import each_once, steps_of, to_unit, unit_images
from phantomset.data.pixels.windows import Window
from phantomset.data.quarantine.ledger import Unfit
from phantomset.data.source import Limits

Make = Callable[..., bytes]
WINDOW = {"WindowCenter": 32, "WindowWidth": 41}


def _unit(content: bytes, window: Window = "auto") -> np.ndarray:
    (frame,) = unit_images(parse(content, Limits()), window, Limits())
    return frame.unit


def _rows(values: list[list[int]], kind: str = "<u2") -> np.ndarray:
    return np.array(values, dtype=kind)


def _lut(first: int, bits: int, entries: list[int], **more: Any) -> Dataset:
    item = Dataset()
    item.LUTDescriptor = [len(entries), first, bits]
    item.LUTData = np.array(entries, dtype="<u2").tobytes()
    for keyword, value in more.items():
        setattr(item, keyword, value)
    return item


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_window_functions_agree_with_pydicom(make_dicom: Make, function: str) -> None:
    """PS3.3 C.11.2: the three functions, against pydicom's apply_windowing over the full output range."""
    content = make_dicom(**WINDOW, VOILUTFunction=function, RescaleSlope=1.5, RescaleIntercept=-20)
    data = pydicom.dcmread(BytesIO(content))
    shown = apply_voi_lut(apply_modality_lut(data.pixel_array, data), data)
    top = apply_modality_lut(np.array([65535]), data)[0]
    bottom = apply_modality_lut(np.array([0]), data)[0]
    assert _unit(content) == pytest.approx((shown - bottom) / (top - bottom), abs=1e-6)


def test_linear_window_by_hand(make_dicom: Make) -> None:
    """Centre 4, width 5: below 2 black, from 5.5 white, 3.5 in the middle; 3 is (3-3.5)/4+.5 = .375."""
    content = make_dicom(_rows([[0, 1, 2, 3], [4, 5, 6, 9]]), WindowCenter=4, WindowWidth=5)
    assert _unit(content).tolist() == [[0, 0, 0.125, 0.375], [0.625, 0.875, 1, 1]]


def test_a_window_of_one_is_a_threshold(make_dicom: Make) -> None:
    """C.11.2.1.2: at width 1 everything at or below centre - 0.5 is black and the rest white."""
    content = make_dicom(_rows([[0, 1, 2, 3]]), WindowCenter=2, WindowWidth=1)
    assert _unit(content).tolist() == [[0, 0, 1, 1]]


def test_a_narrow_sigmoid_ends_at_black_and_white(make_dicom: Make) -> None:
    """C.11.2.1.3, 1 / (1 + exp(-4 (x - c) / w)): 1/2 at the centre, 0 and 1 at 100 widths, silently."""
    content = make_dicom(_rows([[0, 100, 200]]), WindowCenter=100, WindowWidth=1, VOILUTFunction="SIGMOID")
    assert _unit(content).tolist() == [[0, 0.5, 1]]


def test_of_several_windows_the_first_counts(make_dicom: Make) -> None:
    """One picture, one window."""
    one = make_dicom(WindowCenter=32, WindowWidth=41)
    several = make_dicom(WindowCenter=[32, 10], WindowWidth=[41, 4])
    assert np.array_equal(_unit(one), _unit(several))


def test_voi_table_beats_window_and_agrees_with_pydicom(make_dicom: Make) -> None:
    """C.11.2.1.1: values outside the table take its first and last entry."""
    item = _lut(10, 8, [0, 5, 20, 80, 130, 200, 255])
    content = make_dicom(VOILUTSequence=[item], **WINDOW)
    data = pydicom.dcmread(BytesIO(content))
    assert _unit(content) == pytest.approx(apply_voi_lut(data.pixel_array, data) / 255)


def test_modality_table_agrees_with_pydicom(make_dicom: Make) -> None:
    """C.11.1: the table comes before the window and replaces rescaling."""
    item = _lut(3, 16, [7 * value for value in range(40)], ModalityLUTType="US")
    content = make_dicom(ModalityLUTSequence=[item], WindowCenter=140, WindowWidth=201)
    data = pydicom.dcmread(BytesIO(content))
    expected = np.clip((apply_modality_lut(data.pixel_array, data) - 139.5) / 200 + 0.5, 0, 1)
    assert _unit(content) == pytest.approx(expected, abs=1e-6)


def test_monochrome1_is_inverted_after_the_window(make_dicom: Make) -> None:
    """Bright is dense, whatever the file's polarity."""
    plain, inverse = make_dicom(**WINDOW), make_dicom(**WINDOW, PhotometricInterpretation="MONOCHROME1")
    assert _unit(inverse) == pytest.approx(1 - _unit(plain))


def test_padding_is_black_and_takes_no_part_in_percentiles(make_dicom: Make) -> None:
    """Padding is given in stored values; in MONOCHROME1 it would turn white without its mask."""
    values = np.arange(64, dtype=np.uint16).reshape(8, 8) + 100
    values[0] = 60000
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        content = make_dicom(values, PixelPaddingValue=60000, PhotometricInterpretation=photometric)
        unit = _unit(content, "percentile")
        low, high = np.percentile(np.arange(8, 64) + 100, (0.5, 99.5))
        expected = np.clip((values[1:].astype(float) - low) / (high - low), 0, 1)
        assert (unit[0] == 0).all()
        assert unit[1:] == pytest.approx(1 - expected if photometric == "MONOCHROME1" else expected, abs=1e-5)


def test_a_range_of_padding(make_dicom: Make) -> None:
    """Pixel Padding Range Limit makes every value between the two padding."""
    values = _rows([[0, 1, 2, 3], [50, 60, 70, 80]])
    unit = _unit(make_dicom(values, PixelPaddingValue=0, PixelPaddingRangeLimit=3), "percentile")
    assert unit[0].tolist() == [0, 0, 0, 0]
    assert unit[1, 0] == 0
    assert unit[1, 3] == 1


def test_unused_bits_are_masked(make_dicom: Make) -> None:
    """Text or an overlay in the bits above Bits Stored cannot survive."""
    clean = np.arange(64, dtype=np.uint16).reshape(8, 8)
    dirty = clean | (np.arange(64, dtype=np.uint16).reshape(8, 8) << 12)
    assert np.array_equal(
        _unit(make_dicom(dirty, BitsStored=12, **WINDOW)), _unit(make_dicom(clean, BitsStored=12, **WINDOW))
    )


def test_a_high_bit_further_up_is_honoured(make_dicom: Make) -> None:
    """8 bits stored below high bit 11 lie in bits 4 to 11."""
    clean = np.arange(64, dtype=np.uint16).reshape(8, 8)
    shifted = make_dicom(clean << 4, BitsStored=8, HighBit=11, **WINDOW)
    assert np.array_equal(_unit(shifted), _unit(make_dicom(clean, BitsStored=8, **WINDOW)))


def test_sign_is_extended_from_bits_stored(make_dicom: Make) -> None:
    """In 12 bits 0xFFF is -1 and 0x800 is -2048: with centre 0.5 and width 4097 they are .4998 and 0."""
    values = _rows([[0xFFF, 0x800, 0x7FF, 0]])
    unit = _unit(make_dicom(values, BitsStored=12, PixelRepresentation=1, WindowCenter=0.5, WindowWidth=4097))
    assert unit[0] == pytest.approx([-1 / 4096 + 0.5, 0, 2047 / 4096 + 0.5, 0.5], abs=1e-6)


def test_ct_has_one_window_for_every_scanner(make_dicom: Make) -> None:
    """Centre 40 HU, width 400 HU, whatever the file's own window says."""
    values = np.arange(64, dtype=np.uint16).reshape(8, 8) * 10 + 800
    content = make_dicom(values, Modality="CT", RescaleSlope=1, RescaleIntercept=-1024, **WINDOW)
    assert _unit(content) == pytest.approx(np.clip((values - 1024.0 - 39.5) / 399 + 0.5, 0, 1), abs=1e-6)
    assert np.array_equal(_unit(content, "file"), _unit(content, (32.0, 41.0)))


@pytest.mark.parametrize(
    ("name", "centre", "width"),
    [("lung", -600, 1500), ("bone", 400, 1800), ("soft-tissue", 40, 400), ("brain", 40, 80)],
)
def test_windows_by_name_are_for_ct(make_dicom: Make, name: Window, centre: int, width: int) -> None:
    """The function LINEAR of C.11.2.1.2.1 over Hounsfield units; all else goes as without a name."""
    values = np.arange(64, dtype=np.uint16).reshape(8, 8) * 40
    plain = {"RescaleSlope": 1, "RescaleIntercept": -1024}
    found = _unit(make_dicom(values, Modality="CT", **plain), name)
    assert found == pytest.approx(
        np.clip((values - 1024.0 - (centre - 0.5)) / (width - 1) + 0.5, 0, 1), abs=1e-6
    )
    other = make_dicom(values, Modality="MR", **plain)
    assert np.array_equal(_unit(other, name), _unit(other, "auto"))


def test_mr_goes_by_percentiles(make_dicom: Make) -> None:
    """MR has no scale: 0.5 and 99.5 percent of the pixels become black and white."""
    content = make_dicom(Modality="MR", **WINDOW)
    low, high = np.percentile(np.arange(64), (0.5, 99.5))
    assert _unit(content).ravel() == pytest.approx(
        np.clip((np.arange(64) - low) / (high - low), 0, 1), abs=1e-6
    )


@pytest.mark.parametrize(
    ("spacing", "shape"),
    [
        ({"PixelSpacing": [2, 1]}, (16, 8)),
        ({"ImagerPixelSpacing": [1, 2]}, (8, 16)),
        ({"PixelAspectRatio": [3, 2]}, (12, 8)),
    ],
)
def test_pixels_become_square(
    make_dicom: Make, spacing: dict[str, list[int]], shape: tuple[int, int]
) -> None:
    """Rows twice as far apart as columns: twice as many rows."""
    assert _unit(make_dicom(**WINDOW, **spacing)).shape == shape


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_uncompressed_syntaxes_agree(make_dicom: Make, syntax: str) -> None:
    """The transfer syntax does not change a pixel."""
    assert np.array_equal(_unit(make_dicom(syntax=syntax, **WINDOW)), _unit(make_dicom(**WINDOW)))


def test_big_endian_and_rle_agree(make_dicom: Make) -> None:
    """The same values in big endian, and run-length encoded by pydicom."""
    expected = _unit(make_dicom(**WINDOW))
    swapped = np.arange(64, dtype=">u2").reshape(8, 8)
    assert np.array_equal(_unit(make_dicom(swapped, syntax=ExplicitVRBigEndian, **WINDOW)), expected)
    data = pydicom.dcmread(BytesIO(make_dicom(**WINDOW)))
    data.compress(RLELossless)
    buffer = BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    assert np.array_equal(_unit(buffer.getvalue()), expected)


@pytest.mark.parametrize(
    ("elements", "steps"),
    [
        ({"PixelSpacing": [1, 1]}, {}),
        ({"PixelAspectRatio": [1, 1]}, {"pixels without a spacing, taken for square": 1}),
        (
            {"PixelSpacing": [1, 1], "WindowCenter": [3, 4, 5], "WindowWidth": [9, 9, 9]},
            {"windows after the first": 2},
        ),
        ({"PixelSpacing": [1, 1], "ICCProfile": b"profile "}, {"colour profiles": 1}),
    ],
)
def test_what_is_passed_over_is_counted(
    make_dicom: Make, elements: dict[str, Any], steps: dict[str, int]
) -> None:
    """Further windows, an assumed spacing, a colour profile; and colour of one shade."""
    data = parse(make_dicom(**elements), Limits())
    assert steps_of(data, next(iter(unit_images(data, "auto", Limits())))) == steps
    grey = np.repeat(np.arange(64, dtype=np.uint8).reshape(8, 8, 1), 3, axis=2)
    data = parse(make_dicom(grey, **elements), Limits())
    found = steps_of(data, next(iter(unit_images(data, "auto", Limits()))))
    assert found == steps | {"colours that are all grey, made one channel": 1}


def test_rgb_in_both_planar_configurations(make_dicom: Make) -> None:
    """Colour by pixel and colour by plane are the same picture."""
    colour = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    by_plane = make_dicom(
        np.ascontiguousarray(colour.transpose(2, 0, 1)), Rows=4, Columns=6, PlanarConfiguration=1
    )
    assert np.array_equal(_unit(make_dicom(colour)), colour / np.float32(255))
    assert np.array_equal(_unit(by_plane), colour / np.float32(255))


def test_ybr_becomes_rgb_once(make_dicom: Make) -> None:
    """PS3.3 C.7.6.3.1.2: Y 76, Cb 85, Cr 255 is pure red, to the rounding of 8 bits."""
    ybr = np.zeros((2, 2, 3), dtype=np.uint8)
    ybr[:] = (76, 85, 255)
    unit = _unit(make_dicom(ybr, PhotometricInterpretation="YBR_FULL"))
    assert unit[0, 0] * 255 == pytest.approx([254, 0, 0], abs=1.5)


def test_grey_colour_is_one_channel(make_dicom: Make) -> None:
    """RGB whose channels are equal carries no colour."""
    grey = np.repeat(np.arange(16, dtype=np.uint8).reshape(4, 4, 1), 3, axis=2)
    assert _unit(make_dicom(grey)).shape == (4, 4)


def test_palette_agrees_with_pydicom(make_dicom: Make) -> None:
    """Indices through three 16-bit tables."""
    tables: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for number, colour in enumerate(("Red", "Green", "Blue")):
        tables[f"{colour}PaletteColorLookupTableDescriptor"] = [64, 0, 16]
        entries = (np.arange(64) * 1000 + 37 * number).astype("<u2")
        tables[f"{colour}PaletteColorLookupTableData"] = entries.tobytes()
    content = make_dicom(np.arange(64, dtype=np.uint8).reshape(8, 8), **tables)
    data = pydicom.dcmread(BytesIO(content))
    assert _unit(content) == pytest.approx(apply_color_lut(data.pixel_array, data) / 65535, abs=1e-6)


@pytest.mark.parametrize(
    ("elements", "code"),
    [
        ({"WindowCenter": 3, "WindowWidth": 0}, "LUT_INVALID"),
        ({"WindowCenter": 3, "WindowWidth": -5}, "LUT_INVALID"),
        ({"RescaleSlope": 0, "RescaleIntercept": 0}, "LUT_INVALID"),
        ({"VOILUTSequence": [_lut(0, 99, [1, 2])]}, "LUT_INVALID"),
        ({"VOILUTFunction": "CUBIC", **WINDOW}, "LUT_INVALID"),
        ({"PixelSpacing": [0, 1], **WINDOW}, "SPACING_INVALID"),
        ({"PixelSpacing": [1, 1e-9], **WINDOW}, "SPACING_INVALID"),
        ({"PixelSpacing": [1e30, 1e30], **WINDOW}, "SPACING_INVALID"),
        ({"BitsAllocated": 12}, "UNSUPPORTED_PIXEL_FORMAT"),
        ({"BitsStored": 33}, "INVALID_VALUE"),
        ({"BitsStored": None}, "MISSING_REQUIRED"),
        ({"Rows": 9}, "TRUNCATED"),
        ({"PhotometricInterpretation": "HSV"}, "UNSUPPORTED_PIXEL_FORMAT"),
        ({"PhotometricInterpretation": None}, "MISSING_REQUIRED"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "LUT_INVALID"),
        ({"SamplesPerPixel": 4}, "UNSUPPORTED_PIXEL_FORMAT"),
    ],
)
def test_what_makes_no_sense_is_quarantined(make_dicom: Make, elements: dict[str, Any], code: str) -> None:
    """Poisoned lookups and contradictions end in a code, never in a picture or a crash."""
    with pytest.raises(Unfit, match=code):
        _unit(make_dicom(**elements))


@pytest.mark.parametrize(
    "syntax",
    [
        "1.2.840.10008.1.2.4.100",
        "1.2.840.10008.1.2.4.94",
        "1.2.840.10008.1.2.1.98",
        "1.2.826.0.1.3680043.9",
        "",
    ],
    ids=["video", "by reference", "encrypted", "private", "no UID"],
)
def test_a_transfer_syntax_that_is_not_decoded(syntax: str) -> None:
    """Video, pixels that lie elsewhere, and what no standard names: UNSUPPORTED_TRANSFER_SYNTAX."""
    with pytest.raises(Unfit, match="UNSUPPORTED_TRANSFER_SYNTAX"):
        decoders.decoder_for(syntax)


@pytest.mark.parametrize("codec", decoders.CODECS, ids=lambda codec: codec.name)
def test_a_decoder_that_is_not_installed(codec: decoders.Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    """DECODER_MISSING, and not unsupported: the data office can install it."""
    assert all(decoders.decoder_for(syntax)[1] == codec.plugin for syntax in codec.syntaxes)
    monkeypatch.setattr(decoders.util, "find_spec", lambda _: None)
    for syntax in codec.syntaxes:
        with pytest.raises(Unfit, match="DECODER_MISSING"):
            decoders.decoder_for(syntax)


def test_no_transfer_syntax_and_none_that_the_parser_is_sure_of(make_dicom: Make) -> None:
    """Without file meta little-endian pixels still come through; of a data set in the other byte order
    nobody knows how its pixels lie: NO_TRANSFER_SYNTAX.
    """
    little, big = make_dicom(**WINDOW), make_dicom(syntax=ExplicitVRBigEndian, **WINDOW)
    bare = [each[144 + int.from_bytes(each[140:144], "little") :] for each in (little, big)]
    assert np.array_equal(_unit(bare[0]), _unit(little))
    with pytest.raises(Unfit, match="NO_TRANSFER_SYNTAX"):
        _unit(bare[1])


def test_a_constant_image_has_no_percentiles(make_dicom: Make) -> None:
    """One value carries no picture."""
    with pytest.raises(Unfit, match="CONSTANT_IMAGE"):
        _unit(make_dicom(np.full((8, 8), 7, dtype=np.uint16)))


@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2"])
def test_a_grey_value_does_not_depend_on_the_pixels_beside_it(make_dicom: Make, kind: str) -> None:
    """All stored values at once, often enough for a table, and each as if it were alone: equal to the bit."""
    limits = np.iinfo(kind)
    values = np.arange(limits.min, limits.max + 1).astype(kind)
    stored = np.concatenate([values, values[::-1]]).reshape(-1, 64)
    header = Dataset()
    header.Modality = "CT"

    def grey(part: np.ndarray) -> np.ndarray:
        asked.append(part.size)
        return to_unit((part * 0.7 - 1024.0).astype(np.float32), header, (40.0, 400.0), lambda: (0.0, 1.0))

    asked: list[int] = []
    assert np.array_equal(each_once(stored, grey), grey(stored))
    assert asked == [values.size, stored.size]
    few = stored[:1]
    assert np.array_equal(each_once(few, grey), grey(few))


@given(
    st.fixed_dictionaries(
        {
            "RescaleSlope": st.sampled_from([1, -1, 0.1, 2.5, -0.37]),
            "RescaleIntercept": st.integers(-2000, 2000),
            "PhotometricInterpretation": st.sampled_from(["MONOCHROME1", "MONOCHROME2"]),
            "Modality": st.sampled_from(["CT", "MR", "CR"]),
            "VOILUTFunction": st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
            "WindowCenter": st.integers(-200, 200),
            "WindowWidth": st.integers(1, 200),
        }
    ),
    st.sampled_from(["auto", "file", "percentile", "lung", (10.0, 1.0)]),
    st.sampled_from(["u1", "u2", "i2"]),
    st.integers(0, 2**32),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_table_of_values_changes_no_pixel(
    make_dicom: Make, elements: dict[str, Any], window: Window, kind: str, seed: int
) -> None:
    """Rescaling, window, polarity and padding: through the table as pixel by pixel, whatever the header."""
    limits, rng = np.iinfo(kind), np.random.default_rng(seed)
    start = int(rng.integers(limits.min, limits.max - 60))
    stored = rng.integers(start, start + 60, (16, 16)).astype(kind)
    content = make_dicom(stored, PixelPaddingValue=int(stored[0, 0]), **elements)
    quick = _unit(content, window)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pixels, "each_once", lambda stored, grey: grey(stored))
        assert np.array_equal(quick, _unit(content, window))
