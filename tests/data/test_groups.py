"""Groups: who never may be cut apart, what contradicts itself, what the input's own split leaks."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter

from phantomset.data import catalogue
from phantomset.data.deidentify import DeidentifySettings
from phantomset.data.errors import SourceError
from phantomset.data.ingest import ingest
from phantomset.data.keys import pseudonym
from phantomset.data.pixels.canonical import ImageSettings
from phantomset.data.records import Cohort
from phantomset.data.splitting.groups import (
    DuplicateSettings,
    Entry,
    doubtful_key,
    given_part,
    grouped,
    leaks,
)
from phantomset.data.workspace import Workspace

Make = Callable[..., bytes]


def _entry(key: str, subject: str, label: str = "a", **links: str) -> Entry:
    return Entry(key, f"digest of {key}", f"origin of {key}", subject, label, {}, None, links)


def _kept(*entries: Entry) -> dict[str, list[Entry]]:
    return {entry.digest: [entry] for entry in entries}


def _take(folder: Path, workspace: Workspace, near: str = "group", **deidentify: Any) -> Cohort:
    settings = catalogue.load("phantomset.data.sources", "dicom").Settings(path=folder)
    rules = DeidentifySettings.model_validate({"accept_quarantined_share": 1} | deidentify)
    duplicates = DuplicateSettings.model_validate({"near": near})
    return ingest(settings, ImageSettings(size_px=8), rules, workspace, workers=0, duplicates=duplicates)[0]


def _draw(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 4096, (8, 8), dtype=np.uint16)


def _write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def test_links_join_patients_into_groups() -> None:
    """Worked by hand: a-b by a study, b-c by a near-copy, d-e by the user's column; f alone."""
    kept = _kept(
        _entry("1", "a", study="s"),
        _entry("2", "b", study="s"),
        _entry("3", "b"),
        _entry("4", "c"),
        _entry("5", "d", group="x"),
        _entry("6", "e", group="x"),
        _entry("7", "f", group="y"),
    )
    pairs = [("digest of 3", "digest of 4", 0.97), ("digest of 4", "digest of 7", 0.92)]
    groups = grouped(kept, pairs, kept)
    assert groups == {"a": "a", "b": "a", "c": "a", "d": "d", "e": "d", "f": "f"}


@pytest.mark.parametrize(
    ("key", "part"),
    [
        ("train/NORMAL/a.png", "train"),
        ("x/Validation/a.png", "val"),
        ("test_images/000000001", "test"),
        ("trained/a.png", None),
        ("train.png", None),
    ],
)
def test_the_inputs_own_parts_are_told_by_folders(key: str, part: str | None) -> None:
    """Folders and arrays by the usual names; a file's own name says nothing."""
    assert given_part(key) == part


def test_leaks_of_the_inputs_own_split_are_counted() -> None:
    """p has images in train and test; q and r are joined across; s stays in one part."""
    kept = _kept(
        _entry("train/1", "p"),
        _entry("test/2", "p"),
        _entry("train/3", "q", group="g"),
        _entry("test/4", "r", group="g"),
        _entry("train/5", "s"),
        _entry("train/6", "s"),
    )
    kept["copy"] = [_entry("train/7", "t"), _entry("val/8", "t")]
    groups = grouped(kept, [], kept)
    assert leaks(kept, groups) == {"patients": 2, "groups": 3, "copies": 1}
    assert leaks(_kept(_entry("1", "a"), _entry("2", "a")), {"a": "a"}) == {}


def test_a_key_that_counts_anew_in_each_class_is_doubted() -> None:
    """A number that joins one image of each class on purpose is far above chance; follow-ups are below it."""
    numbers = range(100)
    wrong = [_entry(f"{n}{label}", f"p{n}", label) for n in numbers for label in "ab"]
    follow_ups = [_entry(f"{n}-{k}", f"p{n}", "ab"[n % 2]) for n in numbers for k in range(2)]
    dealt = np.random.default_rng(0).permutation(["a", "b"] * 100)
    chance = [_entry(str(n), f"p{n // 2}", label) for n, label in enumerate(dealt)]
    assert doubtful_key(_kept(*wrong))
    assert not doubtful_key(_kept(*follow_ups))
    assert not doubtful_key(_kept(*chance))


