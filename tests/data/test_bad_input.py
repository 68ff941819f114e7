"""Bad input: each ends in an `InputError` that says what, where, found and expected, what to do; nothing
stays.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from phantomset.data import catalogue
from phantomset.data.records import Cohort

Source = dict[str, Any]
Make = Callable[..., bytes]
Draw = Callable[[int], np.ndarray]
TakeIn = Callable[..., Cohort]
Refuses = Callable[..., None]
TABLE = {"table": "labels.csv", "key": "file", "column": "label"}


@pytest.fixture
def pictures(tmp_path: Path, make_png: Make, gradient: Draw) -> Path:
    """Ten pictures without sub-folders."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(10):
        (folder / f"im{number}.png").write_bytes(make_png(gradient(number)))
    return folder


@pytest.mark.parametrize("kind", ["dicom", "folder", "medmnist", "idx"])
def test_a_path_that_is_not_there(kind: str, tmp_path: Path, refuses: Refuses) -> None:
    """The message names the path and the recipe's key."""
    refuses(
        {"format": kind, "path": tmp_path / "gone"},
        r"source\.path: .*gone does not exist; expected",
    )


@pytest.mark.parametrize("kind", ["dicom", "folder", "medmnist", "idx"])
def test_a_path_that_cannot_be_read(kind: str, tmp_path: Path, refuses: Refuses) -> None:
    """A path through a file stands for every reason not to be able to read."""
    (tmp_path / "file").write_text("")
    refuses({"format": kind, "path": tmp_path / "file" / "x"}, r"source\.path: .* cannot be read")


@pytest.mark.parametrize(
    ("kind", "message"),
    [("dicom", "is empty"), ("folder", "is empty"), ("medmnist", "is a folder"), ("idx", "no pair of IDX")],
)
def test_an_empty_folder(kind: str, message: str, tmp_path: Path, refuses: Refuses) -> None:
    """Nothing there: say so, and what was expected."""
    (tmp_path / "in").mkdir()
    refuses({"format": kind, "path": tmp_path / "in"}, message)


@pytest.mark.parametrize("kind", ["dicom", "folder"])
def test_a_folder_without_a_single_image(kind: str, tmp_path: Path, refuses: Refuses) -> None:
    """Files, but no images: the counts by code say what was found instead."""
    (tmp_path / "in").mkdir()
    for number in range(3):
        (tmp_path / "in" / f"report{number}.txt").write_text("text\n" * 40)
    refuses({"format": kind, "path": tmp_path / "in"}, r"no image is left of 3 files.*3 NOT_RECOGNISED")


