"""Every source on real images, held against what their publishers and an independent count say about them."""

import importlib
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from phantomset.data import catalogue
from phantomset.data.deidentify import DeidentifySettings
from phantomset.data.ingest import ingest
from phantomset.data.keys import pseudonym
from phantomset.data.pixels.canonical import ImageSettings
from phantomset.data.records import Cohort
from phantomset.data.splitting.split import PARTS, SplitSettings, split
from phantomset.data.store.training_cache import image_set
from phantomset.data.workspace import Workspace

from .odd_files import ingested, manifest

INDEX = {"table": "index.csv", "key": "file", "column": "label"}


def _ingest(
    workspace: Workspace, source: dict[str, Any], accept: float = 0.05, faces: bool = False, **image: Any
) -> Cohort:
    settings = catalogue.load("phantomset.data.sources", source["format"]).Settings.model_validate(source)
    deidentify = DeidentifySettings(accept_quarantined_share=accept, accept_faces=faces)
    return ingest(settings, ImageSettings.model_validate(image), deidentify, workspace)[0]


def _held(workspace: Workspace, cohort: Cohort) -> None:
    """Counts reconcile, and a split exists whose parts share no group and hold every class."""
    assert cohort.files == len(cohort.records) + sum(cohort.quarantine.values())
    made = split(cohort, SplitSettings(), workspace)
    groups = [{cohort.records[i].group for i in getattr(made, part)} for part in PARTS]
    assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]
    for part in PARTS:
        labels = image_set(workspace, cohort, getattr(made, part)).labels
        assert set(labels.tolist()) == set(range(len(cohort.label_names)))


def test_kermany(datasets: Path, workspace: Workspace) -> None:
    """5,856 radiographs; 30 groups of duplicates (62 images) inside classes, one of which joins two of
    4,097 ids.
    """
    source = {"format": "folder", "path": datasets / "kermany-cxr-64.zip", "labels": INDEX}
    source["patient"] = {"regex": r"person(\d+)_([a-z]+)|((?:NORMAL2-)?IM-\d+)"}
    cohort = _ingest(workspace, source, size_px=28)
    assert cohort.files == 5856
    assert cohort.quarantine == {"DUPLICATE_EXACT": 62 - 30}
    assert cohort.label_names == ("NORMAL", "PNEUMONIA")
    # the joined pair is two single images: one record stands for both, so one id of 4,097 has no record
    assert len({record.subject for record in cohort.records}) == 4097 - 1
    _held(workspace, cohort)


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("kermany-cxr-64.zip", {"regex": r"person(\d+)_([a-z]+)|((?:NORMAL2-)?IM-\d+)"}),
        ("ham10000-nv-mel-150.zip", {"column": "lesion_id"}),
    ],
)
def test_leaks_of_the_publishers_own_split_reach_the_page(
    name: str, patient: dict[str, str], datasets: Path, workspace: Workspace
) -> None:
    """Through ingest to the review page: the patients in more than one of the publisher's folders, against a
    count made from its index alone.
    """
    review = importlib.import_module("phantomset.pipelines.report.review")
    source = {"format": "folder", "path": datasets / name, "labels": INDEX, "patient": patient}
    cohort = _ingest(workspace, source, size_px=28)
    page = review.write(workspace, cohort, split(cohort, SplitSettings(), workspace)).read_text()
    with zipfile.ZipFile(datasets / name) as archive, archive.open("index.csv") as stream:
        index = pd.read_csv(stream, dtype=str)
    if "regex" in patient:
        who = [
            "|".join(filter(None, match.groups()))
            for match in map(re.compile(patient["regex"]).search, index["file"])
            if match
        ]
    else:
        who = index[patient["column"]].tolist()
    parts = index["file"].str.partition("/")[0].groupby(who).nunique()
    leaking = int((parts > 1).sum())
    assert set(index["file"].str.partition("/")[0]) >= {"train", "test"}
    assert f"In more than one of them stand: {leaking} patients" in page


def test_nih(datasets: Path, workspace: Workspace) -> None:
    """1,000 radiographs, 682 patients of whom 21 are in both classes, one pair of duplicates of one
    patient; ages in the bands that pandas cuts.
    """
    source = {"format": "folder", "path": datasets / "nih-cxr14-1000-96.zip", "labels": INDEX}
    source |= {"patient": {"column": "patient_id"}, "attributes": ["age", "sex", "view"]}
    source["bands"] = {"age": [18, 40, 65]}
    cohort = _ingest(workspace, source, size_px=32)
    assert cohort.quarantine == {"DUPLICATE_EXACT": 1}
    classes: dict[str, set[int]] = {}
    for record in cohort.records:
        classes.setdefault(record.subject, set()).add(record.label)
    assert len(classes) == 682
    assert sum(len(labels) == 2 for labels in classes.values()) == 21
    assert {record.attributes["view"] for record in cohort.records} == {"AP", "PA"}
    with zipfile.ZipFile(datasets / "nih-cxr14-1000-96.zip") as archive:
        ages = pd.read_csv(archive.open("index.csv"))["age"]
    names = ["under 18", "18-39", "40-64", "65+"]
    cut = pd.cut(ages, [-1, 17, 39, 64, 200], labels=names).value_counts()
    found = pd.Series([record.attributes["age"] for record in cohort.records]).value_counts()
    assert min(cut[name] - found[name] for name in names) >= 0
    assert sum(cut[name] - found[name] for name in names) == 1  # the duplicate
    _held(workspace, cohort)