def test_one_instance_with_two_pictures_keeps_neither(
    tmp_path: Path, workspace: Workspace, make_dicom: Make
) -> None:
    """Same SOP Instance UID, different pixels: UID_CONFLICT for both; a true copy is only a copy."""
    files = {
        f"f{n}.dcm": make_dicom(_draw(n), SOPInstanceUID=f"1.2.9.{n}", PatientID=f"P{n}") for n in range(4)
    }
    files["other.dcm"] = make_dicom(_draw(9), SOPInstanceUID="1.2.9.0", PatientID="P0")
    files["copy.dcm"] = files["f1.dcm"]
    cohort = _take(_write(tmp_path / "in", files), workspace)
    assert cohort.quarantine == {"DUPLICATE_EXACT": 1, "UID_CONFLICT": 2}
    assert cohort.files == 6 == len(cohort.records) + 3


def test_one_study_of_two_patients_keeps_neither(
    tmp_path: Path, workspace: Workspace, make_dicom: Make
) -> None:
    """Whose is it? PATIENT_CONFLICT for all of the study; other studies stay."""
    files = {
        f"f{n}.dcm": make_dicom(
            _draw(n),
            SOPInstanceUID=f"1.2.9.{n}",
            PatientID=f"P{n}",
            StudyInstanceUID="1.2.8.1" if n < 2 else f"1.2.8.{n}",
        )
        for n in range(5)
    }
    cohort = _take(_write(tmp_path / "in", files), workspace)
    assert cohort.quarantine == {"PATIENT_CONFLICT": 2}
    assert len(cohort.records) == 3


def test_volumes_of_the_head_are_refused_unless_accepted(
    tmp_path: Path, workspace: Workspace, make_dicom: Make
) -> None:
    """Twelve slices of a head show a face: FACE_RISK; accepted by the recipe, they come in."""
    files = {
        f"f{n:02d}.dcm": make_dicom(
            _draw(n),
            SOPInstanceUID=f"1.2.9.{n}",
            Modality="MR",
            BodyPartExamined="BRAIN",
            SeriesInstanceUID="1.2.7.1",
        )
        for n in range(12)
    }
    files["chest.dcm"] = make_dicom(_draw(99), SOPInstanceUID="1.2.9.99", BodyPartExamined="CHEST")
    folder = _write(tmp_path / "in", files)
    assert _take(folder, workspace).quarantine == {"FACE_RISK": 12}
    assert len(_take(folder, workspace, accept_faces=True).records) == 13


@pytest.mark.parametrize(
    ("first", "other", "is_one"),
    [
        ({"Modality": "MR"}, {"Modality": "CT"}, False),
        ({"Modality": "MR", "PixelSpacing": [1, 1]}, {"Modality": "MR", "PixelSpacing": [4, 4]}, False),
        ({"Modality": "CT", "Rows": 16}, {"Modality": "CT"}, False),
        ({"Modality": "CT", "KVP": 80}, {"Modality": "CT", "KVP": 120}, True),
        ({"Modality": "DX", "Rows": 16}, {"Modality": "DX"}, True),
    ],
)
def test_a_series_is_of_one_modality_and_its_slices_of_one_geometry(
    first: dict[str, Any],
    other: dict[str, Any],
    is_one: bool,
    tmp_path: Path,
    workspace: Workspace,
    make_dicom: Make,
) -> None:
    """Two files of one series that differ in it are both kept out; radiographs of a series may differ in
    size, and a third file stands in a series of its own.
    """
    files: dict[str, bytes] = {}
    for number, about in enumerate((first, other, {})):
        about = {"SeriesInstanceUID": f"1.2.{number // 2}", "BodyPartExamined": "CHEST"} | about
        times = about.get("Rows", 8) // 8
        pixels = np.tile(_draw(number), (times, times))
        files[f"{number}.dcm"] = make_dicom(pixels, SOPInstanceUID=f"1.2.9.{number}", **about)
    quarantine = _take(_write(tmp_path / "in", files), workspace).quarantine
    assert quarantine == ({} if is_one else {"INCONSISTENT_SERIES": 2})


