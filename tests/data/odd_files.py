"""What the manifest of the awkward DICOM files implies for each of them, alone and in a whole ingest."""

from pathlib import Path
from typing import Any

import pandas as pd

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
    # neither preamble nor file meta, and no image: nothing proves that it is DICOM
    "pydicom/no_meta.dcm": "NOT_RECOGNISED",
    # no pydicom plugin decodes these two kinds of 12-bit JPEG; and ACR-NEMA without preamble and file meta
    "cornerstone/CTImage.dcm_JPEGProcess10_12TransferSyntax_1.2.840.10008.1.2.4.55.dcm": "",
    "cornerstone/CTImage.dcm_JPEGProcess6_8TransferSyntax_1.2.840.10008.1.2.4.53.dcm": "",
    "pydicom-data/OT-PAL-8-face.dcm": "",
}
"""The code of each file that `expect` alone does not decide; empty: a picture."""

INGESTED = {
    # a gzip file is unpacked first: it holds MR_small.dcm
    "pydicom/zipMR.gz": "DUPLICATE_EXACT",
    # MR_small.dcm in the other byte order, of which the manifest's hash is taken
    "pydicom/MR_small_bigendian.dcm": "DUPLICATE_EXACT",
    "pydicom/MR_small_expb.dcm": "DUPLICATE_EXACT",
    # the coefficients of .55 in two further codings; the manifest has no hash of .53 and .55
    "cornerstone/CTImage.dcm_JPEGProcess2_4TransferSyntax_1.2.840.10008.1.2.4.51.dcm": "DUPLICATE_EXACT",
    "cornerstone/CTImage.dcm_JPEGProcess6_8TransferSyntax_1.2.840.10008.1.2.4.53.dcm": "DUPLICATE_EXACT",
    # two slices of one series, of 484 x 484 and of 300 x 484 pixels
    "pydicom/examples_overlay.dcm": "INCONSISTENT_SERIES",
    "pydicom-data/MR-SIEMENS-DICOM-WithOverlays.dcm": "INCONSISTENT_SERIES",
    # their Patient ID is empty
    "pydicom-data/emri_small.dcm": "NO_PATIENT",
    "pydicom-data/emri_small_RLE.dcm": "NO_PATIENT",
    "pydicom-data/emri_small_big_endian.dcm": "NO_PATIENT",
    "pydicom-data/emri_small_jpeg_2k_lossless.dcm": "NO_PATIENT",
    "pydicom-data/emri_small_jpeg_ls_lossless.dcm": "NO_PATIENT",
    # a slice like the one before, where nearly all is white
    "dicomparser/CT0012.fragmented_no_bot_jpeg_baseline.51.dcm#000001": "NEIGHBOUR_THINNED",
    # tiles of a microscope's slide: much of it shows glass, and one is another again
    **{
        f"highdicom/{name}.dcm#{tile:06d}": code
        for name in ("sm_image", "sm_image_jpegls_nobot")
        for code, tiles in {
            "LOW_CONTENT": (*range(13, 20), 24),
            "NEIGHBOUR_THINNED": (3, 9, 10, 11),
            "DUPLICATE_EXACT": (8,),
        }.items()
        for tile in tiles
    },
}
"""What a whole ingest adds to `EXPECTED`, by path or by path and frame, besides the rules of `ingested`."""

NO_PICTURES = ("README.md", "manifest.csv")
_RISKY = (
    "Secondary Capture Image Storage",
    "Ultrasound Image Storage",
    "Ultrasound Multi-frame Image Storage",
)


def manifest(datasets: Path) -> list[Any]:
    """Return the rows of the manifest; ``path`` is absolute, ``name`` relative."""
    folder = datasets / "dicom-odd"
    table = pd.read_csv(folder / "manifest.csv", dtype=str).fillna("")
    table["name"] = table["path"]
    table["path"] = [folder / name for name in table["name"]]
    return list(table.itertuples())


def implied(row: Any) -> str:
    """Return the code of a file that is looked at alone; empty where it gives pictures."""
    if row.name in EXPECTED:
        return EXPECTED[row.name]
    if row.expect in ("not_an_image", "not_dicom"):
        return "NOT_AN_IMAGE" if row.expect == "not_an_image" else "NOT_RECOGNISED"
    if row.sop_class in ("Segmentation Storage", "RT Dose Storage") or row.modality == "SEG":
        return "DERIVED_OBJECT"
    return ""


def ingested(rows: list[Any]) -> dict[str, str]:
    """Return the code of each file, or frame, that a whole ingest keeps out, by its key.

    What ingest adds: screens and ultrasound are kept out before their pixels are looked at, and of pictures
    with one hash in the manifest the first in the order of paths stays.
    """
    found = dict.fromkeys(NO_PICTURES, "NOT_RECOGNISED")
    seen: set[str] = set()
    for row in sorted(rows, key=lambda row: row.name.encode()):
        code = INGESTED.get(row.name) or implied(row)
        if code in ("", "FRAME_MISMATCH") and row.sop_class in _RISKY:
            code = "BURNED_IN_RISK"
        if code:
            found[row.name] = code
            continue
        count = int(row.frames) if row.frames.isdigit() else 1
        for key in [row.name] if count == 1 else [f"{row.name}#{index:06d}" for index in range(count)]:
            code = INGESTED.get(key) or ("DUPLICATE_EXACT" if row.array_sha256_16 in seen else "")
            if code:
                found[key] = code
        seen |= {row.array_sha256_16} - {""}
    return found
