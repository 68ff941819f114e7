"""`phantomset audit`: sets made anywhere, judged as a run's are; bad input is exit 2 or INCONCLUSIVE."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from phantomset.data import catalogue
from phantomset.data.errors import SourceError
from phantomset.data.outside import read_set
from phantomset.data.workspace import Workspace
from phantomset.pipelines.cli import call
from phantomset.pipelines.judgement import auditing
from phantomset.pipelines.releases import release
from phantomset.pipelines.report import marks
from phantomset.validators.finding import Finding

from .drafts import draft, images

SIDE = 16
FORMS = catalogue.names("phantomset.pipelines.publishers")


def grains(count: int, seed: int) -> np.ndarray:
    """Return images ``(N, 16, 16)`` of noise: no two alike."""
    return np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE), dtype=np.uint8)


def write(path: Path, images: np.ndarray, first: int | None = None) -> Path:
    arrays = {"images": images, "labels": np.array(["x", "y"])[np.arange(len(images)) % 2]}
    if first is not None:
        arrays["patients"] = np.array([f"p{first + n // 2}" for n in range(len(images))])
    np.savez(path, **arrays)
    return path


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Path]:
    """Three sets with two images a patient: 30 patients in train, 45 in holdout, 20 synthetic images."""
    return {
        "synthetic": write(tmp_path / "synthetic.npz", grains(20, 0)),
        "train": write(tmp_path / "train.npz", grains(60, 1), 0),
        "holdout": write(tmp_path / "holdout.npz", grains(90, 2), 100),
    }


def audited(places: dict[str, Path], **more: Path) -> auditing.Audited:
    request = auditing.Request(**places, **more)
    return auditing.audit(request, places["train"].parent / "out", lambda _: None)


def evidence_of(places: dict[str, Path], judges: Any, **more: Path) -> Any:
    audited(places, **more)
    return judges.evidence


@pytest.mark.parametrize(("answer", "code"), [("PASS", 0), ("FAIL", 3), ("INCONCLUSIVE", 4)])
def test_the_exit_code_is_the_verdict(
    places: dict[str, Path], judges: Any, answer: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """0, 3 or 4; one JSON object; the report for its owner alone, and the coarse verdict beside it."""
    judges.answer = answer
    options = [f"--{name}={path}" for name, path in places.items()]
    out = places["train"].parent / "report"
    assert call(["audit", *options, f"--out={out}", "--json"]) == code
    told = json.loads(capsys.readouterr().out)
    assert (told["verdict"], told["exit_code"]) == (answer, code)
    assert (out / "report.html").stat().st_mode & 0o077 == 0
    assert json.loads((out / "verdict.json").read_text())["status"] == answer


def test_an_audits_pairs_can_be_marked(
    places: dict[str, Path], judges: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """`mark` takes the audit's folder, without a workspace; another audit into it has marks of its own."""
    pair = Finding("copies", "p", "privacy", "FAIL", details={"pairs": {"hp": [(3, 5, 0.4)]}})
    judges.more = (pair,)
    out = audited(places).report.parent
    assert call(["mark", str(out), "hp-1", "copy", "--by", "A. Reader"]) == 0
    assert call(["mark", str(out), "hp-2", "copy", "--by", "A. Reader"]) == 2
    assert call(["mark", str(out), "--json"]) == 0
    (line,) = json.loads(capsys.readouterr().out.splitlines()[-1])["marks"]
    assert (line["pair"], line["mark"], line["by"]) == ("hp-1", "copy", "A. Reader")
    assert {path.stat().st_mode & 0o077 for path in out.glob("*s*.json*") if path.name != "verdict.json"} == {
        0
    }
    judges.answer = "FAIL"
    audited(places)
    assert call(["mark", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["marks"] == []
    (out / marks.LIST).write_text("{}")
    assert call(["mark", str(out), "hp-1", "copy", "--by", "A. Reader"]) == 2


def test_a_reference_is_taken_from_the_holdout(places: dict[str, Path], judges: Any) -> None:
    """A third of its patients, whole; the report says so. With a reference of one's own nothing is taken."""
    parts = evidence_of(places, judges)
    holdout, reference = set(parts.holdout.patients), set(parts.reference.patients)
    assert (len(holdout), len(reference)) == (30, 15)
    assert not holdout & reference
    assert parts.has_patients
    own = write(places["train"].parent / "reference.npz", grains(40, 5), 300)
    parts = evidence_of(places, judges, reference=own)
    assert (len(np.unique(parts.holdout.patients)), len(np.unique(parts.reference.patients))) == (45, 20)


def test_without_patients_near_duplicates_are_one(places: dict[str, Path], judges: Any) -> None:
    """Images count as patients, twins as one; the report says that figures may be too favourable."""
    images = grains(60, 1)
    images[1] = np.clip(images[0].astype(int) + 2, 0, 255)
    write(places["train"], images)
    done = audited(places)
    patients = judges.evidence.train.patients
    assert len(np.unique(patients)) == 59
    assert patients[0] == patients[1]
    assert not judges.evidence.has_patients
    assert auditing.NO_PATIENTS in done.draft.notes


@pytest.mark.parametrize("shared", [1, 60], ids=["one picture", "all of it"])
@pytest.mark.parametrize("first", [None, 500], ids=["no patients", "other names"])
def test_a_holdout_that_is_the_training_set_is_inconclusive(
    places: dict[str, Path], judges: Any, first: int | None, shared: int
) -> None:
    """H a noisy copy of T, one picture of it or all, without patients or under other names: the twins on
    both sides are found, told with what to do, and nothing passes.
    """
    train, noise = grains(60, 1), np.random.default_rng(6).normal(0, 4, (shared, SIDE, SIDE))
    twins = np.clip(np.rint(train[:shared] + noise), 0, 255).astype(np.uint8)
    assert not (twins == train[:shared]).all(axis=(1, 2)).any()
    write(places["train"], train, None if first is None else 0)
    write(places["holdout"], np.concatenate([twins, grains(60, 9)]), first)
    verdict = audited(places).verdict
    assert verdict.status == "INCONCLUSIVE"
    (reason,) = (reason for reason in verdict.reasons if "near-duplicates lie in two" in reason)
    assert f"{shared} near-duplicates" in reason
    assert "Put all images of a person into one set" in reason


def test_images_of_a_kind_that_cannot_be_told_apart(places: dict[str, Path], judges: Any) -> None:
    """One picture with a little noise, sixty times: without patients nobody knows who is who, and nothing
    passes; where somebody says who is who, the report says what was not looked for.
    """
    noise = np.random.default_rng(6).normal(0, 4, (60, SIDE, SIDE))
    alike = np.clip(np.rint(grains(1, 1) + noise), 0, 255).astype(np.uint8)
    write(places["train"], alike)
    verdict = audited(places).verdict
    assert verdict.status == "INCONCLUSIVE"
    assert any("name the patients" in reason for reason in verdict.reasons)
    write(places["train"], alike, 0)
    done = audited(places)
    assert done.verdict.status == "PASS"
    assert any("among equal ones alone" in note for note in done.draft.notes)


def test_a_patient_on_both_sides_is_inconclusive(places: dict[str, Path]) -> None:
    """The same names in T and H: no split, told before anything is computed."""
    write(places["holdout"], grains(90, 2), 20)
    verdict = audited(places).verdict
    assert verdict.status == "INCONCLUSIVE"
    assert any("10 patients are in two parts" in reason for reason in verdict.reasons)


def test_a_set_that_was_not_seen_whole_never_passes(places: dict[str, Path], judges: Any) -> None:
    """A blank real image, or a file that cannot be read: INCONCLUSIVE, with the number."""
    images = grains(60, 1)
    images[5] = 7
    write(places["train"], images, 0)
    verdict = audited(places).verdict
    assert verdict.status == "INCONCLUSIVE"
    assert any("1 images of the train set are of one grey" in reason for reason in verdict.reasons)
    assert len(judges.evidence.train) == 59


@pytest.mark.parametrize(("form", "count"), [("folder", 10_000), ("zip", 200)])
def test_one_corrupt_file_among_many(places: dict[str, Path], judges: Any, form: str, count: int) -> None:
    """Pictures with an index, one cut short: the others are judged, and nothing passes."""
    folder = places["train"].with_suffix("")
    folder.mkdir()
    rows = ["file_name,label,patient"]
    for number, image in enumerate(grains(count, 7)):
        Image.fromarray(image).save(folder / f"{number}.png", compress_level=0)
        rows.append(f"{number}.png,{'xy'[number % 2]},p{number}")
    (folder / "index.csv").write_text("\n".join(rows))
    broken = folder / f"{count // 2}.png"
    broken.write_bytes(broken.read_bytes()[:60])
    places["train"] = folder
    if form == "zip":
        places["train"] = Path(shutil.make_archive(str(folder), "zip", folder))
    verdict = audited(places).verdict
    assert verdict.status == "INCONCLUSIVE"
    (reason,) = (reason for reason in verdict.reasons if "could not be read" in reason)
    assert "1 files of the train set could not be read" in reason
    assert "Mend or remove" in reason
    assert len(judges.evidence.train) == count - 1


def test_real_images_are_brought_to_the_size_of_the_set(places: dict[str, Path], judges: Any) -> None:
    """32 px become 16 px and grey becomes colour where the set is so; another ratio is refused."""
    write(places["holdout"], np.random.default_rng(3).integers(0, 256, (90, 32, 32), dtype=np.uint8), 100)
    colour = np.random.default_rng(4).integers(0, 256, (20, SIDE, SIDE, 3), dtype=np.uint8)
    write(places["synthetic"], colour)
    parts = evidence_of(places, judges)
    assert parts.holdout.images.shape[1:] == parts.synthetic.images.shape[1:] == (3, SIDE, SIDE)
    assert np.array_equal(parts.synthetic.images, colour.transpose(0, 3, 1, 2))
    write(places["holdout"], np.random.default_rng(3).integers(0, 256, (90, 32, 20), dtype=np.uint8), 100)
    with pytest.raises(SourceError, match=r"^--holdout: image: found an image of 20 x 32"):
        audited(places)


@pytest.mark.parametrize("splits", [{}, {"train": 0.8, "test": 0.2}], ids=["whole", "divided"])
@pytest.mark.parametrize("channels", [1, 3], ids=["grey", "colour"])
@pytest.mark.parametrize("form", FORMS)
def test_a_release_can_be_audited(form: str, channels: int, splits: dict[str, float], tmp_path: Path) -> None:
    """All of it is read, by whichever form it has, though each file says that a model made it; as real images
    it is still refused.
    """
    made = images(30, 1, ("a/b", "nodule", "normal"), channels)
    folder = released(tmp_path, made, form, splits)
    found = read_set(folder, "synthetic")
    pixels = [np.rint(image * 255).astype(np.uint8).tobytes() for image in found.images]
    expected = [image.transpose(1, 2, 0).tobytes() for image in made.images]
    labels = [made.label_names[label] for label in made.labels]
    assert sorted(zip(pixels, found.labels, strict=True)) == sorted(zip(expected, labels, strict=True))
    assert not found.unreadable
    with pytest.raises(SourceError, match="MARKED_SYNTHETIC"):
        read_set(folder, "train")


def released(place: Path, made: Any, form: str, splits: dict[str, float] | None = None) -> Path:
    """Publish a set in one form and return the folder."""
    recipe = draft().recipe
    publish = {**recipe["publish"], "formats": [form], "splits": splits or {}}
    changed = draft(synthetic=made, recipe={**recipe, "publish": publish})
    return release.publish(Workspace.open(place / "workspace"), changed).path


@pytest.mark.parametrize("form", ["parquet", "webdataset", "monai", "dicom"])
def test_a_damaged_release_is_told(form: str, tmp_path: Path) -> None:
    """A table, list or shard that was cut: the release, the file and what to do, and no traceback."""
    folder = released(tmp_path, images(6, 1), form)
    path = next(iter(sorted(folder.glob("data/*"))), None) or next(
        path
        for pattern in ("shards/*", "datalist.json", "dicom/metadata.csv")
        for path in folder.glob(pattern)
    )
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:700] + b"\n\xff")
    with pytest.raises(SourceError, match="releases verify"):
        read_set(folder, "synthetic")