def test_ten_slices_of_nobody_knows_what_are_a_face(
    tmp_path: Path, workspace: Workspace, make_dicom: Make
) -> None:
    """Ten CT slices of a study that names no part of the body are kept out, in whatever series they lie; nine
    of another are not.
    """

    def series(name: str, slices: int, study: str) -> dict[str, bytes]:
        about = {"Modality": "CT", "SeriesDescription": "HEAD W/O", "SeriesInstanceUID": name}
        about["StudyInstanceUID"] = study
        numbers = range(len(name), len(name) + slices)
        return {
            f"{name}.{n}.dcm": make_dicom(_draw(n), SOPInstanceUID=f"{name}.{n}", **about) for n in numbers
        }

    files = (
        series("1.2.7", 5, "1.2.1") | series("1.2.77", 5, "1.2.1") | series("1.2.840.10008.5.1.4", 9, "1.2.2")
    )
    assert _take(_write(tmp_path / "in", files), workspace).quarantine == {"FACE_RISK": 10}


@pytest.mark.parametrize(("frames", "kept_out"), [(9, {}), (10, {"FACE_RISK": 1})])
def test_frames_of_a_head_are_counted_before_neighbours_are_thinned(
    frames: int, kept_out: dict[str, int], tmp_path: Path, workspace: Workspace, make_dicom: Make
) -> None:
    """An object of ten frames of a head is kept out, though all but one of them be left out as alike."""
    volume = np.stack([_draw(1)] * frames)
    file = make_dicom(volume, NumberOfFrames=frames, Modality="MR", BodyPartExamined="BRAIN")
    found = _take(_write(tmp_path / "in", {"a.dcm": file, "b.dcm": make_dicom(_draw(2))}), workspace)
    assert {code: n for code, n in found.quarantine.items() if code == "FACE_RISK"} == kept_out


def _screens(make_dicom: Make) -> dict[str, bytes]:
    capture = "1.2.840.10008.5.1.4.1.1.7"
    files = {f"f{n}.dcm": make_dicom(_draw(n), SOPInstanceUID=f"1.2.9.{n}") for n in range(3)}
    files["screen.dcm"] = make_dicom(
        _draw(7),
        SOPInstanceUID="1.2.9.7",
        SOPClassUID=capture,
        Manufacturer="Maker",
        ManufacturerModelName="Model 7",
    )
    return files


def test_a_reviewed_list_lets_in_and_stays_in_the_ledger(
    tmp_path: Path, workspace: Workspace, make_dicom: Make
) -> None:
    """The keyed name and the code of the ledger, with who looked: the file comes in, the ledger says so."""
    folder = _write(tmp_path / "in", _screens(make_dicom))
    assert _take(folder, workspace).quarantine == {"BURNED_IN_RISK": 1}
    table = tmp_path / "reviewed.csv"
    table.write_text(f"path,code,reviewer\n{pseudonym('path', 'screen.dcm')},BURNED_IN_RISK,data office\n")
    cohort = _take(folder, workspace, reviewed=table)
    assert cohort.quarantine == {}
    assert len(cohort.records) == 4
    ledgers = [pd.read_parquet(path) for path in workspace.root.rglob("quarantine.parquet")]
    released = pd.concat(ledgers).query("reviewer != ''")
    assert released[["path", "code", "reviewer", "stage", "format"]].to_numpy().tolist() == [
        [pseudonym("path", "screen.dcm"), "BURNED_IN_RISK", "data office", "identity", "dicom"]
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,code\nx,BURNED_IN_RISK\n", "needs the columns path, code, reviewer"),
        ("path,code,reviewer\nx,TRUNCATED,me\n", "line 2: a person can release from .*BURNED_IN_RISK"),
        ("path,code,reviewer\nx,BURNED_IN_RISK,\n", "line 2: say which path, and who"),
        (None, "missing or no CSV"),
    ],
)
def test_reviewed_lists_that_make_no_sense(
    content: str | None, message: str, tmp_path: Path, workspace: Workspace, make_dicom: Make
) -> None:
    """Nobody can let in a broken file; somebody must have looked."""
    folder = _write(tmp_path / "in", _screens(make_dicom))
    table = tmp_path / "reviewed.csv"
    if content is not None:
        table.write_text(content)
    with pytest.raises(SourceError, match=message):
        _take(folder, workspace, reviewed=table)


def test_a_device_with_a_mask_comes_in_black_where_it_writes(
    tmp_path: Path, workspace: Workspace, make_dicom: Make
) -> None:
    """Named letter by letter; the upper quarter of its screens is 0 in the store, and of no other image."""
    from phantomset.data.store.training_cache import image_set

    device = {"manufacturer": "MAKER", "model": "model 7", "mask": [[0, 0, 1, 0.25]]}
    folder = _write(tmp_path / "in", _screens(make_dicom))
    cohort = _take(folder, workspace, devices=[device])
    assert cohort.quarantine == {}
    images = image_set(workspace, cohort, range(4)).images
    black = [bool((image[0, :2] == 0).all()) for image in images]
    assert sum(black) == 1
    assert images[black.index(True)][0, 2:].any()
    assert not any("mask: none" in note for note in cohort.notes)


