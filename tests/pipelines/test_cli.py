"""The command line: fast help, exit codes, one JSON object, messages instead of tracebacks."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from phantomset.data.dicom import decoders
from phantomset.data.sources import digits
from phantomset.data.store.archive import Store
from phantomset.data.workspace import Workspace
from phantomset.pipelines.cli import launch
from phantomset.pipelines.stages import STAGES

from .conftest import Answer

HEAVY = ("torch", "monai", "prefect", "pydicom", "pandas", "sklearn", "numpy", "matplotlib")


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["run", "--help"], ["releases", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    """`phantomset --help` answers at once: none of the big packages is imported for it."""
    code = (
        "import sys; from phantomset.pipelines import cli; code = cli.call(sys.argv[1:]);"
        f"loaded = [name for name in {HEAVY!r} if name in sys.modules];"
        "assert not loaded, loaded; sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "phantomset" in done.stdout


def test_every_command_has_a_help_text(call: Callable[..., Answer]) -> None:
    """The commands of the design are there, each with a line of help."""
    code, out, _ = call("--help")
    assert code == 0
    for name in ("demo", "run", *STAGES, "serve", "releases", "recipes", "explain", "doctor"):
        assert f" {name} " in out


def run_with(call: Callable[..., Answer], recipe: str, *more: str) -> Answer:
    return call("run", recipe, "--plain", "--threads", "1", *more)


@pytest.mark.parametrize(("answer", "code"), [("PASS", 0), ("FAIL", 3), ("INCONCLUSIVE", 4)])
def test_the_exit_code_is_the_verdict(
    call: Callable[..., Answer], recipe: str, judges: Any, answer: str, code: int
) -> None:
    """0 published, 3 FAIL, 4 INCONCLUSIVE; the same code stands in the JSON, alone on stdout."""
    judges.answer = answer
    got, out, err = run_with(call, recipe, "--json")
    answered = json.loads(out)
    assert (got, answered["exit_code"], answered["verdict"]) == (code, code, answer)
    assert "train" in err


def test_a_stage_command_stops_after_its_stage(call: Callable[..., Answer], recipe: str) -> None:
    """`phantomset generate` makes a set and no verdict."""
    code, out, _ = call("generate", recipe, "--plain", "--threads", "1", "--json")
    answer = json.loads(out)
    assert code == 0
    assert [entry["stage"] for entry in answer["stages"]] == ["ingest", "train", "generate"]
    assert "verdict" not in answer


def test_a_dry_run_makes_nothing(call: Callable[..., Answer], recipe: str, own_place: Path) -> None:
    """It checks and estimates; no workspace appears."""
    code, out, _ = call("run", recipe, "--dry-run", "--threads", "1")
    assert code == 0
    assert "images/s" in out
    assert not (own_place / "workspace").exists()


def test_releases_are_listed_shown_and_verified(
    call: Callable[..., Answer], recipe: str, judges: Any, own_place: Path
) -> None:
    """After a run the release is there and whole; a changed byte is found and named."""
    run_with(call, recipe)
    assert "small" in call("releases", "list")[1]
    listed = json.loads(call("releases", "list", "--json")[1])["releases"]
    assert [(item["name"], item["version"]) for item in listed] == [("small", 1)]
    assert "report" in call("releases", "show", "small")[1]
    assert json.loads(call("releases", "show", "small/v1", "--json")[1])["manifest"]["images"] == 30
    assert call("releases", "verify", "small")[0] == 0
    card = own_place / "workspace" / "releases" / "small" / "v1" / "README.md"
    card.chmod(0o644)
    card.write_text(card.read_text() + "x")
    code, _, err = call("releases", "verify", "small")
    assert code == 2
    assert "README.md: changed" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["runn"], "Did you mean 'run'?"),
        (["run"], "Missing argument"),
        (["run", "digits", "--devise", "cpu"], "--device"),
        (["run", "digits", "--device", "tpu"], "choose one of auto, cpu, cuda"),
        (["run", "digits", "--threads", "many"], "--threads"),
        (["run", "digits", "--threads", "0"], "between 1 and"),
        (["generate", "digits", "--fine", "9"], "r3gan mixes no styles"),
        (["run", "digits", "--dry-run", "--set", "model={family: cyclegan}"], "makes none from nothing"),
        (
            ["translate", "digits", "--dry-run", "--set", "translate={task: denoise}"],
            "takes model.family pix2pix, not r3gan",
        ),
        (["releases", "show", "none"], "there is none at"),
        (["releases", "list"], "there is none at"),
        (["explain", "TRUNCATE"], "did you mean 'TRUNCATED'?"),
        (["explain", "99"], "not a code"),
        (["serve", "digits"], "--cron"),
        (["serve", "digits", "--cron", "* * * * *"], "needs a Prefect server"),
    ],
)
def test_a_wrong_command_line_is_exit_code_2(
    call: Callable[..., Answer], arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One message on stderr that names what is wrong; with --json the same, as an object on stdout."""
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    code, out, err = call(*arguments, "--json") if "serve" not in arguments else (2, '{"exit_code": 2}', "")
    assert (code, json.loads(out)["exit_code"], err) == (2, 2, "")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--set", "image.size_px=4"], "must be 8 to 2048 pixels"),
        (["--set", "model.batch_size=7"], "too small for 10 classes; set model.batch_size to at least 40"),
        (["--device", "cuda"], "sees no CUDA device"),
    ],
    ids=["size", "batch", "device"],
)
def test_what_no_model_can_be_is_exit_code_2(
    call: Callable[..., Answer], recipe: str, changes: list[str], message: str, own_place: Path
) -> None:
    """A size, a batch and a device: told by name and number, and nothing is trained."""
    if "cuda" in changes and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    code, out, err = call("run", recipe, "--plain", *changes)
    assert (code, out) == (2, "")
    assert message in " ".join(err.split())
    assert not list(own_place.rglob("checkpoint-*"))


