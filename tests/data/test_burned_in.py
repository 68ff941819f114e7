"""Text in pixels: devices with their masks, what is looked at, the rule, black boxes, and what is said when
nothing was looked at.

Most tests put a reader in place of the networks that "reads" a white bar in the upper left corner and a white
dot in the lower right one: so they hold the rule without the extra. What the networks themselves find:
test_reader.py.
"""

import json
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phantomset.data import catalogue
from phantomset.data.burned_in import reader
from phantomset.data.burned_in.reader import TextBox
from phantomset.data.burned_in.screen import BLACKENED, TextScreen, is_text, looks, screen_for, views
from phantomset.data.deidentify import DeidentifySettings
from phantomset.data.errors import SourceError
from phantomset.data.ingest import ingest, ingest_key
from phantomset.data.keys import pseudonym
from phantomset.data.pixels.canonical import ImageSettings
from phantomset.data.quarantine.ledger import Unfit
from phantomset.data.records import Cohort, RawImage
from phantomset.data.store.training_cache import image_set
from phantomset.data.workspace import Workspace

from .gate import held

Make = Callable[..., bytes]
NAME = TextBox((0.0, 0.0, 0.25, 0.125), 9, 0.9)
MARK = TextBox((0.9, 0.9, 1.0, 1.0), 1, 0.95)
CAPTURE, ULTRASOUND = "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.6.1"
RISKY: tuple[dict[str, object], ...] = (
    {"SOPClassUID": CAPTURE},
    {"SOPClassUID": ULTRASOUND, "Modality": "US"},
    {"Modality": "XA", "ImageType": ["DERIVED", "SECONDARY"]},
)


def _fake(picture: np.ndarray) -> list[TextBox]:
    name = [NAME] if (picture[1:3, 1:7] > 200).all() else []
    return [*name, *([MARK] if picture[-1, -1].min() > 250 else [])]


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that needs no networks."""
    monkeypatch.setattr(reader, "is_installed", lambda: True)
    monkeypatch.setattr(reader, "version", lambda: "reader 1")
    monkeypatch.setattr(reader, "hold_weights", lambda: None)
    monkeypatch.setattr(reader, "read", _fake)


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without the extra."""
    monkeypatch.setattr(reader, "is_installed", lambda: False)


def _picture(number: int, name: bool = False, mark: bool = False) -> np.ndarray:
    pixels = np.random.default_rng(number).integers(20, 180, (32, 32), dtype=np.uint16)
    if name:
        pixels[1:3, 1:7] = 255
    if mark:
        pixels[-1, -1] = 255
    return pixels.astype(np.uint16)


def _folder(place: Path, make_dicom: Make) -> Path:
    """Three plain images, one with a name in it, one with a mark."""
    place.mkdir()
    pictures = [*(_picture(n) for n in range(3)), _picture(3, name=True), _picture(4, mark=True)]
    for number, pixels in enumerate(pictures):
        plain = {"SOPInstanceUID": f"1.2.9.{number}", "PatientID": f"P{number}"}
        window = {"WindowCenter": 128, "WindowWidth": 256}
        (place / f"f{number}.dcm").write_bytes(make_dicom(pixels, **plain, **window))
    return place


def _take(folder: Path, workspace: Workspace, **rules: Any) -> Cohort:
    settings = catalogue.load("phantomset.data.sources", "dicom").Settings.model_validate(
        {"format": "dicom", "path": folder}
    )
    deidentify = DeidentifySettings.model_validate({"accept_quarantined_share": 1} | rules)
    return ingest(settings, ImageSettings(size_px=32), deidentify, workspace, workers=0)[0]