def test_a_release_names_no_file_outside_itself(tmp_path: Path) -> None:
    """A list that points out of the release is refused; an image that is not there is counted."""
    folder = released(tmp_path, images(6, 1), "monai")
    path = folder / "datalist.json"
    path.chmod(0o644)
    told = json.loads(path.read_text())
    missing = Path(told["training"][0]["image"])
    (folder / missing).parent.chmod(0o755)
    (folder / missing).unlink()
    assert read_set(folder, "synthetic").unreadable == {"READ_DENIED": 1}
    told["training"][1]["image"] = "../../outside.png"
    path.write_text(json.dumps(told))
    with pytest.raises(SourceError, match="releases verify"):
        read_set(folder, "synthetic")


@pytest.mark.parametrize("option", ["synthetic", "train", "holdout"])
def test_a_missing_set_leaves_nothing(
    places: dict[str, Path], option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2, one message that names the option, no report."""
    places[option].unlink()
    out = places["train"].parent / "nowhere"
    code = call(["audit", *(f"--{name}={path}" for name, path in places.items()), f"--out={out}"])
    assert code == 2
    assert f"--{option}: " in capsys.readouterr().err
    assert not out.exists()


def test_unknown_rules_are_refused(places: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """A policy that does not exist: exit 2, with those that do."""
    options = [f"--{name}={path}" for name, path in places.items()]
    assert call(["audit", *options, "--privacy=lenient"]) == 2
    assert "standard, strict, zero-signal" in capsys.readouterr().err
