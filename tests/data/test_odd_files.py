"""144 awkward DICOM files: what each becomes, and its pixels against independent references."""

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut
from pydicom.pixels.processing import convert_color_space
from pydicom.uid import ImplicitVRLittleEndian

from phantomset.data.deidentify import DeidentifySettings
from phantomset.data.dicom.frames import stored_frames
from phantomset.data.dicom.header import hold_image, parse, quiet
from phantomset.data.dicom.pixels import unit_images
from phantomset.data.pixels.aspect import square
from phantomset.data.pixels.windows import CT_WINDOWS, Window
from phantomset.data.quarantine.ledger import Unfit
from phantomset.data.source import Limits

from .odd_files import implied, manifest

PROJECTION = ("CR", "DX", "MG", "XA", "RF")
_CT = "cornerstone/CTImage.dcm_{}TransferSyntax_1.2.840.10008.1.2.{}.dcm"
LOSSY = {
    **{
        _CT.format(f"JPEGProcess{process}", syntax): (_CT.format("RLELossless", "5"), 0)
        for process, syntax in {"1": "4.50", "2_4": "4.51", "6_8": "4.53", "10_12": "4.55"}.items()
    },
    "dicomparser/CT0012.fragmented_no_bot_jpeg_baseline.51.dcm": (
        "dicomparser/CT0012.not_fragmented_no_bot_rle.dcm",
        1023,
    ),
}
"""Lossy files with the lossless file of the same picture, and what the encoder added to its values."""


@pytest.fixture(scope="module")
def odd(datasets: Path) -> list[Any]:
    """The rows of the manifest."""
    return manifest(datasets)


def _opened(path: Path) -> Dataset:
    with quiet():
        data = parse(path.read_bytes(), Limits())
        hold_image(data, DeidentifySettings(), Limits(), waived=frozenset({"BURNED_IN_RISK", "FACE_RISK"}))
    return data


@cache
def _code(path: Path) -> str:
    try:
        data = _opened(path)
        with quiet():
            pictures = [frame.unit for frame in unit_images(data, "auto", Limits())]
    except Unfit as unfit:
        return unfit.code
    assert all(unit.dtype == np.float32 and 0 <= unit.min() <= unit.max() <= 1 for unit in pictures)
    return ""


def test_each_ends_as_its_manifest_implies(odd: list[Any]) -> None:
    """Whatever a decoder exists for gives its pictures; the rest has the code of what is wrong with it."""
    for row in odd:
        assert _code(row.path) == implied(row), row.name


def test_stored_values_equal_what_other_decoders_gave(odd: list[Any]) -> None:
    """The SHA-256 of the raw array, measured with GDCM, libjpeg, OpenJPEG, CharLS and pydicom.

    Of lossy grey JPEG, which decoders round differently, smallest and largest value. JPGExtended.dcm has no
    other second source: the set holds no lossless file of its picture. Colour that is stored as YCbCr comes
    as RGB from here: `test_colour_equals_pydicoms_own_functions` holds it.
    """
    compared = 0
    for row in odd:
        if not row.array_sha256_16 or _code(row.path):
            continue
        is_lossy = row.transfer_syntax[-3:] in (".50", ".51")
        if row.photometric.startswith("YBR_FULL") and (is_lossy or row.plugins_ok == "(native)"):
            continue
        with quiet():
            stored = np.stack(stored_frames(_opened(row.path), Limits()))
        if is_lossy and row.samples == "1":
            assert abs(int(stored.min()) - int(row.min)) <= 1, row.name
            assert abs(int(stored.max()) - int(row.max)) <= 1, row.name
            continue
        raw = stored.reshape([int(side) for side in row.shape.split("x")]).astype(row.dtype)
        assert hashlib.sha256(raw.tobytes()).hexdigest()[:16] == row.array_sha256_16, row.name
        compared += 1
    assert compared >= 84


