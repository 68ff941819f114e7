"""Fixtures of the data room: workspaces, phantom folders, and DICOM files written by pydicom."""

import io
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from phantomset.data import catalogue
from phantomset.data.deidentify import DeidentifySettings
from phantomset.data.errors import BAD_INPUT, InputError
from phantomset.data.ingest import ingest
from phantomset.data.phantoms.cohort import write_phantoms
from phantomset.data.pixels.canonical import ImageSettings
from phantomset.data.records import Cohort
from phantomset.data.workspace import Workspace

CR = "1.2.840.10008.5.1.4.1.1.1"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """An empty workspace."""
    return Workspace.open(tmp_path / "workspace")


@pytest.fixture
def take_in(workspace: Workspace) -> Callable[..., Cohort]:
    """Ingest a recipe's section ``source`` into `workspace`: ``take_in(source, accept=0.05, fit="pad")``.

    Further keys are those of the section ``image``.
    """

    def take(source: dict[str, Any], accept: float = 0.05, **image: Any) -> Cohort:
        settings = catalogue.load("phantomset.data.sources", source["format"]).Settings.model_validate(source)
        chosen = ImageSettings.model_validate({"size_px": 8} | image)
        return ingest(settings, chosen, DeidentifySettings(accept_quarantined_share=accept), workspace)[0]

    return take


@pytest.fixture
def refuses(workspace: Workspace, take_in: Callable[..., Cohort]) -> Callable[..., None]:
    """Hold that a source is refused with exit code 2 and a message, and that the workspace is as it was."""

    def refuse(source: dict[str, Any], message: str, **image: Any) -> None:
        before = sorted(workspace.root.rglob("*"))
        with pytest.raises(InputError, match=message) as caught:
            take_in(source, **image)
        assert caught.value.exit_code == BAD_INPUT
        assert sorted(workspace.root.rglob("*")) == before

    return refuse


@pytest.fixture(scope="session")
def phantom_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom hospital of 190 patients with all its faults. Read-only."""
    folder = tmp_path_factory.mktemp("phantoms") / "in"
    write_phantoms(folder, 190, seed=3)
    return folder


@pytest.fixture
def phantom_source(phantom_folder: Path) -> dict[str, Any]:
    """The recipe's section ``source`` for `phantom_folder`."""
    labels = {"table": "labels.csv", "key": "file", "column": "finding"}
    return {"format": "dicom", "path": phantom_folder, "labels": labels}


@pytest.fixture
def make_dicom() -> Callable[..., bytes]:
    """Write a DICOM file with pydicom: ``make_dicom(pixels, PatientID="7", ...)``; None takes an element
    away.
    """

    def make(
        pixels: np.ndarray | None = None, syntax: str = ExplicitVRLittleEndian, **elements: Any
    ) -> bytes:
        stored = np.arange(64, dtype=np.uint16).reshape(8, 8) if pixels is None else pixels
        grey = stored.ndim == 2
        data = Dataset()
        defaults: dict[str, Any] = {
            "SOPClassUID": CR,
            "SOPInstanceUID": f"1.2.3.{zlib.crc32(stored.tobytes())}",
            "Modality": "CR",
            "PatientID": "P1",
            "PatientName": "Canary^Quilliam",
            "Rows": stored.shape[0],
            "Columns": stored.shape[1],
            "SamplesPerPixel": 1 if grey else 3,
            "PhotometricInterpretation": "MONOCHROME2" if grey else "RGB",
            "BitsAllocated": stored.dtype.itemsize * 8,
            "BitsStored": stored.dtype.itemsize * 8,
            "HighBit": (elements.get("BitsStored") or stored.dtype.itemsize * 8) - 1,
            "PixelRepresentation": int(stored.dtype.kind == "i"),
        }
        if not grey:
            defaults["PlanarConfiguration"] = 0
        for keyword, value in (defaults | elements).items():
            if value is not None:
                setattr(data, keyword, value)
        data.PixelData = stored.tobytes() + b"\0" * (stored.nbytes % 2)
        if elements.get("PixelData", stored) is None:
            del data.PixelData
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = syntax
        buffer = io.BytesIO()
        data.save_as(buffer, enforce_file_format=True)
        return buffer.getvalue()

    return make


@pytest.fixture
def make_png() -> Callable[..., bytes]:
    """Write a PNG, or another format, of an array: ``make_png(array, "JPEG", exif=...)``."""

    def make(array: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(array).save(buffer, kind, **options)
        return buffer.getvalue()

    return make


@pytest.fixture
def gradient() -> Callable[[int], np.ndarray]:
    """An 8 x 8 picture that no other number gives: ``gradient(3)``."""

    def make(number: int) -> np.ndarray:
        return np.random.default_rng(number).integers(0, 256, (8, 8), dtype=np.uint8)

    return make
