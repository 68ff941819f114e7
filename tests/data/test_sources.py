"""The contract that every source keeps, and what each reads from a fixture of its own."""

import gzip
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from phantomset.data import catalogue
from phantomset.data.deidentify import DeidentifySettings
from phantomset.data.errors import SourceError
from phantomset.data.file_source import FileSource
from phantomset.data.ingest import ingest
from phantomset.data.inputs import require
from phantomset.data.keys import pseudonym
from phantomset.data.pixels.canonical import ImageSettings
from phantomset.data.reading.tree import read_file
from phantomset.data.records import Cohort, RawImage
from phantomset.data.source import ReadContext, Source
from phantomset.data.store.training_cache import image_set
from phantomset.data.workspace import Workspace

SOURCES = catalogue.names("phantomset.data.sources")
Make = Callable[..., bytes]
Draw = Callable[[int], np.ndarray]
NAMED = "canary"


def _idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}L", *array.shape) + array.tobytes()


@pytest.fixture
def sample(
    tmp_path: Path, make_png: Make, make_dicom: Make, gradient: Draw
) -> Callable[[str], dict[str, Any]]:
    """Write the same six pictures in a source's format; the folder carries a name that must not get
    through.
    """
    images = np.stack([gradient(number) for number in range(6)])
    labels = np.arange(6) % 2

    def write(kind: str) -> dict[str, Any]:
        place = tmp_path / f"{NAMED}_{kind}"
        place.mkdir()
        if kind == "digits":
            return {"format": kind}
        if kind == "medmnist":
            np.savez(
                place / f"{NAMED}.npz",
                **{"train_images": images[:3], "train_labels": labels[:3, None]},
                **{"test_images": images[3:], "test_labels": labels[3:, None]},
            )
            return {"format": kind, "path": place / f"{NAMED}.npz"}
        if kind == "idx":
            for name, rows in (("train", slice(0, 4)), ("t10k", slice(4, 6))):
                (place / f"{name}-images-idx3-ubyte.gz").write_bytes(gzip.compress(_idx(images[rows])))
                (place / f"{name}-labels-idx1-ubyte").write_bytes(_idx(labels[rows].astype(np.uint8)))
            return {"format": kind, "path": place}
        for number in (4, 1, 5, 0, 3, 2):
            name = f"{NAMED}{number}"
            stored = images[number].astype(np.uint16)
            if kind == "folder":
                content = make_png(images[number])
            elif kind == "nifti":
                content = nibabel.Nifti1Image(images[number].T, None, dtype=np.uint8).to_bytes()
            else:
                content = make_dicom(stored, PatientID=name, WindowCenter=128, WindowWidth=256)
            (place / f"{name}.bin").write_bytes(content)
        rows = "".join(f"{NAMED}{number}.bin,{labels[number]}\n" for number in range(6))
        (place / "labels.csv").write_text("file,label\n" + rows)
        return {
            "format": kind,
            "path": place,
            "labels": {"table": "labels.csv", "key": "file", "column": "label"},
            **({"window": (127.5, 255)} if kind == "nifti" else {}),
        }

    return write


def _load(source: dict[str, Any]) -> tuple[Source | FileSource, Any]:
    found: Source | FileSource = catalogue.load("phantomset.data.sources", source["format"])
    return found, found.Settings.model_validate(source)


def _items(source: Source | FileSource, settings: Any) -> list[RawImage]:
    """All images that a source yields, whichever contract it keeps."""
    context = ReadContext()
    if isinstance(source, Source):
        return [item for item in source.read(settings, context) if isinstance(item, RawImage)]
    tree, listed = source.files(settings, context)
    return [
        replace(item, key=each.member.key + item.key)
        for each in listed
        for item in source.decode(tree.read(each.member), settings, context, each.waived)
    ]


def _ingest(source: dict[str, Any], workspace: Workspace) -> Cohort:
    return ingest(_load(source)[1], ImageSettings(size_px=8), DeidentifySettings(), workspace)[0]


@pytest.mark.parametrize("kind", SOURCES)
def test_reads_its_fixture_in_an_order_of_its_own(kind: str, sample: Callable[[str], dict[str, Any]]) -> None:
    """One item a file, sorted by key, pixels float32 in [0, 1]; twice the same, and the fingerprint holds
    still.
    """
    source, settings = _load(sample(kind))
    items = _items(source, settings)
    assert len(items) == (1797 if kind == "digits" else 6)
    assert all(
        item.pixels.dtype == np.float32 and 0 <= item.pixels.min() <= item.pixels.max() <= 1 for item in items
    )
    again = _items(source, settings)
    assert [item.key for item in items] == [item.key for item in again]
    assert len({item.key for item in items}) == len(items)
    assert source.fingerprint(settings) == source.fingerprint(settings)


