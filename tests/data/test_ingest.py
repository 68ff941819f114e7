"""Ingest: counts that reconcile, nothing of the header in the store, the same digest twice, nothing left
behind.
"""

import csv
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pydicom
import pytest
from pydicom.errors import InvalidDicomError

from phantomset.data import catalogue
from phantomset.data.deidentify import ALLOWED, DeidentifySettings
from phantomset.data.errors import SourceError, WorkspaceError
from phantomset.data.ingest import ingest, ingest_key, load_cohort, require_classes
from phantomset.data.keys import pseudonym
from phantomset.data.pixels.canonical import ImageSettings
from phantomset.data.quarantine.ledger import CODES, Ledger, in_words
from phantomset.data.quarantine.reasons import REASONS
from phantomset.data.reading import tree
from phantomset.data.records import Cohort
from phantomset.data.source import Limits
from phantomset.data.store.archive import Store
from phantomset.data.store.training_cache import image_set
from phantomset.data.workspace import Workspace

Source = dict[str, Any]
Draw = Callable[[int], np.ndarray]
Make = Callable[..., bytes]
PX28 = ImageSettings(size_px=28)


def _ingest(
    source: Source, workspace: Workspace, image: ImageSettings = PX28, accept: float = 0.05
) -> Cohort:
    settings = catalogue.load("phantomset.data.sources", source["format"]).Settings.model_validate(source)
    return ingest(settings, image, DeidentifySettings(accept_quarantined_share=accept), workspace)[0]


def _folder(root: Path, files: dict[str, bytes]) -> Source:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return {"format": "folder", "path": root, "labels": {"from": "folder"}, "patient": {"regex": r"(p\d+)_"}}


def _bytes_of(folder: Path, but: str = "none") -> bytes:
    return b"\0".join(
        bytes(str(path.relative_to(folder)), "utf-8") + b"\0" + path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != but
    )


def _cells_of(folder: Path) -> bytes:
    tables = [pd.read_parquet(path) for path in sorted(folder.rglob("*.parquet"))]
    return "\0".join(str(cell) for table in tables for cell in table.to_numpy().flat).encode()


@pytest.fixture
def cohort(phantom_source: Source, workspace: Workspace) -> Cohort:
    """The phantom hospital, ingested."""
    return _ingest(phantom_source, workspace)


def test_counts_reconcile_and_every_fault_has_its_code(cohort: Cohort, phantom_folder: Path) -> None:
    """Files == records + quarantine; each of the eleven faults is kept out under the code that says why."""
    files = [path for path in phantom_folder.rglob("*") if path.is_file() and path.name != "labels.csv"]
    assert cohort.files == len(files) == len(cohort.records) + sum(cohort.quarantine.values())
    assert cohort.quarantine == {
        "BURNED_IN_DECLARED": 1,
        "DUPLICATE_EXACT": 2,
        "EMPTY_FILE": 1,
        "NOT_AN_IMAGE": 1,
        "NOT_RECOGNISED": 2,
        "NO_LABEL": 1,
        "NO_PATIENT": 1,
        "TRUNCATED": 2,
    }


def test_labels_and_patients_are_those_of_the_source(cohort: Cohort, phantom_folder: Path) -> None:
    """Held against the table and the headers as csv and pydicom read them, file by file, through the
    store's names.
    """
    with (phantom_folder / "labels.csv").open(encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if not row["file"].startswith("incoming/")]
    expected: Counter[tuple[str, str]] = Counter()
    for row in rows:
        header = pydicom.dcmread(phantom_folder / row["file"], stop_before_pixels=True)
        expected[pseudonym("patient", f"\0{header.PatientID}"), row["finding"]] += 1
    found = Counter((record.subject, cohort.label_names[record.label]) for record in cohort.records)
    assert found == expected
    assert cohort.has_patients
    assert cohort.label_names == ("effusion", "normal", "pneumonia")