@pytest.mark.usefixtures("stand_in")
def test_text_keeps_a_file_out_and_marks_are_shown_first(
    tmp_path: Path, workspace: Workspace, make_dicom: Make
) -> None:
    """What was read is BURNED_IN_TEXT; a weaker mark is let in and listed; the cohort says "screened"."""
    cohort = _take(_folder(tmp_path / "in", make_dicom), workspace)
    assert cohort.quarantine == {"BURNED_IN_TEXT": 1}
    assert cohort.notes[0].startswith("Pixels were screened for burned-in text (reader 1)")
    (found,) = (json.loads(path.read_bytes()) for path in workspace.root.rglob("found.json"))
    images = {r.digest: image_set(workspace, cohort, [i]).images for i, r in enumerate(cohort.records)}
    assert [int(images[digest][0, 0, -1, -1]) for digest in found["weak_text"]] == [255]


@pytest.mark.usefixtures("stand_in")
def test_blackened_text_lets_a_file_in(tmp_path: Path, workspace: Workspace, make_dicom: Make) -> None:
    """The box (4 by 8 pixels) and half its height around it are 0 in the store, and counted."""
    cohort = _take(_folder(tmp_path / "in", make_dicom), workspace, burned_in_text="blacken")
    assert cohort.quarantine == {}
    assert cohort.dropped[BLACKENED] >= 1
    images = image_set(workspace, cohort, range(5)).images[:, 0]
    assert sum(bool((image[:6, :10] == 0).all()) for image in images) == 1
    assert all(image[:7, :11].any() for image in images)


def test_text_that_shines_through_is_kept_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image in which text is still read after the boxes are black is not let in."""
    monkeypatch.setattr(reader, "read", lambda _: [NAME])
    with pytest.raises(Unfit) as caught:
        TextScreen("blacken")(RawImage("a", np.full((32, 32), 0.5, dtype=np.float32), None, None))
    assert caught.value.code == "BURNED_IN_TEXT"


@pytest.mark.usefixtures("stand_in")
def test_a_name_on_one_frame_keeps_the_whole_file_out(
    tmp_path: Path, workspace: Workspace, make_dicom: Make
) -> None:
    """The other frames of that file are of the same patient, on the same screen."""
    folder = _folder(tmp_path / "in", make_dicom)
    frames = np.concatenate([_picture(10), _picture(11, name=True), _picture(12)])
    content = make_dicom(frames, Rows=32, NumberOfFrames=3, WindowCenter=128, WindowWidth=256, PatientID="P9")
    (folder / "cine.dcm").write_bytes(content)
    cohort = _take(folder, workspace)
    assert cohort.quarantine == {"BURNED_IN_TEXT": 2}
    assert cohort.files == 6


@pytest.mark.usefixtures("stand_in")
def test_a_person_can_let_a_file_in(tmp_path: Path, workspace: Workspace, make_dicom: Make) -> None:
    """A reviewed line with BURNED_IN_TEXT lets that file in as it is."""
    folder = _folder(tmp_path / "in", make_dicom)
    table = tmp_path / "reviewed.csv"
    table.write_text(f"path,code,reviewer\n{pseudonym('path', 'f3.dcm')},BURNED_IN_TEXT,data office\n")
    assert _take(folder, workspace, reviewed=table).quarantine == {}


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("kind", ["folder", "medmnist"])
def test_a_person_can_let_a_picture_in(
    kind: str, tmp_path: Path, workspace: Workspace, make_png: Make
) -> None:
    """Files of pictures and single images of an array too, by the name that the ledger has of them."""
    pictures = [_picture(n, name=n > 2).astype(np.uint8) for n in range(5)]
    path = tmp_path / ("in" if kind == "folder" else "in.npz")
    names = (
        [f"f{n}.png" for n in range(5)] if kind == "folder" else [f"train_images/{n:09d}" for n in range(5)]
    )
    if kind == "folder":
        path.mkdir()
        for name, pixels in zip(names, pictures, strict=True):
            (path / name).write_bytes(make_png(pixels))
    else:
        np.savez(path, train_images=np.stack(pictures), train_labels=np.arange(5)[:, None] % 2)
    source = {"format": kind, "path": path}
    settings = catalogue.load("phantomset.data.sources", kind).Settings.model_validate(source)
    table = tmp_path / "reviewed.csv"
    table.write_text(f"path,code,reviewer\n{pseudonym('path', names[3])},BURNED_IN_TEXT,data office\n")
    rules = {"accept_quarantined_share": 1, "burned_in_text": "quarantine", "reviewed": table}
    size, deidentify = ImageSettings(size_px=32), DeidentifySettings.model_validate(rules)
    cohort = ingest(settings, size, deidentify, workspace, workers=0)[0]
    assert cohort.quarantine == {"BURNED_IN_TEXT": 1}
    assert len(cohort.records) == 4


@pytest.mark.usefixtures("absent")
def test_without_the_reader_the_cohort_says_so(
    tmp_path: Path, workspace: Workspace, make_dicom: Make
) -> None:
    """Nothing is searched, everything is let in, and report and release say that pixels were not screened."""
    cohort = _take(_folder(tmp_path / "in", make_dicom), workspace)
    assert cohort.quarantine == {}
    assert cohort.notes[0].startswith("Pixels were not screened for burned-in text")


@pytest.mark.usefixtures("absent")
@pytest.mark.parametrize("action", ["quarantine", "blacken"])
def test_a_screen_that_is_asked_for_and_absent_is_an_error(
    action: str, tmp_path: Path, workspace: Workspace, make_dicom: Make
) -> None:
    """The recipe asks, the extra is not there: the message has the command, and nothing is read."""
    with pytest.raises(SourceError, match=r"pip install 'phantomset\[ocr\]'"):
        _take(_folder(tmp_path / "in", make_dicom), workspace, burned_in_text=action)
    assert not list(workspace.root.rglob("records.parquet"))


def test_a_cohort_knows_what_its_pixels_were_screened_by(
    tmp_path: Path, make_dicom: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not screened is one cohort, however it is said; each reader and each action is another."""
    folder = _folder(tmp_path / "in", make_dicom)
    settings = catalogue.load("phantomset.data.sources", "dicom").Settings(path=folder)

    def key(action: str) -> str:
        return ingest_key(settings, ImageSettings(size_px=32), DeidentifySettings(burned_in_text=action))

    monkeypatch.setattr(reader, "is_installed", lambda: False)
    keys = {key("auto"), key("off")}
    assert len(keys) == 1
    monkeypatch.setattr(reader, "is_installed", lambda: True)
    monkeypatch.setattr(reader, "hold_weights", lambda: None)
    for version in ("reader 1", "reader 2"):
        monkeypatch.setattr(reader, "version", lambda version=version: version)
        keys |= {key("quarantine"), key("auto"), key("blacken"), key("off")}
    assert len(keys) == 5