def test_ham10000(datasets: Path, workspace: Workspace) -> None:
    """2,000 colour images of 1,563 lesions, red brighter than green and blue in both classes."""
    source = {"format": "folder", "path": datasets / "ham10000-nv-mel-150.zip", "labels": INDEX}
    cohort = _ingest(workspace, source | {"patient": {"column": "lesion_id"}}, size_px=32, channels=3)
    assert cohort.quarantine == {"DUPLICATE_EXACT": 1}
    assert len({record.subject for record in cohort.records}) == 1563
    found = image_set(workspace, cohort, range(len(cohort.records)))
    means = {
        name: found.images[found.labels == i].mean((0, 2, 3)) for i, name in enumerate(cohort.label_names)
    }
    assert means["nv"] == pytest.approx([201, 137, 142], abs=1.5)
    assert means["mel"] == pytest.approx([178, 138, 145], abs=1.5)
    _held(workspace, cohort)


def test_fashion_products(datasets: Path, workspace: Workspace) -> None:
    """Colour, higher than wide: 24 x 32 px of 60 x 80; the class of ten images is left out on demand."""
    labels = INDEX | {"column": "masterCategory", "classes": ["Apparel", "Footwear", "Accessories"]}
    source = {"format": "folder", "path": datasets / "fashion-products-60x80.zip", "labels": labels}
    cohort = _ingest(workspace, source | {"patient": {"column": "id"}}, size_px=[32, 24], channels=3)
    assert cohort.quarantine == {"DUPLICATE_EXACT": 1, "NOT_SELECTED": 10}
    counts = np.bincount([record.label for record in cohort.records])
    assert counts.tolist() == [741, 251 - 1, 97]  # the duplicate is a shoe
    _held(workspace, cohort)


def test_pneumoniamnist(datasets: Path, workspace: Workspace) -> None:
    """The official file pooled: 27 groups of duplicates, 56 images, of which 29 are too many."""
    source = {
        "format": "medmnist",
        "path": datasets / "pneumoniamnist.npz",
        "label_names": ["normal", "pneumonia"],
    }
    cohort = _ingest(workspace, source, size_px=28)
    assert cohort.files == 5856
    assert cohort.quarantine == {"DUPLICATE_EXACT": 56 - 27}
    assert not cohort.has_patients
    _held(workspace, cohort)


@pytest.mark.slow
def test_fashion_mnist(datasets: Path, workspace: Workspace) -> None:
    """16,000 images, 1,600 a class, no duplicates; the pixels are the file's."""
    path = datasets / "fashion-mnist-part.npz"
    cohort = _ingest(workspace, {"format": "medmnist", "path": path}, size_px=28)
    assert cohort.quarantine == {}
    assert cohort.label_names == tuple("0123456789")
    assert set(np.bincount([record.label for record in cohort.records])) == {1600}
    with np.load(path) as arrays:
        expected = np.sort(
            arrays["train_images"].reshape(-1, 784).sum(1).tolist()
            + arrays["test_images"].reshape(-1, 784).sum(1).tolist()
        )
    found = image_set(workspace, cohort, range(len(cohort.records))).images.reshape(-1, 784).sum(1)
    assert np.array_equal(np.sort(found), expected)


def test_odd_dicom_files(datasets: Path, workspace: Workspace) -> None:
    """144 awkward files, their two descriptions and 54 further frames: the ledger has the code that the
    manifest implies for each that is kept out, and a record stands for each of the others.
    """
    source = {"format": "dicom", "path": datasets / "dicom-odd", "labels": {"tag": "Modality"}}
    # without consent the MR slices, whose headers name no part of the body, would be taken for a head
    cohort = _ingest(workspace, source, accept=1, faces=True, size_px=32, fit="pad")
    assert cohort.files == len(cohort.records) + sum(cohort.quarantine.values()) == 200
    expected = ingested(manifest(datasets))
    names = {pseudonym("path", key): key for key in expected}
    ledger = pd.read_parquet(next(workspace.root.rglob("quarantine.parquet")))
    assert {
        names.get(path, path): code for path, code in zip(ledger["path"], ledger["code"], strict=True)
    } == (expected)
    assert len(ledger) == len(expected)
    assert {"CT", "MR"} <= set(cohort.label_names)