def test_nothing_of_the_header_or_the_names_reaches_the_workspace(
    cohort: Cohort, phantom_folder: Path, workspace: Workspace
) -> None:
    """Every text of every header, and every part of every path, is searched in all bytes that ingest wrote;
    only the values that the allow-list lets through may be found. Digests and keyed names are cut out first:
    eight digits in a row are no date there, and no UID has letters. Tables are searched as they are packed,
    which cuts digests into pieces that may be digits alone; for numbers, unpacked.
    """
    digests = re.compile(rb"(?=[0-9]*[a-f])[0-9a-f]{32,}")
    packed = digests.sub(b"", _bytes_of(workspace.root).lower())
    unpacked = _bytes_of(workspace.root, but=".parquet") + b"\0" + _cells_of(workspace.root)
    numbers = digests.sub(b"", unpacked.lower())
    reasons = " ".join(f"{code} {reason.meaning} {reason.remedy}" for code, reason in REASONS.items())
    public = f"effusion normal pneumonia chest notes {reasons}".lower()
    kinds = ("PN", "LO", "SH", "ST", "LT", "DA", "UI")
    texts: set[str] = set()
    for path in phantom_folder.rglob("*.dcm"):
        texts |= set(re.split(r"[^\w]+", str(path.relative_to(phantom_folder)).lower()))
        try:
            data = pydicom.dcmread(path, stop_before_pixels=True)
        except (InvalidDicomError, EOFError):  # the faults that are no DICOM files
            continue
        for element in data:
            if element.VR in kinds and element.value and not element.keyword.startswith("SOPClass"):
                texts |= set(re.split(r"[\^ ,]+", str(element.value).lower()))
    tokens = {text for text in texts if len(text) >= 5 and text not in public}
    assert len(tokens) > 500
    assert [token for token in tokens if token.encode() in (numbers if token.isdigit() else packed)] == []
    assert {value for record in cohort.records for value in record.attributes} <= set(ALLOWED)


def test_the_ledger_holds_keyed_paths_and_codes_only(cohort: Cohort, workspace: Workspace) -> None:
    """Each line can be matched by who holds the key and the file, and by nobody else."""
    frame = pd.read_parquet(next(workspace.restricted("cohorts", "inputs").glob("*/quarantine.parquet")))
    assert frame.columns.tolist() == ["path", "code", "bytes", "stage", "format", "reviewer"]
    assert Counter(frame["code"]) == cohort.quarantine
    assert pseudonym("path", "incoming/report.dcm") in set(frame["path"])
    assert set(frame["code"]) <= set(CODES)


def test_what_was_dropped_is_counted(cohort: Cohort) -> None:
    """Each image lost three person names (patient, referrer, operator) and its private block of two
    elements.
    """
    images = len(cohort.records) + cohort.quarantine["DUPLICATE_EXACT"]
    assert cohort.dropped["person names"] == 3 * images
    assert cohort.dropped["private elements"] == 2 * images


