"""What a trained model made is not taken in as real, whatever form it was published in."""

import io
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydicom.dataset import Dataset

from phantomset.data import catalogue
from phantomset.data.deidentify import DeidentifySettings
from phantomset.data.errors import SourceError
from phantomset.data.ingest import ingest
from phantomset.data.pixels.canonical import ImageSettings
from phantomset.data.records import ImageSet
from phantomset.data.synthetic_mark import SOURCE_TYPE, is_marked_dicom, is_marked_picture
from phantomset.data.workspace import Workspace

PACKET = f'<x:xmpmeta Iptc4xmpExt:DigitalSourceType="{SOURCE_TYPE}"/>'


def picture(form: str, **how: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(stream, form, **how)
    return stream.getvalue()


def with_text(text: str, compressed: bool) -> bytes:
    marks = PngInfo()
    marks.add_itxt("XML:com.adobe.xmp", text, zip=compressed)
    return picture("PNG", pnginfo=marks)


@pytest.mark.parametrize("name", ["trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia"])
@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "compressed"])
def test_a_marked_png_is_told(name: str, compressed: bool) -> None:
    """Both of IPTC's source types for trained models are seen, in plain and in compressed XMP."""
    assert is_marked_picture(with_text(PACKET.replace("trainedAlgorithmicMedia", name), compressed))


def test_a_marked_jpeg_is_told() -> None:
    """XMP in a JPEG's APP1 segment counts as it does in a PNG."""
    assert is_marked_picture(picture("JPEG", xmp=PACKET.encode()))


@pytest.mark.parametrize(
    "content",
    [
        picture("PNG"),
        with_text(PACKET.replace("trainedAlgorithmicMedia", "digitalCapture"), False),
        with_text(PACKET.replace("trainedAlgorithmicMedia", "digitalCapture"), True),
        picture("PNG")[:40],
        b"\x89PNG\r\n\x1a\n" + b"\xff" * 40,
        b"\x89PNG\r\n\x1a\n\0\0\0\x08iTXt" + zlib.compress(b"x")[:4],
        b"",
    ],
)
def test_others_are_not_told(content: bytes) -> None:
    """A capture, a picture without XMP, and broken files are not called synthetic: other codes are theirs."""
    assert not is_marked_picture(content)


def test_a_marked_dicom_header_is_told() -> None:
    """Each of the three marks suffices alone: an anonymiser may have stripped the others."""
    bare = Dataset()
    declared, described, equipped = Dataset(), Dataset(), Dataset()
    declared.add_new(0x0008001C, "CS", "YES")
    described.SeriesDescription = "SYNTHETIC chest"
    purpose, equipment = Dataset(), Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator = "109100", "DCM"
    equipment.PurposeOfReferenceCodeSequence = [purpose]
    equipped.ContributingEquipmentSequence = [equipment]
    denied = Dataset()
    denied.add_new(0x0008001C, "CS", "NO")
    assert [is_marked_dicom(data) for data in (bare, denied)] == [False, False]
    assert [is_marked_dicom(data) for data in (declared, described, equipped)] == [True, True, True]


@pytest.mark.parametrize("form", ["folder", "dicom", "npz"])
def test_a_release_is_not_taken_in_as_real(form: str, tmp_path: Path) -> None:
    """Whatever of the three readable forms is given as a source is refused, and says why."""
    from phantomset.pipelines.publisher import About

    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (12, 1, 8, 8), dtype=np.uint8)
    synthetic = ImageSet(pixels, np.arange(12) % 2, np.full(12, -1), ("a", "b"))
    place = tmp_path / "release"
    place.mkdir()
    catalogue.load("phantomset.pipelines.publishers", form).write(synthetic, About("x", "0" * 64), place)
    source, path = {
        "folder": ("folder", place / "images"),
        "dicom": ("dicom", place / "dicom"),
        "npz": ("medmnist", place / "x.npz"),
    }[form]
    for stray in place.rglob("metadata.csv"):
        stray.unlink()
    settings = catalogue.load("phantomset.data.sources", source).Settings(path=path)
    with pytest.raises(SourceError, match=r"12 MARKED_SYNTHETIC|a trained model made it"):
        ingest(
            settings,
            ImageSettings(size_px=8),
            DeidentifySettings(),
            Workspace.open(tmp_path / "workspace"),
        )