def test_a_class_of_fifteen_is_exit_code_2(
    call: Callable[..., Answer],
    recipe: str,
    own_place: Path,
    monkeypatch: pytest.MonkeyPatch,
    some_digits: tuple[np.ndarray, np.ndarray],
) -> None:
    """The class is named, and how many images would do."""
    images, labels = some_digits
    kept = np.sort(np.concatenate([np.flatnonzero(labels == 3)[:15], np.flatnonzero(labels != 3)]))
    monkeypatch.setattr(digits, "load", lambda: (images[kept], labels[kept]))
    code, out, err = run_with(call, recipe)
    assert (code, out) == (2, "")
    assert re.search(r"class '3' has \d+ training images; 16 are needed", " ".join(err.split()))
    assert not list(own_place.rglob("checkpoint-*"))


def test_a_foreign_checkpoint_is_exit_code_2(
    call: Callable[..., Answer], recipe: str, own_place: Path, tmp_path: Path
) -> None:
    """The finished weights of another family in the run's folder: told, not loaded."""
    other = [*("--workspace", str(tmp_path / "other")), *("--set", "model.family=vanilla")]
    assert call("train", recipe, "--plain", "--threads", "1")[0] == 0
    assert call("train", recipe, "--plain", "--threads", "1", *other)[0] == 0
    own, foreign = (max(place.rglob("checkpoint-*.safetensors")) for place in (own_place, tmp_path / "other"))
    own.write_bytes(foreign.read_bytes())
    code, out, err = call("generate", recipe, "--plain", "--threads", "1")
    assert (code, out) == (2, "")
    assert "another run" in " ".join(err.split())


@pytest.mark.parametrize("code", ["TRUNCATED", "truncated", "3", "130"])
def test_codes_are_explained(call: Callable[..., Answer], code: str) -> None:
    """Reason codes of the quarantine, in any case, and exit codes."""
    answered, out, _ = call("explain", code)
    assert answered == 0
    assert out.startswith(code.upper())
    assert json.loads(call("explain", code, "--json")[1])["meaning"]


def test_recipes_are_listed_shown_and_described(call: Callable[..., Answer]) -> None:
    """list names the shipped ones; show fills in defaults; schema is JSON schema."""
    assert "pneumoniamnist" in call("recipes", "list")[1]
    shown = yaml.safe_load(call("recipes", "show", "digits")[1])
    assert shown["gate"]["privacy"] == "standard"
    assert "# scikit-learn" in call("recipes", "show", "digits", "--as-written")[1]
    assert json.loads(call("recipes", "schema")[1])["type"] == "object"
    assert json.loads(call("recipes", "show", "digits", "--json")[1])["recipe"] == shown