@pytest.mark.usefixtures("stand_in")
def test_arrays_are_screened_on_demand_only() -> None:
    """``auto`` leaves inputs of arrays alone; what is asked for by name is done for them too."""
    assert screen_for(DeidentifySettings(), of_files=False) is None
    assert screen_for(DeidentifySettings(), of_files=True) == TextScreen("quarantine")
    asked = DeidentifySettings(burned_in_text="blacken")
    assert screen_for(asked, of_files=False) == TextScreen("blacken")


def test_views_show_what_a_window_hides() -> None:
    """As shown; all stored values, 0 to 255; the lowest and highest
    hundredth alone, the rest grey 128.
    """
    shown = np.array([[0, 1, 1, 1]] * 32, dtype=np.float32)
    stored = np.array([[0.0, 0.5, 0.985, 1.0]] * 32, dtype=np.float32)
    seen = views(RawImage("a", shown, None, None, stored=lambda: stored))
    assert [view[0].tolist() for view in seen] == [[0, 255, 255, 255], [0, 128, 251, 255], [0, 128, 128, 255]]
    assert len(list(views(RawImage("a", np.full((8, 8), 0.5, dtype=np.float32), None, None)))) == 1


def test_the_ground_is_taken_away() -> None:
    """On a ramp from 20 to 210, faint letters stand out two and a half times as far; the ramp is gone."""
    picture = np.repeat(np.linspace(20, 210, 128, dtype=np.float32)[None], 128, axis=0) / 255
    picture[60:64, 60:63] += 30 / 255
    flat = next(looks(RawImage("a", picture, None, None)))[0].astype(int)
    ramp = np.delete(flat, slice(40, 84), axis=0)[:, 20:-20]
    assert np.abs(ramp - 128).max() <= 3
    assert flat[60:64, 60:63].min() > 128 + 0.7 * 2.5 * 30