@pytest.mark.parametrize("kind", [kind for kind in SOURCES if kind != "digits"])
def test_the_same_pictures_give_the_same_records(
    kind: str, sample: Callable[[str], dict[str, Any]], workspace: Workspace, gradient: Draw
) -> None:
    """Whatever the format, picture n arrives to the bit with label n mod 2."""
    cohort = _ingest(sample(kind), workspace)
    found = image_set(workspace, cohort, range(len(cohort.records)))
    by_bytes = {
        image[0].tobytes(): cohort.label_names[label]
        for image, label in zip(found.images, found.labels, strict=True)
    }
    assert by_bytes == {gradient(number).tobytes(): str(number % 2) for number in range(6)}


@pytest.mark.parametrize("kind", SOURCES)
def test_planted_names_never_reach_the_workspace(
    kind: str, sample: Callable[[str], dict[str, Any]], workspace: Workspace
) -> None:
    """The name in the paths and headers is in no byte of what ingest wrote."""
    _ingest(sample(kind), workspace)
    for path in workspace.root.rglob("*"):
        assert NAMED not in str(path.relative_to(workspace.root)).lower()
        assert not path.is_file() or NAMED.encode() not in path.read_bytes().lower()


@pytest.mark.parametrize("kind", [kind for kind in SOURCES if kind != "digits"])
def test_refuses_a_broken_and_an_empty_input(kind: str, tmp_path: Path, workspace: Workspace) -> None:
    """An input error, for a file of rubbish and for an empty folder."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "rubbish").write_bytes(b"\x00rubbish" * 99)
    for place in ("empty", "rubbish"):
        with pytest.raises(SourceError):
            _ingest({"format": kind, "path": tmp_path / place}, workspace)


@pytest.mark.parametrize("kind", [kind for kind in SOURCES if kind != "digits"])
def test_an_input_is_asked_for_before_it_is_read(
    kind: str, sample: Callable[[str], dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is missing or empty is told at the door; of files that are there none is read, but their table."""
    read: list[str] = []

    def noting(path: Path, *more: Any) -> bytes:
        read.append(path.name)
        return read_file(path, *more)

    monkeypatch.setattr("phantomset.data.reading.tree.read_file", noting)
    source, settings = _load(sample(kind))
    require(settings)
    assert read == (["labels.csv"] if isinstance(source, FileSource) else [])
    (tmp_path / "empty").mkdir()
    for place in ("empty", "gone"):
        with pytest.raises(SourceError):
            require(_load({"format": kind, "path": tmp_path / place})[1])


@pytest.mark.parametrize("kind", SOURCES)
def test_settings_survive_being_written_down(kind: str, sample: Callable[[str], dict[str, Any]]) -> None:
    """A recipe with its defaults filled in, as it lies beside a run, reads back as the same settings."""
    _, settings = _load(sample(kind))
    assert type(settings).model_validate(settings.model_dump(mode="json")) == settings


def test_folder_labels_survive_being_written_down() -> None:
    """`from` is a word of Python, and still the recipe's key."""
    _, settings = _load({"format": "folder", "path": "x", "labels": {"from": "folder"}})
    assert settings.model_dump(mode="json")["labels"] == {"from": "folder", "classes": None}
    assert type(settings).model_validate(settings.model_dump(mode="json")) == settings


@pytest.mark.parametrize(
    ("regex", "path", "patient"),
    [
        (r"(person\d+)_([a-z]+)", "train/person12_virus_7.png", "PERSON12|VIRUS"),
        (r"person\d+", "train/person12_virus_7.png", "PERSON12"),
        (r"p(\d+)|q(\d+)", "a/q7.png", "7"),
        (r"^([^/]+)/", "p17/a.png", "P17"),
    ],
)
def test_patient_by_regular_expression(
    regex: str, path: str, patient: str, tmp_path: Path, workspace: Workspace, make_png: Make, gradient: Draw
) -> None:
    """The groups of the first match, joined, name the patient; without groups the whole match does."""
    (tmp_path / "in" / path).parent.mkdir(parents=True)
    (tmp_path / "in" / path).write_bytes(make_png(gradient(0)))
    cohort = _ingest({"format": "folder", "path": tmp_path / "in", "patient": {"regex": regex}}, workspace)
    assert cohort.records[0].subject == pseudonym("patient", f"\0{patient}")


