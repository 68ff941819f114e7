"""144 awkward DICOM files: what each becomes, and its pixels against independent references."""

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pydicom
import pytest
from pydicom.dataset import Dataset
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

NOT_IMAGES = {"NOT_AN_IMAGE", "NOT_RECOGNISED"}
PROJECTION = ("CR", "DX", "MG", "XA", "RF")
EXPECTED = {
    # images with a fault that the manifest names
    "pydicom/JPEG2000-embedded-sequence-delimiter.dcm": "FRAME_MISMATCH",
    "pydicom/MR_truncated.dcm": "TRUNCATED",
    "pydicom/meta_missing_tsyntax.dcm": "MISSING_REQUIRED",
    "pydicom/nested_priv_SQ.dcm": "MISSING_REQUIRED",
    "pydicom/badVR.dcm": "DERIVED_OBJECT",
    # image classes without any pixels
    "pydicom/charset/chrJapMulti.dcm": "MISSING_REQUIRED",
    "pydicom/charset/chrJapMultiExplicitIR6.dcm": "MISSING_REQUIRED",
    "pydicom/charset/chrKoreanMulti.dcm": "MISSING_REQUIRED",
    "pydicom/dicomdirtests/98892001/CT2N/6293": "LOCALIZER_OR_SCREEN",
    # no pydicom plugin decodes these two kinds of 12-bit JPEG; and ACR-NEMA without preamble and file meta
    "cornerstone/CTImage.dcm_JPEGProcess10_12TransferSyntax_1.2.840.10008.1.2.4.55.dcm": "",
    "cornerstone/CTImage.dcm_JPEGProcess6_8TransferSyntax_1.2.840.10008.1.2.4.53.dcm": "",
    "pydicom-data/OT-PAL-8-face.dcm": "",
}
"""The code of each file that `expect` alone does not decide; empty: a picture."""


@pytest.fixture(scope="module")
def odd(datasets: Path) -> list[Any]:
    """The rows of the manifest; ``path`` is absolute, ``name`` relative."""
    folder = datasets / "dicom-odd"
    table = pd.read_csv(folder / "manifest.csv", dtype=str).fillna("")
    table["name"] = table["path"]
    table["path"] = [folder / name for name in table["name"]]
    return list(table.itertuples())


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
        code = _code(row.path)
        if row.name in EXPECTED:
            assert code == EXPECTED[row.name], row.name
        elif row.expect in ("not_an_image", "not_dicom"):
            assert code in NOT_IMAGES, row.name
        elif row.sop_class in ("Segmentation Storage", "RT Dose Storage") or row.modality == "SEG":
            assert code == "DERIVED_OBJECT", row.name
        else:
            assert code == "", row.name


def test_stored_values_equal_what_other_decoders_gave(odd: list[Any]) -> None:
    """The SHA-256 of the raw grey array, measured with GDCM, libjpeg, OpenJPEG, CharLS and pydicom."""
    compared = 0
    for row in odd:
        if row.samples == "3" or not row.array_sha256_16 or _code(row.path):
            continue
        with quiet():
            stored = np.stack(stored_frames(_opened(row.path), Limits()))
        if row.transfer_syntax[-3:] in (".50", ".51"):  # lossy: decoders round differently
            assert abs(int(stored.min()) - int(row.min)) <= 1, row.name
            assert abs(int(stored.max()) - int(row.max)) <= 1, row.name
            continue
        raw = stored.reshape([int(side) for side in row.shape.split("x")]).astype(row.dtype)
        assert hashlib.sha256(raw.tobytes()).hexdigest()[:16] == row.array_sha256_16, row.name
        compared += 1
    assert compared >= 55


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
    assert skipped == ["pydicom/SC_rgb_jpeg_gdcm.dcm"]


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
