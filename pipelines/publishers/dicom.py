"""DICOM files, one an image: Secondary Capture, explicit VR little endian, declared synthetic in the header.

::

    dicom/metadata.csv               file_name,label
    dicom/<class>/000000.dcm         8-bit grey or RGB; each image is a patient, study and series of its own

A divided set has ``dicom/<part>/metadata.csv`` and ``dicom/<part>/<class>/``. No date is in a header: equal
sets are equal bytes.

Sources: DICOM PS3.3 A.8.1 (Secondary Capture Image IOD), C.7.6.1 (General Image) and C.12.1.1 (SOP Common:
Synthetic Data).
"""

import csv
import hashlib
import uuid
from importlib.metadata import version
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from phantomset.data.records import ImageSet
from phantomset.data.synthetic_mark import SERIES, SYNTHESIZING_EQUIPMENT, SYNTHETIC_DATA
from phantomset.pipelines.publisher import About, Publisher, class_folders

TREE = "dicom"
IMPLEMENTATION = UID(f"2.25.{uuid.uuid5(uuid.NAMESPACE_DNS, 'phantomset').int}")
"""What wrote the files: the same for all of them."""

MOST_LO, MOST_LT = 64, 10_240
"""Characters that an element of short or of long text may hold."""


def write(synthetic: ImageSet, about: About, folder: Path) -> None:
    """Write ``dicom/`` with one folder a class and ``metadata.csv``."""
    folders = class_folders(synthetic.label_names)
    for part, positions in about.parts_of(synthetic).items():
        root = folder / TREE / about.place(part)
        for name in folders:
            (root / name).mkdir(parents=True)
        with (root / "metadata.csv").open("w", encoding="utf-8", newline="") as stream:
            table = csv.writer(stream, lineterminator="\n")
            table.writerow(["file_name", "label"])
            for index in positions.tolist():
                code = int(synthetic.labels[index])
                path = f"{folders[code]}/{index:06d}.dcm"
                label = synthetic.label_names[code]
                data = header(about, index, label)
                _put_pixels(data, synthetic.images[index])
                data.save_as(root / path, enforce_file_format=True)
                table.writerow([path, label])


def header(about: About, index: int, label: str) -> Dataset:
    """Return the data set of one image without its pixels."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.ImplementationClassUID = IMPLEMENTATION
    data.file_meta.ImplementationVersionName = "PHANTOMSET"
    data.SpecificCharacterSet = "ISO_IR 192"
    data.SOPClassUID = SecondaryCaptureImageStorage
    data.SOPInstanceUID = _uid(about, "instance", index)
    data.StudyInstanceUID = _uid(about, "study", index)
    data.SeriesInstanceUID = _uid(about, "series", index)
    _put_subject(data, about, index)
    data.StudyID, data.AccessionNumber, data.ReferringPhysicianName = str(index + 1), "", ""
    data.StudyDate = data.StudyTime = ""
    data.Modality, data.SeriesNumber, data.InstanceNumber = "OT", 1, index + 1
    data.SeriesDescription = f"{SERIES} {about.name}"[:MOST_LO]
    data.PatientOrientation = data.Laterality = ""  # of no known side, and both must say so
    data.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    data.ConversionType = "SYN"
    data.BurnedInAnnotation = "NO"
    data.DerivationDescription = "Made by a trained generative model; no image was taken of a person"
    data.ContentQualification = "RESEARCH"
    data.ImageComments = label[:MOST_LT]
    data.add_new(SYNTHETIC_DATA, "CS", "YES")
    data.ContributingEquipmentSequence = [_equipment()]
    return data


def _put_subject(data: Dataset, about: About, index: int) -> None:
    """Enter the made-up subject: the type 2 elements of a person are there and empty."""
    data.PatientID = f"SYN-{about.set_digest[:12]}-{index:06d}"
    data.PatientName = f"{data.PatientID}^"  # a family name alone, in the form that is not retired
    data.PatientBirthDate = data.PatientSex = ""
    data.QualityControlSubject = "YES"
    data.PatientIdentityRemoved = "YES"
    data.DeidentificationMethod = "Synthetic image: there is no patient"


def _equipment() -> Dataset:
    purpose = Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator = SYNTHESIZING_EQUIPMENT, "DCM"
    purpose.CodeMeaning = "Synthesizing Equipment"
    equipment = Dataset()
    equipment.Manufacturer = equipment.ManufacturerModelName = "phantomset"
    equipment.SoftwareVersions = version("phantomset")
    equipment.PurposeOfReferenceCodeSequence = [purpose]
    return equipment


def _put_pixels(data: Dataset, pixels: np.ndarray) -> None:
    """Enter pixels ``(C, H, W)`` uint8: bright is dense (MONOCHROME2), or RGB by pixel."""
    C, data.Rows, data.Columns = pixels.shape
    data.SamplesPerPixel = C
    data.PhotometricInterpretation = "MONOCHROME2" if C == 1 else "RGB"
    if C == 3:
        data.PlanarConfiguration = 0
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelRepresentation = 7, 0
    content = np.ascontiguousarray(pixels.transpose(1, 2, 0)).tobytes()
    data.PixelData = content + b"\0" * (len(content) % 2)
    data["PixelData"].VR = "OB"


def _uid(about: About, kind: str, index: int) -> str:
    """Return a UID that the set, the kind and the position decide.

    Source: DICOM PS3.5 B.2 (UUID-derived UID).
    """
    sha = hashlib.sha256(f"{about.set_digest}:{kind}:{index}".encode()).digest()
    return f"2.25.{uuid.UUID(bytes=sha[:16], version=5).int}"


PUBLISHER = Publisher(
    name="dicom",
    summary="DICOM files (Secondary Capture, marked as synthetic data), in `dicom/`",
    loading="""\
import pandas as pd
import pydicom                                                     # pydicom; any DICOM reader
table = pd.read_csv("dicom/metadata.csv", keep_default_na=False)
pixels = pydicom.dcmread("dicom/" + table.file_name[0]).pixel_array""",
    write=write,
)