def test_patient_and_attributes_by_column(
    tmp_path: Path, workspace: Workspace, make_png: Make, gradient: Draw
) -> None:
    """A column names the patient, others become attributes; a date in one of them is dropped and counted."""
    (tmp_path / "in").mkdir()
    rows = ["file,label,who,age,seen"]
    for number in range(40):
        (tmp_path / "in" / f"{number}.png").write_bytes(make_png(gradient(number)))
        who, seen = f"W{number // 2 if number else ''}", "19540312" if number % 2 else "AP"
        rows.append(f"{number}.png,{number % 2},{who},{number},{seen}")
    (tmp_path / "in" / "t.csv").write_text("\n".join(rows))
    source = {
        "format": "folder",
        "path": tmp_path / "in",
        "labels": {"table": "t.csv", "key": "file", "column": "label"},
        "patient": {"column": "who"},
        "attributes": ["age", "seen"],
    }
    cohort = _ingest(source, workspace)
    assert cohort.has_patients
    assert len({record.subject for record in cohort.records}) == 21  # W, and W0 to W19
    assert {record.attributes["age"] for record in cohort.records} == {str(number) for number in range(40)}
    assert sum("seen" in record.attributes for record in cohort.records) == 20
    assert cohort.dropped == {"cells that are no short word or number": 20}


def test_a_file_whose_patient_is_not_found_is_quarantined(
    tmp_path: Path, workspace: Workspace, make_png: Make, gradient: Draw
) -> None:
    """A regular expression that does not match names nobody."""
    (tmp_path / "in").mkdir()
    for number in range(30):
        (tmp_path / "in" / f"{'p' if number else 'x'}{number}.png").write_bytes(make_png(gradient(number)))
    cohort = _ingest({"format": "folder", "path": tmp_path / "in", "patient": {"regex": r"^p\d+"}}, workspace)
    assert cohort.quarantine == {"NO_PATIENT": 1}


def test_include_narrows_the_input(
    tmp_path: Path, workspace: Workspace, make_png: Make, gradient: Draw
) -> None:
    """Files that the pattern leaves out are no part of the input, and not counted."""
    for number in range(6):
        place = tmp_path / "in" / ("train" if number < 4 else "test") / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(make_png(gradient(number)))
    source = {"format": "folder", "path": tmp_path / "in"}
    assert _ingest(source | {"include": "train/*"}, workspace).files == 4
    with pytest.raises(SourceError, match=r"source\.include"):
        _ingest(source | {"include": "valid/*"}, workspace)


def test_named_labels_keep_their_order(tmp_path: Path, workspace: Workspace) -> None:
    """Label 0 is the first name, also where the alphabet says otherwise; colour is read as height, width,
    channel.
    """
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "in.npz", val_images=images, val_labels=np.arange(6)[:, None] % 2)
    _, settings = _load({"format": "medmnist", "path": tmp_path / "in.npz", "label_names": ["zebra", "ant"]})
    cohort = ingest(settings, ImageSettings(size_px=8, channels=3), DeidentifySettings(), workspace)[0]
    found = image_set(workspace, cohort, range(6))
    assert cohort.label_names == ("zebra", "ant")
    by_bytes = {image.tobytes(): label for image, label in zip(found.images, found.labels, strict=True)}
    assert by_bytes == {image.transpose(2, 0, 1).tobytes(): i % 2 for i, image in enumerate(images)}


def test_digits_are_scikit_learns(workspace: Workspace) -> None:
    """1,797 images, 8 x 8, 16 is white; class counts as the set's description gives them."""
    cohort = _ingest({"format": "digits"}, workspace)
    counts = np.bincount([record.label for record in cohort.records])
    assert counts.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert not cohort.has_patients
    assert image_set(workspace, cohort, range(9)).images.max() == 255


def test_dicom_label_from_the_header(
    tmp_path: Path, workspace: Workspace, make_dicom: Make, gradient: Draw
) -> None:
    """An allow-listed element may be the label; a file without it has none."""
    (tmp_path / "in").mkdir()
    for number in range(6):
        view = ("PA", "AP", None)[number % 3]
        content = make_dicom(gradient(number).astype(np.uint16), PatientID=f"p{number}", ViewPosition=view)
        (tmp_path / "in" / f"{number}").write_bytes(content)
    source = {"format": "dicom", "path": tmp_path / "in", "labels": {"tag": "ViewPosition"}}
    _, settings = _load(source)
    cohort = ingest(
        settings, ImageSettings(size_px=8), DeidentifySettings(accept_quarantined_share=1), workspace
    )[0]
    assert cohort.label_names == ("AP", "PA")
    assert cohort.quarantine == {"NO_LABEL": 2}