def test_twice_is_once(
    cohort: Cohort, phantom_source: Source, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second time nothing is read, nothing is written, and the cohort is equal."""
    before = {path: path.stat().st_mtime_ns for path in workspace.root.rglob("*")}
    monkeypatch.setattr("phantomset.data.ingest._take", None)
    assert _ingest(phantom_source, workspace) == cohort
    assert load_cohort(workspace, cohort.digest) == cohort
    assert {path: path.stat().st_mtime_ns for path in workspace.root.rglob("*")} == before


def test_where_and_in_which_order_files_lie_does_not_matter(
    cohort: Cohort, phantom_folder: Path, phantom_source: Source, tmp_path: Path
) -> None:
    """A copy that was written backwards, elsewhere, into another workspace, gives the same digest."""
    copy = tmp_path / "copy"
    for path in sorted(phantom_folder.rglob("*"), reverse=True):
        if path.is_file():
            target = copy / path.relative_to(phantom_folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    again = _ingest(phantom_source | {"path": copy}, Workspace.open(tmp_path / "elsewhere"))
    assert again == cohort


def test_a_changed_file_or_table_is_another_input(
    phantom_source: Source, phantom_folder: Path, tmp_path: Path
) -> None:
    """One byte in a file, or one row of the table, changes the key by which an input is known."""
    copy = tmp_path / "copy"
    shutil.copytree(phantom_folder, copy)
    load = catalogue.load("phantomset.data.sources", "dicom").Settings.model_validate
    settings = load(phantom_source | {"path": copy})

    def key() -> str:
        return ingest_key(settings, PX28, DeidentifySettings())

    keys = [key()]
    assert keys == [ingest_key(load(phantom_source), PX28, DeidentifySettings())]
    (copy / "incoming" / "notes.dcm").write_bytes(b"?")
    keys.append(key())
    table = copy / "labels.csv"
    table.write_text(table.read_text(encoding="utf-8") + "x,normal,F,PA\n", encoding="utf-8")
    keys.append(key())
    keys.append(ingest_key(settings, ImageSettings(size_px=32), DeidentifySettings()))
    assert len(set(keys)) == 4


def test_a_large_input_is_known_by_sizes_and_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a limit contents are not read; a file that was replaced under its old size and time shows."""
    monkeypatch.setattr(tree, "HASHED_BYTES", 0)
    path = tmp_path / "a.png"
    path.write_bytes(b"1")
    os.utime(path, (10**9, 10**9))
    names = [tree.open_tree(tmp_path, Limits()).fingerprint() for _ in range(2)]
    assert names[0] == names[1]
    path.write_bytes(b"2")
    os.utime(path, (10**9, 10**9))
    assert tree.open_tree(tmp_path, Limits()).fingerprint() != names[0]


def test_a_store_that_lost_its_packs_is_filled_again(
    cohort: Cohort, phantom_source: Source, workspace: Workspace
) -> None:
    """A cohort whose images are gone is not taken for done."""
    for path in workspace.restricted("objects").iterdir():
        path.unlink()
    assert _ingest(phantom_source, workspace) == cohort
    assert Store(workspace).has([record.digest for record in cohort.records])


def test_duplicates_of_one_label_keep_the_first(
    tmp_path: Path, workspace: Workspace, make_png: Make, gradient: Draw
) -> None:
    """Same pixels, same class, same patient: one record; the others are counted and speak against nobody."""
    files = {f"a/p{i}_{i}.png": make_png(gradient(i)) for i in range(4)}
    files |= {f"b/p{i}_{i}.png": make_png(gradient(10 + i)) for i in range(4)}
    files["a/p0_copy.png"] = files["a/p0_0.png"]
    cohort = _ingest(_folder(tmp_path / "in", files), workspace, ImageSettings(size_px=8), accept=0)
    assert cohort.quarantine == {"DUPLICATE_EXACT": 1}
    assert len(cohort.records) == 8


def test_duplicates_are_found_across_file_formats(
    tmp_path: Path, workspace: Workspace, make_png: Make, gradient: Draw
) -> None:
    """The name of an image is its pixels, not its bytes: BMP and PNG of one picture are one."""
    files = {"a/p0_0.png": make_png(gradient(0)), "a/p0_1.bmp": make_png(gradient(0), "BMP")}
    files["b/p1_0.png"] = make_png(gradient(1))
    cohort = _ingest(_folder(tmp_path / "in", files), workspace, ImageSettings(size_px=8))
    assert cohort.quarantine == {"DUPLICATE_EXACT": 1}


def test_duplicates_of_two_labels_keep_none(
    tmp_path: Path, workspace: Workspace, make_png: Make, gradient: Draw
) -> None:
    """Nobody knows which label is right, so both files are quarantined."""
    files = {f"a/p{i}_{i}.png": make_png(gradient(i)) for i in range(4)}
    files["b/p9_9.png"] = make_png(gradient(9))
    files["b/p0_x.png"] = files["a/p0_0.png"]
    cohort = _ingest(_folder(tmp_path / "in", files), workspace, ImageSettings(size_px=8), accept=0.5)
    assert cohort.quarantine == {"LABEL_CONFLICT": 2}
    assert len(cohort.records) == 4


def test_duplicates_across_patients_join_them(
    tmp_path: Path, workspace: Workspace, make_png: Make, gradient: Draw
) -> None:
    """p1 = p2 and p2 = p3 by two copied files: one group of three, and the others stay alone."""
    files = {f"a/p{i}_{k}.png": make_png(gradient(10 * i + k)) for i in range(1, 6) for k in range(2)}
    files["a/p2_copy.png"] = files["a/p1_0.png"]
    files["a/p3_copy.png"] = files["a/p2_1.png"]
    cohort = _ingest(_folder(tmp_path / "in", files), workspace, ImageSettings(size_px=8))
    group = {record.subject: record.group for record in cohort.records}
    p = {i: pseudonym("patient", f"\0P{i}") for i in range(1, 6)}
    assert group[p[1]] == group[p[2]] == group[p[3]] == min(p[1], p[2], p[3])
    assert group[p[4]] == p[4]
    assert group[p[5]] == p[5]
    assert any("more than one patient" in note for note in cohort.notes)


def test_without_patients_each_image_is_its_own(
    tmp_path: Path, workspace: Workspace, make_png: Make, gradient: Draw
) -> None:
    """The cohort says so, in a note that reaches the report."""
    source = _folder(tmp_path / "in", {f"a/p1_{i}.png": make_png(gradient(i)) for i in range(5)})
    cohort = _ingest(source | {"patient": None}, workspace, ImageSettings(size_px=8))
    assert not cohort.has_patients
    assert len({record.subject for record in cohort.records}) == 5
    assert "names no patients" in cohort.notes[0]


def test_class_names_are_sorted_and_numbers_by_value(
    tmp_path: Path, workspace: Workspace, make_png: Make, gradient: Draw
) -> None:
    """Class 10 comes after class 9."""
    files = {f"{i}/p{i}_0.png": make_png(gradient(i)) for i in (10, 9, 1, 2)}
    cohort = _ingest(_folder(tmp_path / "in", files), workspace, ImageSettings(size_px=8))
    assert cohort.label_names == ("1", "2", "9", "10")
    images = image_set(workspace, cohort, range(4))
    by_name = {
        cohort.label_names[label]: image[0] for label, image in zip(images.labels, images.images, strict=True)
    }
    assert all(np.array_equal(by_name[str(i)], gradient(i)) for i in (10, 9, 1, 2))


def test_too_much_quarantined_is_an_error_that_leaves_nothing(
    tmp_path: Path, workspace: Workspace, make_png: Make, gradient: Draw
) -> None:
    """Two of six files are broken: 33 % is over 5 %, and the store stays as it was."""
    files = {f"a/p{i}_{i}.png": make_png(gradient(i)) for i in range(4)}
    files |= {"a/p8_8.png": b"", "a/p9_9.png": b"no picture"}
    source = _folder(tmp_path / "in", files)
    before = _bytes_of(workspace.root)
    message = r"2 of 6 files \(33\.3%\).*5\.0%.*1 EMPTY_FILE, 1 NOT_RECOGNISED.*accept_quarantined_share"
    with pytest.raises(SourceError, match=message):
        _ingest(source, workspace, ImageSettings(size_px=8))
    assert _bytes_of(workspace.root) == before
    assert list(workspace.restricted("incoming").iterdir()) == []
    assert len(_ingest(source, workspace, ImageSettings(size_px=8), accept=0.34).records) == 4


def test_one_class_does_not_do_for_a_conditional_family(
    tmp_path: Path, workspace: Workspace, make_png: Make, gradient: Draw
) -> None:
    """No labels and one class are told apart; two classes pass."""
    files = {f"a/p{i}_0.png": make_png(gradient(i)) for i in range(3)}
    source, small = _folder(tmp_path / "in", files), ImageSettings(size_px=8)
    with pytest.raises(SourceError, match=r"one class only \('a', 3 images\)"):
        require_classes(_ingest(source, workspace, small))
    with pytest.raises(SourceError, match="no labels"):
        require_classes(_ingest(source | {"labels": None}, workspace, small))
    (tmp_path / "in" / "b").mkdir()
    (tmp_path / "in" / "b" / "p7_0.png").write_bytes(make_png(gradient(7)))
    require_classes(_ingest(source, workspace, small))


def test_progress_is_reported_file_by_file(
    phantom_source: Source, workspace: Workspace, phantom_folder: Path
) -> None:
    """The caller hears 1, 2, ... to the number of files."""
    heard: list[int] = []
    settings = catalogue.load("phantomset.data.sources", "dicom").Settings.model_validate(phantom_source)
    cohort = ingest(settings, PX28, DeidentifySettings(), workspace, heard.append)[0]
    assert heard == list(range(1, cohort.files + 1))


def test_an_unknown_cohort_is_an_input_error(workspace: Workspace) -> None:
    """The message says what to run first."""
    with pytest.raises(WorkspaceError, match="ingest stage first"):
        load_cohort(workspace, "0" * 64)


def test_a_damaged_cohort_is_an_input_error(cohort: Cohort, workspace: Workspace) -> None:
    """A truncated file ends in a message."""
    path = workspace.restricted("cohorts", cohort.digest, "records.parquet")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(WorkspaceError, match="damaged"):
        load_cohort(workspace, cohort.digest)


def test_a_cohort_that_cannot_be_written_is_an_input_error(
    phantom_source: Source, workspace: Workspace
) -> None:
    """A file in the place of the folder stands for every reason."""
    workspace.restricted("cohorts").rmdir()
    workspace.restricted("cohorts").write_text("")
    with pytest.raises(WorkspaceError, match=r"cohorts: cannot write.*--workspace"):
        _ingest(phantom_source, workspace)


def test_the_ledger_refuses_codes_that_it_does_not_know() -> None:
    """A code without a meaning could not be explained to anybody."""
    with pytest.raises(ValueError, match="NO_SUCH_CODE"):
        Ledger().add("x", "NO_SUCH_CODE")


def test_counts_in_words_put_the_largest_first() -> None:
    """Ties by name; nothing is "none"."""
    assert in_words({"B": 2, "A": 2, "C": 1200}) == "1,200 C, 2 A, 2 B"
    assert in_words({}) == "none"


def test_every_reason_has_a_meaning_and_a_remedy() -> None:
    """What is kept out is explained, and only judgements may be overruled by a person."""
    assert all(reason.meaning and reason.remedy.endswith((".", ".)")) for reason in REASONS.values())
    assert {code for code, reason in REASONS.items() if reason.may_be_released} == {
        "BURNED_IN_DECLARED",
        "BURNED_IN_RISK",
        "BURNED_IN_TEXT",
        "FACE_RISK",
        "LOCALIZER_OR_SCREEN",
    }
