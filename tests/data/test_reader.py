"""The networks of the extra [ocr]: what they find and what not, on their own, as a screen, and in an ingest.

`make test-ocr` fetches the extra and runs these; without it they are skipped. A benchmark has the curve over
contrasts and sizes (tests/benchmarks/burned_in.py), these a few pictures of it.
"""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pydicom
import pytest
from PIL import Image, ImageDraw, ImageFont
from pydicom.data import get_testdata_file

from phantomset.data.burned_in import reader
from phantomset.data.burned_in.screen import TextScreen, is_text
from phantomset.data.deidentify import DeidentifySettings
from phantomset.data.errors import SourceError
from phantomset.data.ingest import ingest
from phantomset.data.phantoms.cohort import phantoms
from phantomset.data.pixels.canonical import ImageSettings
from phantomset.data.records import RawImage
from phantomset.data.sources.dicom import Settings
from phantomset.data.workspace import Workspace

pytestmark = pytest.mark.skipif(not reader.is_installed(), reason=f"the extra [ocr]: {reader.INSTALL}")

_SCRIPT = Path(__file__).parents[1] / "benchmarks" / "burned_in.py"
GROUNDS = 24


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    """The benchmark's own drawing and question."""
    spec = importlib.util.spec_from_file_location("burned_in", _SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def grounds() -> list[np.ndarray]:
    """Pictures without text: a CT and an MR slice of pydicom's, and chest films that nobody ever had."""
    films = phantoms(GROUNDS, seed=3, size_px=128)[0][: GROUNDS - 2, 0]
    slices = [
        pydicom.dcmread(str(get_testdata_file(f"{kind}_small.dcm"))).pixel_array for kind in ("CT", "MR")
    ]
    ends = [np.percentile(pixels, (0.5, 99.5)) for pixels in slices]
    shown = [np.clip((p - low) / (high - low), 0, 1) for p, (low, high) in zip(slices, ends, strict=True)]
    return [*films, *(np.rint(unit * 255).astype(np.uint8) for unit in shown)]


def _drawn(text: str, size_px: int, grey: int, ground: int = 90) -> np.ndarray:
    picture = Image.new("L", (384, 192), ground)
    ImageDraw.Draw(picture).text((40, 60), text, fill=grey, font=ImageFont.load_default(size_px))
    return np.asarray(picture)


@pytest.mark.parametrize(("size_px", "grey"), [(12, 150), (24, 30)])
def test_drawn_text_is_read_bright_and_dark(size_px: int, grey: int) -> None:
    """60 grey levels above and below the ground: the whole of "MILLER 19470312" is read where it stands."""
    (found,) = filter(is_text, reader.read(_drawn("MILLER 19470312", size_px, grey)))
    assert found.characters == 14
    assert abs(found.box[0] * 384 - 40) < 8
    assert 50 < found.box[1] * 192 < 60 + size_px


def test_a_side_letter_is_no_text() -> None:
    """A single R is a mark; a plain ground is nothing."""
    assert not any(map(is_text, reader.read(_drawn("R", 30, 250))))
    assert reader.read(_drawn("", 30, 250)) == []


def test_nearly_all_text_of_40_grey_levels_is_found(benchmark: ModuleType, grounds: list[np.ndarray]) -> None:
    """Names, dates and numbers of 8 to 32 px, brighter and darker than what they stand on: 19 in 20."""
    found: list[bool] = []
    for number, ground in enumerate(grounds):
        size, sign = benchmark.SIZES[number % 6], 1 if number // 6 % 2 else -1
        chance = np.random.default_rng([1, number])
        drawn = benchmark.drawn(ground, 40, size, sign, chance)
        picture = benchmark.drawn(ground, 40, size, -sign, chance) if drawn is None else drawn
        found.append(benchmark.is_found(picture))
    assert np.mean(found) >= 0.95


@pytest.mark.parametrize("side", [512, 1536, 4000])
def test_text_is_found_in_pictures_of_any_size(
    benchmark: ModuleType, grounds: list[np.ndarray], side: int
) -> None:
    """A name, a date, a number of 8 to 100 px, 40 grey levels off what they stand on, in pictures of 512 to
    4,000 pixels: all of six.
    """
    for number, size in enumerate((8, 12, 16, 24, 32, 100)):
        chance = np.random.default_rng([2, number, side])
        picture = benchmark.drawn(grounds[number], 40, min(size, side // 12), 1, chance, side)
        assert picture is not None
        assert benchmark.is_found(picture), size


def test_text_in_a_large_picture_is_blackened(benchmark: ModuleType, grounds: list[np.ndarray]) -> None:
    """All of it and weaker marks, at most a twentieth of the picture: nothing is read there afterwards."""
    ground = _enlarged(grounds[0], 1536)
    picture = benchmark.drawn(grounds[0], 80, 24, 1, np.random.default_rng(5), 1536)
    screened = TextScreen("blacken")(RawImage("", picture.astype(np.float32) / 255, None, None)).pixels
    drawn = picture != ground
    assert (screened[drawn] == 0).mean() > 0.99
    assert (screened == 0).mean() - (picture == 0).mean() < 0.05
    assert not benchmark.is_found(np.rint(screened * 255).astype(np.uint8))


def test_no_text_is_seen_where_there_is_none(benchmark: ModuleType, grounds: list[np.ndarray]) -> None:
    """The same pictures, before anything is drawn: one alarm in 100 is allowed, so none in these few."""
    alarms = [n for n, ground in enumerate(grounds) if benchmark.is_found(_enlarged(ground, benchmark.SIDE))]
    assert alarms == []


def test_a_name_is_kept_out_of_an_ingest(
    tmp_path: Path, workspace: Workspace, make_dicom: Callable[..., bytes]
) -> None:
    """In a worker, with its limits of memory and time: the file with a name in its pixels, and no other."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number, text in enumerate(("", "R", "OKAFOR JOHN 1961-04-30")):
        about = {"SOPInstanceUID": f"1.2.9.{number}", "PatientID": f"P{number}"}
        pixels = _drawn(text, 24, 200).astype(np.uint16) + np.arange(384, dtype=np.uint16) // 16
        window = {"WindowCenter": 128, "WindowWidth": 256}
        (folder / f"f{number}.dcm").write_bytes(make_dicom(pixels, **about, **window))
    rules = DeidentifySettings(accept_quarantined_share=1, burned_in_text="quarantine")
    size = ImageSettings(size_px=64, fit="pad")
    cohort = ingest(Settings(path=folder), size, rules, workspace, workers=1)[0]
    assert cohort.quarantine == {"BURNED_IN_TEXT": 1}
    assert len(cohort.records) == 2


def test_other_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The networks are pinned by SHA-256; what was not measured does not read."""
    reader.hold_weights()
    monkeypatch.setitem(reader.WEIGHTS, "PP-OCRv6_det_small.onnx", "0" * 64)
    with pytest.raises(SourceError, match="another digest"):
        reader.hold_weights()


def _enlarged(ground: np.ndarray, side: int) -> np.ndarray:
    return np.asarray(Image.fromarray(ground).resize((side, side), Image.Resampling.BICUBIC))