@pytest.mark.parametrize("kind", ["dicom", "folder"])
def test_a_folder_with_a_table_alone(kind: str, tmp_path: Path, refuses: Refuses) -> None:
    """A label table is no image."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "labels.csv").write_text("file,label\na.png,x\n")
    refuses({"format": kind, "path": tmp_path / "in", "labels": TABLE}, "Put the .* there")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"labels\.table: labels\.csv does not exist"),
        (b"", "no column 'file', 'label'; found no columns"),
        (b"file,finding\nim0.png,a\n", "no column 'label'; found file, finding"),
        (b"file,label\n", "holds no rows"),
        (b"file,label\nother0.png,a\nother1.png,b\n", "of 10 files, 0 have one of the 2 rows"),
        (b"file,label\nim0.png,a\nim1.png,b\nx.png,b\n", "of 10 files, 2 have one of the 3 rows"),
        (b"file,label\nim0.png,\xff\xfe\n", "UTF-8"),
        (b"file,label\nim0.png,a\0b\n", "NUL"),
        (b'file,label\n"im0.png,' + b"x" * 200_000, "field larger than field limit"),
    ],
)
def test_a_table_that_does_not_fit(
    content: bytes | None, message: str, pictures: Path, refuses: Refuses
) -> None:
    """Missing, empty, other columns, no rows, rows of other files, no text."""
    if content is not None:
        (pictures / "labels.csv").write_bytes(content)
    refuses({"format": "folder", "path": pictures, "labels": TABLE}, message)


def test_files_without_a_row_are_quarantined_and_rows_without_a_file_noted(
    pictures: Path, take_in: TakeIn
) -> None:
    """One file of ten has no row and one an empty cell; two rows have no file."""
    rows = [f"im{n}.png,{'ab'[n % 2]}" for n in range(8)] + ["im8.png,", "gone1.png,a", "gone2.png,b"]
    (pictures / "labels.csv").write_text("file,label\n" + "\n".join(rows), encoding="utf-8-sig")
    cohort = take_in({"format": "folder", "path": pictures, "labels": TABLE}, accept=0.2)
    assert cohort.quarantine == {"NO_LABEL": 2}
    assert cohort.files == 10
    assert any(note.startswith("2 rows of the label table have no file") for note in cohort.notes)


@pytest.mark.parametrize("key", ["im{}.png", "im{}", "./im{}.png"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_tables_may_name_files_by_path_name_or_stem(
    key: str, delimiter: str, pictures: Path, take_in: TakeIn, tmp_path: Path
) -> None:
    """What the archives in use do: with and without suffix, three delimiters, the table beside the folder."""
    table = tmp_path / "elsewhere.csv"
    rows = [f"{key.format(n)}{delimiter}{'ab'[n % 2]}" for n in range(10)]
    table.write_text(f"file{delimiter}label\n" + "\n".join(rows))
    labels = TABLE | {"table": table}
    cohort = take_in({"format": "folder", "path": pictures, "labels": labels})
    assert len(cohort.records) == 10
    assert cohort.label_names == ("a", "b")


def test_two_rows_that_disagree_and_one_name_for_two_files(
    pictures: Path, take_in: TakeIn, make_png: Make, gradient: Draw
) -> None:
    """Neither says which label is right: the files are quarantined as LABEL_CONFLICT."""
    (pictures / "sub").mkdir()
    (pictures / "sub" / "im1.png").write_bytes(make_png(gradient(77)))
    rows = [f"im{n}.png,a" for n in range(10)] + ["im0.png,b", "im5.png,a"]
    (pictures / "labels.csv").write_text("file,label\n" + "\n".join(rows))
    source = {"format": "folder", "path": pictures, "labels": TABLE}
    cohort = take_in(source, accept=1)
    # im0: two rows; im1.png and sub/im1.png: one row that names both by their name
    assert cohort.quarantine == {"LABEL_CONFLICT": 3}


def test_free_text_is_no_class(pictures: Path, refuses: Refuses, make_png: Make, gradient: Draw) -> None:
    """Thirty images with thirty labels: the column is not what the recipe means."""
    for number in range(10, 30):
        (pictures / f"im{number}.png").write_bytes(make_png(gradient(number)))
    (pictures / "labels.csv").write_text(
        "file,label\n" + "".join(f"im{n}.png,report {n}\n" for n in range(30))
    )
    refuses({"format": "folder", "path": pictures, "labels": TABLE}, "30 different labels on 30 images")


def test_declared_classes_select_and_must_exist(pictures: Path, take_in: TakeIn, refuses: Refuses) -> None:
    """Other classes are left out without counting as faults; a declared class without images is an error."""
    (pictures / "labels.csv").write_text(
        "file,label\n" + "".join(f"im{n}.png,{'abc'[n % 3]}\n" for n in range(10))
    )
    source = {"format": "folder", "path": pictures, "labels": TABLE | {"classes": ["c", "a"]}}
    cohort = take_in(source, accept=0)
    assert cohort.label_names == ("c", "a")
    assert cohort.quarantine == {"NOT_SELECTED": 3}
    refuses(source | {"labels": TABLE | {"classes": ["a", "z"]}}, "no image of the declared class 'z'")


def test_other_sizes_without_a_rule(
    pictures: Path, take_in: TakeIn, refuses: Refuses, make_png: Make
) -> None:
    """One wide picture among squares: an error that names both sizes and the way out; with a rule it is
    taken in.
    """
    wide = np.random.default_rng(0).integers(0, 256, (8, 16), dtype=np.uint8)
    (pictures / "im5.png").write_bytes(make_png(wide))
    source = {"format": "folder", "path": pictures}
    refuses(source, r"16 x 8 px.*image\.fit to 'pad' or 'crop'")
    assert len(take_in(source, fit="pad").records) == 10


def test_links_and_special_files_are_refused(
    pictures: Path, take_in: TakeIn, refuses: Refuses, tmp_path: Path
) -> None:
    """A link out of the folder, a link to a folder, a loop and a pipe: a code each, nothing followed, no
    hang.
    """
    (tmp_path / "secret.png").write_bytes((pictures / "im0.png").read_bytes())
    (pictures / "out.png").symlink_to(tmp_path / "secret.png")
    (pictures / "loop").symlink_to(pictures)
    os.mkfifo(pictures / "pipe.png")
    cohort = take_in({"format": "folder", "path": pictures}, accept=0.5)
    assert cohort.quarantine == {"LINK_REFUSED": 2, "SPECIAL_FILE": 1}
    assert cohort.files == 13


def test_clutter_is_no_part_of_the_input(pictures: Path, take_in: TakeIn) -> None:
    """What operating systems strew about is neither an image nor a fault."""
    for name in (".DS_Store", "Thumbs.db", "._im0.png"):
        (pictures / name).write_bytes(b"x")
    assert take_in({"format": "folder", "path": pictures}).files == 10


@pytest.mark.parametrize(
    "source",
    [
        {"format": "folder", "path": "x", "patient": {"regex": "("}},
        {"format": "folder", "path": "x", "patient": {"column": "c"}},
        {"format": "folder", "path": "x", "attributes": ["age"], "labels": {"from": "folder"}},
        {"format": "folder", "path": "x", "labels": {"from": "file"}},
        {"format": "folder", "path": "x", "sise": 3},
        {"format": "folder"},
        {"format": "dicom", "path": "x", "patient": {"tag": "PatientName"}},
        {"format": "dicom", "path": "x", "labels": {"tag": "PatientID"}},
        {"format": "idx", "path": "x", "images": "only-images"},
        {"format": "digits", "path": "x"},
    ],
)
def test_settings_that_make_no_sense_are_refused(source: Source) -> None:
    """Unknown keys, broken expressions and contradictions are found before anything is read."""
    with pytest.raises(ValidationError):
        catalogue.load("phantomset.data.sources", source["format"]).Settings.model_validate(source)