@pytest.mark.parametrize("name", LOSSY)
def test_lossy_values_lie_at_those_of_the_lossless_file(name: str, datasets: Path) -> None:
    """Retired and 12-bit JPEG, which no other decoder here reads, against the same picture packed losslessly.

    The encoder cut the values to whole levels of the rescale in the header (CT0012: it added 1,023 and left
    the rescale as it was). Coefficients rounded by steps q are off by the root of the mean of q^2 / 12, or
    less where they are small, and so are values, since the transform keeps squares (ITU-T T.81, A.3.3). Five
    times that is out of reach for the 2^18 values of a frame, and the mean error is next to none. Measured:
    2.5 of 3.9 levels of 4,096, the largest 17; at 8 bits 0.26 of 0.29 levels of 256, the largest 1.
    """
    twin, added = LOSSY[name]
    folder = datasets / "dicom-odd"
    plain, (lossy, lossless) = pydicom.dcmread(folder / name), (_values(folder / n) for n in (name, twin))
    slope, intercept = float(plain.get("RescaleSlope", 1)), float(plain.get("RescaleIntercept", -1024))
    error = lossy - (np.floor((lossless - 1024 - intercept) / slope) + added)
    bound = _quantisation_error(plain)
    assert np.sqrt((error**2).mean()) <= bound
    assert np.abs(error).max() <= 5 * bound
    assert abs(error.mean()) <= 0.1


def _values(path: Path) -> np.ndarray:
    with quiet():
        return np.stack(stored_frames(_opened(path), Limits())).astype(np.float64)


def _quantisation_error(data: Dataset) -> float:
    """The root of the mean of q^2 / 12 over the 64 steps of a JPEG file's table. Source: T.81, B.2.4.1."""
    codestream = next(generate_frames(data.PixelData, number_of_frames=int(data.get("NumberOfFrames", 1))))
    at = codestream.index(b"\xff\xdb") + 4
    assert codestream[at] == 0  # one table, of bytes
    steps = np.frombuffer(codestream, np.uint8, 64, at + 1).astype(float)
    return float(np.sqrt((steps**2).mean() / 12))


@pytest.mark.parametrize("window", ["auto", "file"])
def test_grey_equals_pydicoms_own_functions(odd: list[Any], window: Window) -> None:
    """Modality LUT or rescale, window, polarity and padding of every grey file, frame by frame."""
    compared = 0
    for row in odd:
        if not row.photometric.startswith("MONOCHROME") or _code(row.path):
            continue
        data, plain = _opened(row.path), pydicom.dcmread(row.path)
        with quiet():
            stored = stored_frames(data, Limits())
            found = [frame.unit for frame in unit_images(data, window, Limits())]
            wanted = _reference(plain, stored, window)
        for ours, theirs in zip(found, wanted, strict=True):
            if ours.shape == theirs.shape:  # pixels were square: nothing was resampled
                assert np.abs(ours - theirs).max() <= 2e-6, row.name
                compared += 1
    assert compared >= 80


def test_colour_equals_pydicoms_own_functions(odd: list[Any]) -> None:
    """RGB, YBR and palette, against pydicom's decoders; lossy JPEG within two grey levels."""
    skipped: list[str] = []
    for row in odd:
        if row.photometric.startswith("MONOCHROME") or _code(row.path):
            continue
        with quiet():
            plain = pydicom.dcmread(row.path, force=True)
            if "TransferSyntaxUID" not in plain.file_meta:  # ACR-NEMA: DICOM's default came from it
                plain.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
            found = [frame.unit for frame in unit_images(_opened(row.path), "auto", Limits())]
            try:
                wanted = _colour_reference(plain)
            except (RuntimeError, NotImplementedError):  # no plugin of pydicom's own decodes it here
                skipped.append(row.name)
                continue
        tolerance = 2.01 / 255 if row.transfer_syntax.endswith(".50") else 1e-6
        for ours, theirs in zip(found, wanted.reshape(-1, *wanted.shape[-3:]), strict=True):
            if ours.ndim == 2:  # three equal channels became one
                ours = ours[..., np.newaxis]
            if (
                ours.shape[:2] != theirs.shape[:2]
            ):  # pixels that are no squares, by a step with tests of its own
                rows, columns = map(float, plain.get("PixelSpacing") or plain.PixelAspectRatio)
                theirs = square(theirs.astype(np.float32), rows, columns)
            assert np.abs(ours - theirs).max() <= tolerance, row.name
    assert skipped == ["pydicom/SC_rgb_jpeg_gdcm.dcm"]  # held by the manifest's hash