def test_a_device_that_burns_in_nothing_comes_in_as_it_is(
    tmp_path: Path, workspace: Workspace, make_dicom: Make
) -> None:
    """With the word "none" for its mask nothing is blackened, and report and release say so."""
    from phantomset.data.store.training_cache import image_set

    device = {"manufacturer": "MAKER", "model": "model 7", "mask": "none"}
    cohort = _take(_write(tmp_path / "in", _screens(make_dicom)), workspace, devices=[device])
    assert cohort.quarantine == {}
    assert all(image[0, :2].any() for image in image_set(workspace, cohort, range(4)).images)
    assert sum("mask: none" in note for note in cohort.notes) == 1


def test_near_copies_of_two_labels_keep_neither_and_of_one_are_grouped(
    tmp_path: Path, workspace: Workspace, make_png: Make
) -> None:
    """A brighter copy under another patient joins both; under another label both are kept out."""
    chance = np.random.default_rng(0)
    pictures = [chance.integers(20, 200, (32, 32), dtype=np.uint8) for _ in range(12)]
    folder = tmp_path / "in"
    for number, picture in enumerate(pictures):
        place = folder / "ab"[number % 2] / f"p{number}_0.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(make_png(picture))
    (folder / "a" / "p20_0.png").write_bytes(make_png(pictures[0] + 30))
    (folder / "b" / "p21_0.png").write_bytes(make_png(pictures[2] + 30))
    source = {"path": folder, "labels": {"from": "folder"}, "patient": {"regex": r"(p\d+)_"}}
    settings = catalogue.load("phantomset.data.sources", "folder").Settings.model_validate(source)

    def take(near: str) -> Cohort:
        rules = DeidentifySettings(accept_quarantined_share=1)
        duplicates = DuplicateSettings.model_validate({"near": near})
        size = ImageSettings(size_px=32)
        return ingest(settings, size, rules, workspace, workers=0, duplicates=duplicates)[0]

    cohort = take("group")
    assert cohort.quarantine == {"LABEL_CONFLICT": 2}
    sizes = Counter(Counter(record.group for record in cohort.records).values())
    assert sizes == {1: 10, 2: 1}
    assert take("drop").quarantine == {"DUPLICATE_NEAR": 1, "LABEL_CONFLICT": 2}
    assert take("off").quarantine == {}


@pytest.mark.parametrize(
    ("label", "near", "size_px"),
    [("a", "group", 32), ("a", "group", 8), ("b", "group", 32), ("b", "drop", 32)],
)
def test_a_small_picture_that_was_moved(
    label: str, near: str, size_px: int, tmp_path: Path, workspace: Workspace, make_png: Make
) -> None:
    """Moved by 3 of 32 pixels it correlates, its bits differ: one group, whatever size is asked for. Under
    two labels both stay and are listed, since such likeness may deceive.
    """
    chance = np.random.default_rng(0)
    rough = gaussian_filter(chance.normal(size=(12, 35, 35)), (0, 2, 2))
    pictures = np.rint(120 + 60 * rough / rough.std()).clip(0, 255).astype(np.uint8)
    folder = tmp_path / "in"
    for number, picture in enumerate(pictures):
        place = folder / "ab"[number % 2] / f"p{number}_0.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(make_png(picture[:32, :32]))
    (folder / label / "p20_0.png").write_bytes(make_png(pictures[0, 3:, 3:]))
    source = {"path": folder, "labels": {"from": "folder"}, "patient": {"regex": r"(p\d+)_"}}
    settings = catalogue.load("phantomset.data.sources", "folder").Settings.model_validate(source)
    duplicates = DuplicateSettings.model_validate({"near": near})
    size = ImageSettings(size_px=size_px)
    cohort = ingest(settings, size, DeidentifySettings(), workspace, workers=0, duplicates=duplicates)[0]
    assert cohort.quarantine == {}
    assert Counter(Counter(record.group for record in cohort.records).values()) == {1: 11, 2: 1}
    assert any("two labels" in note for note in cohort.notes) == (label == "b")