@pytest.mark.parametrize(
    ("characters", "confidence", "expected"), [(3, 0.5, True), (2, 0.99, False), (9, 0.49, False)]
)
def test_three_characters_at_half_confidence_are_text(
    characters: int, confidence: float, expected: bool
) -> None:
    """The letter of a side is a mark, and so is what the reader is not sure of."""
    assert is_text(replace(NAME, characters=characters, confidence=confidence)) is expected


def test_an_alarm_stands_still_while_text_is_sought(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time that a worker has for decoding is not spent on reading, and goes on afterwards."""
    during: list[float] = []

    def look(picture: np.ndarray) -> list[TextBox]:
        during.append(signal.getitimer(signal.ITIMER_REAL)[0])
        return _fake(picture)

    before = signal.signal(signal.SIGALRM, signal.SIG_IGN)
    monkeypatch.setattr(reader, "read", look)
    signal.setitimer(signal.ITIMER_REAL, 50)
    try:
        TextScreen("quarantine")(RawImage("a", _picture(1).astype(np.float32) / 255, None, None))
        left = signal.getitimer(signal.ITIMER_REAL)[0]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert min(during) > 50
    assert 0 < left <= 50


@pytest.mark.parametrize("elements", RISKY, ids=["SC", "US", "XA"])
@pytest.mark.parametrize(
    ("mask", "declared"), [([[0, 0, 1, 0.1]], ""), ("none", "BURNED_IN_DECLARED")], ids=["mask", "none"]
)
def test_only_a_device_that_is_named_with_its_mask_comes_in(
    elements: dict[str, object], mask: object, declared: str, make_dicom: Make
) -> None:
    """Manufacturer and model, in any case, both: then what often carries text comes in. A header's YES does
    so behind rectangles alone: it belies a recipe that says that the device burns in nothing.
    """
    named = DeidentifySettings.model_validate(
        {"devices": [{"manufacturer": "Acme", "model": "Sono 5", "mask": mask}]}
    )
    ours = {**elements, "Manufacturer": "ACME", "ManufacturerModelName": "SONO 5"}
    assert held(make_dicom(**ours)) == "BURNED_IN_RISK"
    assert held(make_dicom(**ours), named) == ""
    assert held(make_dicom(**ours, BurnedInAnnotation="YES"), named) == declared
    for other in ({"ManufacturerModelName": "Sono 50"}, {"Manufacturer": "Acme B"}, {"Manufacturer": None}):
        assert held(make_dicom(**ours | other), named) == "BURNED_IN_RISK"


@pytest.mark.parametrize(
    ("devices", "message"),
    [
        ([{"manufacturer": "A", "model": "B"}], "mask"),
        ([{"manufacturer": "A", "model": "B", "mask": []}], "mask"),
        ([{"manufacturer": "A", "model": "B", "mask": "all"}], "or the word none"),
        ([{"manufacturer": "A", "model": "B", "mask": [[0.5, 0, 0.5, 1]]}], "a box is left, top"),
        ([{"manufacturer": "A", "model": "", "mask": "none"}], "model"),
        ([{"manufacturer": "A", "model": n, "mask": "none"} for n in "bB"], "stands there twice"),
    ],
    ids=["no mask", "empty mask", "other word", "flat box", "no model", "twice"],
)
def test_devices_that_make_no_sense(devices: list[dict[str, object]], message: str) -> None:
    """A device is named whole, once, with rectangles or with the word that it burns in nothing."""
    with pytest.raises(ValueError, match=message):
        DeidentifySettings.model_validate({"devices": devices})


def test_no_setting_lets_risky_classes_in_all_together() -> None:
    """There is no switch for them: a recipe that has one is refused."""
    with pytest.raises(ValueError, match="accept_screens"):
        DeidentifySettings.model_validate({"accept_screens": True})