def _colour_reference(data: Dataset) -> np.ndarray:
    array = data.pixel_array
    if data.PhotometricInterpretation == "PALETTE COLOR":
        return apply_color_lut(array, data)[..., :3] / (2 ** data.RedPaletteColorLookupTableDescriptor[2] - 1)
    if data.PhotometricInterpretation.startswith("YBR_FULL") and not data.file_meta.TransferSyntaxUID:
        array = convert_color_space(array, "YBR_FULL", "RGB")
    return array / (2**data.BitsStored - 1)


def _reference(data: Dataset, stored: list[np.ndarray], window: Window) -> list[np.ndarray]:
    """The whole path again, with pydicom's LUT functions on whole data sets of one frame each."""
    headers = [_flat(data, index) for index in range(len(stored))]
    values = [apply_modality_lut(frame, header) for frame, header in zip(stored, headers, strict=True)]
    padded = [_padded(frame, data) for frame in stored]
    shown = np.concatenate([value[~mask] for value, mask in zip(values, padded, strict=True)])
    units: list[np.ndarray] = []
    for value, mask, header in zip(values, padded, headers, strict=True):
        has_voi = "VOILUTSequence" in header or "WindowWidth" in header
        if window == "auto" and header.get("Modality") == "CT":
            centre, width = CT_WINDOWS["soft-tissue"]
            unit = np.clip((value - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)
        elif has_voi and (window == "file" or (window == "auto" and header.get("Modality") in PROJECTION)):
            unit = _voi(value, header)
        else:
            low, high = np.percentile(shown.astype(np.float32), (0.5, 99.5))
            unit = np.clip((value - low) / (high - low), 0, 1)
        if data.PhotometricInterpretation == "MONOCHROME1" or data.get("PresentationLUTShape") == "INVERSE":
            unit = 1 - unit
        units.append(np.where(mask, 0, unit))
    return units


def _voi(values: np.ndarray, header: Dataset) -> np.ndarray:
    shown = apply_voi_lut(values, header, index=0)
    if "VOILUTSequence" in header:
        return shown / (2 ** header.VOILUTSequence[0].LUTDescriptor[2] - 1)
    bits = header.BitsStored
    signed = header.PixelRepresentation == 1
    ends = np.array([-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] if signed else [0, 2**bits - 1])
    low, high = apply_modality_lut(ends, header)
    return (shown - low) / (high - low)


def _flat(data: Dataset, index: int) -> Dataset:
    """A frame's header with its functional groups written out at the top."""
    flat = Dataset()
    for element in data:
        if element.tag.group == 0x0028 or element.keyword == "Modality":
            flat.add(element)
    for groups in (
        data.get("SharedFunctionalGroupsSequence", [])[:1],
        data.get("PerFrameFunctionalGroupsSequence", [])[index : index + 1],
    ):
        for group in groups:
            for macro in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
                for item in group.get(macro, [])[:1]:
                    flat.update(item)
    return flat


def _padded(frame: np.ndarray, data: Dataset) -> np.ndarray:
    first = data.get("PixelPaddingValue")
    last = data.get("PixelPaddingRangeLimit", first)
    return np.zeros(frame.shape, bool) if first is None else (frame >= first) & (frame <= last)