def test_the_doctor_says_what_there_is_and_changes_nothing(
    call: Callable[..., Answer], own_place: Path
) -> None:
    """Versions, devices, decoders, workspace, key; nothing is made."""
    code, out, _ = call("doctor")
    assert code == 0
    for word in ("torch", "prefect", "CPU", "DICOM", "workspace", "key"):
        assert word in out
    assert list(own_place.iterdir()) == []


def test_the_doctor_names_a_missing_decoder(
    call: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which kinds of DICOM are not read, and the command that installs what reads them; exit code 2."""
    monkeypatch.setattr(decoders.Codec, "is_installed", property(lambda _: False))
    code, out, _ = call("doctor")
    assert code == 2
    shown = "".join(out.split())
    assert shown.count("nodecoder") == len(decoders.CODECS)
    for codec in decoders.CODECS:
        assert f"pipinstall{''.join(codec.packages)}" in shown


def test_the_doctor_names_the_missing_reader_of_text(
    call: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the extra, pixels are not screened: the row has the command as it is typed, and no fault."""
    from phantomset.data.burned_in import reader

    monkeypatch.setattr(reader, "is_installed", lambda: False)
    code, out, _ = call("doctor")
    assert code == 0
    assert "'phantomset[ocr]'" in "".join(out.split())


def test_the_doctor_verifies_the_store(call: Callable[..., Answer], own_place: Path) -> None:
    """Every image is read and held against its digest; one flipped bit is counted, and the exit code is 2."""
    assert "no store yet" in call("doctor", "--verify-store")[1]
    workspace = Workspace.open(own_place / "workspace")
    Store(workspace).put(np.arange(48, dtype=np.uint8).reshape(3, 1, 4, 4))
    code, out, _ = call("doctor", "--verify-store", "--json")
    assert code == 0
    assert "3 images, each equal to its digest" in out
    pack = next(workspace.restricted("objects").glob("*.pack"))
    pack.write_bytes(pack.read_bytes()[:-1] + b"\xff")
    code, out, _ = call("doctor", "--verify-store", "--json")
    assert code == 2
    assert "1 of 3 images are damaged" in out


def test_pictures_are_drawn_and_named(call: Callable[..., Answer], recipe: str, own_place: Path) -> None:
    """`generate --grid --towards 9` prints where each picture lies."""
    line = "--plain --threads 1 --grid --towards 9 --json"
    pictures = json.loads(call("generate", recipe, *line.split())[1])["pictures"]
    assert [Path(path).name.partition("-")[2] for path in pictures] == ["grid.png", "towards-9.png"]
    assert all(Path(path).is_relative_to(own_place / "workspace" / "restricted") for path in pictures)


def test_the_demo_writes_its_phantoms_once(
    call: Callable[..., Answer], judges: Any, monkeypatch: pytest.MonkeyPatch, own_place: Path
) -> None:
    """The cohort lies as DICOM files, a source like any other; a rerun makes nothing."""
    monkeypatch.setattr(launch, "DEMO_PATIENTS", 150)
    line = "demo --plain --threads 1 --json --set model.budget.images=128 --set generate.count=60"
    code, out, _ = call(*line.split())
    first = json.loads(out)
    assert code == 0
    assert first["counts"]["patients"] == 150
    assert sum(first["counts"]["quarantine"].values()) >= 5
    (folder,) = [p for p in (own_place / "workspace" / "restricted" / "incoming").iterdir() if p.is_dir()]
    made = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert any(path.name == "labels.csv" for path in made)
    again = json.loads(call(*line.split())[1])
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == made
    assert not any(stage["made"] for stage in again["stages"])


def test_the_leaky_demo_has_other_patients(
    call: Callable[..., Answer], judges: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The FAIL of the leaky demo must not stick to the patients of the demo."""
    monkeypatch.setattr(launch, "DEMO_PATIENTS", 150)
    judges.answer = "FAIL"
    line = "demo --plain --threads 1 --json --set model.budget.images=128 --set generate.count=60"
    shares = "--leaky --set split.train=0.3 --set split.holdout=0.4 --set split.reference=0.3"
    assert call(*f"{line} {shares}".split())[0] == 3
    judges.answer = "PASS"
    assert call(*line.split())[0] == 0
