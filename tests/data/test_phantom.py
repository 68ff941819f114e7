"""The phantom cohort: valid DICOM, anatomy that belongs to a patient, signs that can be learnt."""

import csv
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import config
from pydicom.errors import InvalidDicomError

from phantomset.data.errors import WorkspaceError
from phantomset.data.phantoms.cohort import FINDINGS, phantoms, write_phantoms
from phantomset.data.phantoms.visits import SCANNERS, visits


@pytest.fixture(scope="module")
def cohort() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """600 patients as arrays."""
    return phantoms(600, seed=0)


def _sound(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("IMG*.dcm"))


def test_files_are_valid_dicom(phantom_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pydicom reads every element of a file under its strictest rules, without a warning."""
    monkeypatch.setattr(config.settings, "reading_validation_mode", config.RAISE)
    for path in _sound(phantom_folder)[::10]:
        data = pydicom.dcmread(path)
        str(data)  # converts every value
        assert data.file_meta.MediaStorageSOPInstanceUID == data.SOPInstanceUID
        assert data.file_meta.MediaStorageSOPClassUID == data.SOPClassUID
        assert data.SOPClassUID.name.endswith("Image Storage") or "For Presentation" in data.SOPClassUID.name
        tags = [element.tag for element in data]
        assert tags == sorted(tags)


def test_every_file_names_its_invented_patient(phantom_folder: Path) -> None:
    """The identifiers of a hospital are all there, so that ingest has something to keep out."""
    for path in _sound(phantom_folder)[::20]:
        data = pydicom.dcmread(path)
        for keyword in (
            "PatientName",
            "PatientID",
            "PatientBirthDate",
            "InstitutionName",
            "ReferringPhysicianName",
        ):
            assert str(data[keyword].value)
        assert any(element.tag.is_private for element in data)
        assert data.PatientID in path.parent.name


def test_identifiers_are_one_a_patient_and_uids_one_an_image(phantom_folder: Path) -> None:
    """190 patients, one folder each; no SOP Instance UID twice."""
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in _sound(phantom_folder)]
    assert len({header.PatientID for header in headers}) == 190
    assert len({header.SOPInstanceUID for header in headers}) == len(headers)
    assert (
        len({(header.PatientID, str(header.PatientName), header.PatientBirthDate) for header in headers})
        == 190
    )


def test_scanners_differ_as_scanners_do(phantom_folder: Path) -> None:
    """Four makers, both polarities, two modalities, several scales; 12 bits stored."""
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in _sound(phantom_folder)]
    assert {header.Manufacturer for header in headers} == {scanner.maker for scanner in SCANNERS}
    assert {header.PhotometricInterpretation for header in headers} == {"MONOCHROME1", "MONOCHROME2"}
    assert {header.Modality for header in headers} == {"DX", "CR"}
    assert len({(float(h.RescaleSlope), float(h.RescaleIntercept)) for h in headers}) >= 3
    assert {header.BitsStored for header in headers} == {12}


def test_the_table_fits_the_files(phantom_folder: Path) -> None:
    """Every file but one has a row, every row a file, and a patient one finding."""
    with (phantom_folder / "labels.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    files = {str(path.relative_to(phantom_folder)) for path in phantom_folder.rglob("*.dcm")}
    assert files - {row["file"] for row in rows} == {"incoming/no_label.dcm"}
    assert {row["file"] for row in rows} <= files
    assert {row["finding"] for row in rows} == set(FINDINGS)
    findings = {
        (row["file"].partition("/")[0], row["finding"]) for row in rows if "incoming" not in row["file"]
    }
    assert len(findings) == 190


def test_faults_are_few_and_real(phantom_folder: Path) -> None:
    """Eleven, under 5 % of the files; pydicom itself refuses those that are no DICOM."""
    faults = sorted(path for path in (phantom_folder / "incoming").iterdir())
    assert len(faults) == 11
    assert len(faults) < 0.05 * len(_sound(phantom_folder))
    for name in ("notes.dcm", "preview.dcm"):
        with pytest.raises(InvalidDicomError):
            pydicom.dcmread(phantom_folder / "incoming" / name)
    assert pydicom.dcmread(phantom_folder / "incoming" / "burned_in.dcm").BurnedInAnnotation == "YES"
    assert pydicom.dcmread(phantom_folder / "incoming" / "report.dcm").Modality == "SR"
    assert pydicom.dcmread(phantom_folder / "incoming" / "no_patient.dcm").PatientID == ""


def test_a_small_hospital_has_fewer_faults(tmp_path: Path) -> None:
    """Of 30 patients' files, at most 4 in 100 are at fault, or ingest would refuse the whole."""
    write_phantoms(tmp_path / "in", 30)
    assert len(list((tmp_path / "in" / "incoming").iterdir())) <= 0.04 * len(_sound(tmp_path / "in"))


def test_files_and_arrays_are_the_same_pictures(phantom_folder: Path) -> None:
    """Window and polarity of each file give back the array's picture, to the step of its 12 bits."""
    images, _, patients = phantoms(190, seed=3, size_px=64)
    plan = visits(190, seed=3)
    by_patient = {
        pydicom.dcmread(path, stop_before_pixels=True).PatientID: path.parent
        for path in _sound(phantom_folder)
    }
    folders = [by_patient[key] for key in sorted(by_patient, key=lambda key: int(key[2:]))]
    for index in range(0, len(images), 25):
        data = pydicom.dcmread(folders[patients[index]] / f"IMG{plan.follow_ups[index]:04d}.dcm")
        values = data.pixel_array * float(data.RescaleSlope) + float(data.RescaleIntercept)
        shown = (values - (float(data.WindowCenter) - 0.5)) / (float(data.WindowWidth) - 1) + 0.5
        shown = 1 - shown if data.PhotometricInterpretation == "MONOCHROME1" else shown
        assert np.abs(shown * 255 - images[index, 0]).max() <= 0.6


def test_the_seed_decides_everything(tmp_path: Path) -> None:
    """The same seed writes the same bytes; another seed draws other people."""
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        write_phantoms(tmp_path / name, 12, seed)
    content = {
        name: {
            str(path.relative_to(tmp_path / name)): path.read_bytes()
            for path in (tmp_path / name).rglob("*.*")
        }
        for name in "abc"
    }
    assert content["a"] == content["b"]
    assert not content["a"].keys() & content["c"].keys() - {"labels.csv"}


def test_shares_are_as_declared(cohort: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """40/30/30 of the patients within 3 standard deviations (0.06), 1 to 4 images each, 1.6 on average
    (within .1).
    """
    images, labels, patients = cohort
    first = np.unique(patients, return_index=True)[1]
    shares = np.bincount(labels[first]) / len(first)
    assert shares == pytest.approx([0.4, 0.3, 0.3], abs=0.06)
    counts = np.bincount(patients)
    assert (counts.min(), counts.max()) == (1, 4)
    assert counts.mean() == pytest.approx(1.6, abs=0.1)
    assert images.shape == (len(labels), 1, 28, 28)
    assert images.dtype == np.uint8


def test_a_patient_has_one_finding(cohort: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """The class belongs to the patient, through all follow-ups."""
    _, labels, patients = cohort
    assert all(len(set(labels[patients == patient])) == 1 for patient in range(600))


def test_anatomy_belongs_to_the_patient(cohort: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """Two images of one patient are nearer than two of strangers with the same finding, four times in five,
    and are
    no copies: grain, pose and breath differ.
    """
    images, labels, patients = cohort
    flat = images.reshape(len(images), -1).astype(np.float64)
    rng = np.random.default_rng(0)
    nearer: list[bool] = []
    for index in range(1, len(images)):
        if patients[index] == patients[index - 1]:
            others = np.flatnonzero((labels == labels[index]) & (patients != patients[index]))
            own = np.linalg.norm(flat[index] - flat[index - 1])
            assert own > 28  # more than one grey level a pixel
            nearer.append(own < np.linalg.norm(flat[index] - flat[rng.choice(others)]))
    assert np.mean(nearer) > 0.8


def test_strangers_are_no_copies_and_lie_apart(cohort: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """Nearest strangers differ by 6 grey levels and more, and by amounts that spread (90 % over 10 % is
    1.3).
    """
    images, _, patients = cohort
    flat = images.reshape(len(images), -1).astype(np.float32)
    square = (flat**2).sum(1)
    distance = np.sqrt(np.maximum(square[:, None] + square[None] - 2 * flat @ flat.T, 0)) / 28
    distance[patients[:, None] == patients[None]] = np.inf
    nearest = distance.min(1)
    assert nearest.min() > 6
    low, high = np.quantile(nearest, [0.1, 0.9])
    assert high / low > 1.3


def test_signs_can_be_learnt_and_are_not_trivial(cohort: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """A linear model on 40 principal components, trained on other patients, ranks the classes well (AUC
    over .8)
    and not perfectly (under .99).
    """
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    images, labels, patients = cohort
    flat, train = images.reshape(len(images), -1) / 255.0, patients < 400
    model = make_pipeline(PCA(40, random_state=0), StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    model.fit(flat[train], labels[train])
    auc = roc_auc_score(labels[~train], model.predict_proba(flat[~train]), multi_class="ovr", average=None)
    assert ((auc > 0.8) & (auc < 0.99)).all()


def test_a_larger_cohort_begins_with_the_same_anatomies() -> None:
    """More patients do not change those who were there: anatomy, finding and usual scanner stay."""
    small, large = visits(20, seed=1), visits(50, seed=1)
    for name, values in small.anatomy.items():
        assert np.array_equal(values, large.anatomy[name][:20])
    assert Counter(small.patients.tolist()).items() <= Counter(large.patients.tolist()).items()


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    """Nobody's files are mixed with phantoms, or overwritten."""
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(WorkspaceError, match="not empty"):
        write_phantoms(tmp_path, 3)
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkspaceError, match="cannot write"):
        write_phantoms(tmp_path / "file" / "in", 3)


@pytest.mark.parametrize("patients", [0, -1])
def test_nobody_is_no_cohort(patients: int) -> None:
    """At least one patient."""
    with pytest.raises(ValueError, match="at least 1"):
        phantoms(patients)


def test_one_patient_is_a_cohort(tmp_path: Path) -> None:
    """The smallest hospital writes a file and a table, and no fault."""
    with warnings.catch_warnings(action="error"):
        write_phantoms(tmp_path / "in", 1)
    assert len(_sound(tmp_path / "in")) >= 1
    assert list((tmp_path / "in" / "incoming").iterdir()) == []
