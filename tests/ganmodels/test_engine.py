"""The training loop: what it refuses, keeps, survives and tells."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from phantomset.data.errors import ModelError, RecipeError, WorkspaceError
from phantomset.data.records import ImageSet
from phantomset.ganmodels import checkpoint, engine
from phantomset.ganmodels.families import r3gan
from phantomset.ganmodels.feed import Feed
from phantomset.ganmodels.plan import Progress, TrainingPlan
from phantomset.ganmodels.step import Stepper

Run = Callable[..., Iterator[Progress]]
LAST = "checkpoint-00000040.safetensors"


def _all(progress: Iterator[Progress]) -> list[Progress]:
    return list(progress)


def _equal(first: Path, second: Path, name: str = LAST) -> bool:
    ours, theirs = load_file(first / name), load_file(second / name)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_progress_is_told(small: ImageSet, run: Run, tmp_path: Path) -> None:
    """Images only rise, the last report alone is done, and statistics go to the file as they are told."""
    reports = _all(run(small))
    seen = [report.images_seen for report in reports]
    assert seen == sorted(seen)
    assert (seen[-1], reports[-1].budget_images) == (640, 640)
    assert [report.done for report in reports] == [False] * (len(reports) - 1) + [True]
    assert reports[-1].seconds_left == 0
    lines = checkpoint.read_statistics(tmp_path)
    assert [line["step"] for line in lines] == [20, 40]
    told = {name: round(value, 6) for name, value in reports[-1].statistics.items()}
    assert lines[-1].items() <= (told | {"step": 40, "images": 640}).items()
    assert {"critic_loss", "generator_loss", "penalty", "gap", "pair_accuracy", "spread"} <= set(told)


def test_the_folder_is_private_and_complete(small: ImageSet, run: Run, tmp_path: Path) -> None:
    """Weights, identity, statistics and a contact sheet of a row a class; nobody else may read them."""
    _all(run(small, tmp_path / "run"))
    folder = tmp_path / "run"
    assert {path.name for path in folder.iterdir()} == {
        "checkpoint-00000020.safetensors",
        LAST,
        "identity.json",
        "train.jsonl",
        "grids",
    }
    for path in (folder, *folder.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0
    sheets = sorted((folder / "grids").iterdir())
    assert sheets[-1].name == "000000640.png"
    with Image.open(sheets[-1]) as sheet:
        # 8 px and a gap of 2, ten columns and two classes, enlarged seven times to reach 56 px.
        assert sheet.size == (10 * 10 * 7, 2 * 10 * 7)


def test_a_finished_run_does_no_work(small: ImageSet, run: Run, tmp_path: Path) -> None:
    """Asked again, it yields its end at once and changes no file."""
    _all(run(small))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    (report,) = _all(run(small))
    assert (report.images_seen, report.done) == (640, True)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert checkpoint.finished_checkpoint(tmp_path).images_seen == 640


def test_threads_do_not_change_bits(small: ImageSet, run: Run, tmp_path: Path, device: str) -> None:
    """One thread and two compute the same parts of a batch: every tensor is equal to the bit."""
    _all(run(small, tmp_path / "one", threads=1))
    _all(run(small, tmp_path / "two", threads=2))
    assert _equal(tmp_path / "one", tmp_path / "two")
    digests = {checkpoint.finished_checkpoint(tmp_path / name).digest for name in ("one", "two")}
    assert len(digests) == 1


@pytest.mark.parametrize("changes", [{"seed": 1}, {"augment": "shift"}, {"class_sampling": "equal"}])
def test_the_plan_changes_the_weights(small: ImageSet, run: Run, tmp_path: Path, changes: dict) -> None:
    """Another seed, augmentation or sampling is another generator."""
    _all(run(small, tmp_path / "a"))
    _all(run(small, tmp_path / "b", **changes))
    digests = {checkpoint.finished_checkpoint(tmp_path / name).digest for name in ("a", "b")}
    assert len(digests) == 2


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_both_precisions_keep_weights_in_float32(
    small: ImageSet, run: Run, tmp_path: Path, precision: str
) -> None:
    """Mixed precision is for activations: every stored tensor is float32, and every number finite."""
    _all(run(small, precision=precision))
    tensors = load_file(tmp_path / LAST)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, ZeroDivisionError])
def test_stopped_inside_a_step(
    small: ImageSet, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: type[BaseException]
) -> None:
    """An exception between two players' moves leaves the last check on disk; going on from it is exact."""
    _all(run(small, tmp_path / "straight", checkpoint_every_images=10_000))
    move = Stepper._move

    def broken(self: Stepper, player: object, shards: object) -> torch.Tensor:
        if self.state.counters.step == 33 and player.name == "generator":  # type: ignore[attr-defined]
            raise stop
        return move(self, player, shards)  # type: ignore[arg-type]

    monkeypatch.setattr(Stepper, "_move", broken)
    with pytest.raises(stop):
        _all(run(small, tmp_path / "stopped", checkpoint_every_images=10_000))
    assert checkpoint.steps(tmp_path / "stopped") == [0, 20]
    monkeypatch.undo()
    _all(run(small, tmp_path / "stopped", checkpoint_every_images=10_000))
    assert _equal(tmp_path / "straight", tmp_path / "stopped")


SCRIPT = """
import sys
from pathlib import Path
import numpy as np
from phantomset.data.records import ImageSet
from phantomset.ganmodels.engine import TrainingPlan, train
from phantomset.ganmodels.families.r3gan import Settings

rng = np.random.default_rng(0)
labels = np.arange(64) % 2
images = ImageSet(rng.integers(0, 256, (64, 1, 8, 8), dtype=np.uint8), labels, labels, ("a", "b"))
plan = TrainingPlan(3_200, batch_size=16, threads=1, checkpoint_every_images=320)
for report in train(images, "r3gan", Settings(), plan, Path(sys.argv[1]), sys.argv[2]):
    print(report.images_seen, flush=True)
"""


def test_killed_and_resumed_equals_one_straight_run(tmp_path: Path, device: str) -> None:
    """`kill -9` at a random moment, then the same command again: the same tensors, statistics and samples."""
    command = [sys.executable, "-c", SCRIPT]
    straight = subprocess.Popen([*command, str(tmp_path / "straight"), device], stdout=subprocess.PIPE)
    killed = subprocess.Popen([*command, str(tmp_path / "killed"), device], stdout=subprocess.PIPE, text=True)
    assert killed.stdout is not None
    assert straight.stdout is not None
    killed.stdout.readline()
    time.sleep(np.random.default_rng(time.time_ns()).uniform(0, 1.0))
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert straight.communicate()[0].split()[-1] == b"3200"
    assert killed.returncode == -signal.SIGKILL
    subprocess.run([*command, str(tmp_path / "killed"), device], check=True, capture_output=True)
    assert _equal(tmp_path / "straight", tmp_path / "killed", "checkpoint-00000200.safetensors")
    for name in ("train.jsonl", "grids/000003200.png"):
        assert (tmp_path / "straight" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()


def test_a_batch_without_numbers_is_skipped(
    small: ImageSet, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One batch of NaN moves no weight, is counted once and told; the run goes on."""
    batch = Feed.batch

    def broken(self: Feed, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        images, labels = batch(self, step)
        return (images * float("nan") if step == 5 else images), labels

    monkeypatch.setattr(Feed, "batch", broken)
    reports = _all(run(small))
    events = [event for report in reports for event in report.events]
    assert [(event["code"], event["images"]) for event in events] == [("skipped-batch", 320)]
    assert events[0]["message"].startswith("1 ")
    assert all(torch.isfinite(tensor).all() for tensor in load_file(tmp_path / LAST).values())
    assert checkpoint.finished_checkpoint(tmp_path).events == tuple(events)


def test_a_run_that_cannot_be_saved_is_given_up(
    small: ImageSet, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After eight roll-backs the run ends before its budget, and the event says not to publish."""
    monkeypatch.setattr(Stepper, "is_finite", lambda _: False)
    last = _all(run(small, budget_images=16_000))[-1]
    found = checkpoint.finished_checkpoint(tmp_path)
    assert last.done
    assert found.images_seen == 8 * 320
    assert [event["code"] for event in found.events] == ["divergence"] * 8 + ["given-up"]
    assert "not publish" in found.events[-1]["advice"]


def test_a_run_given_up_ends_with_the_best_it_had(
    small: ImageSet, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixty clean steps, too few for a good state, then failure again and again: not the untrained start, but
    the checkpoint whose samples' spread was nearest to that of real images."""
    spreads, states, save = dict[int, float](), dict[int, dict[str, torch.Tensor]](), checkpoint.save

    def kept(
        folder: Path, tensors: dict[str, torch.Tensor], counters: dict[str, Any], done: bool = False
    ) -> None:
        states[counters["step"]] = {name: tensor.clone() for name, tensor in tensors.items()}
        if 0 < counters["step"] <= 60:
            spreads[counters["step"]] = counters["sketches"][-1][0]
        save(folder, tensors, counters, done)

    monkeypatch.setattr(checkpoint, "save", kept)
    monkeypatch.setattr(Stepper, "is_finite", lambda self: self.state.counters.step <= 60)
    _all(run(small, budget_images=16_000, checkpoint_every_images=320))
    told = checkpoint.finished_checkpoint(tmp_path).events[-1]
    assert told["code"] == "given-up"
    best = min(spreads, key=lambda step: (abs(spreads[step] - 1), -step))
    assert f"the state of step {best}" in told["message"]
    end = states[max(states)]
    averages = [name for name in end if name.startswith("average.")]
    assert averages
    assert all(torch.equal(end[name], states[best][name]) for name in averages)
    assert not all(torch.equal(end[name], states[0][name]) for name in averages)


def test_a_disk_that_fills_up_while_training(small: ImageSet, run: Run, tmp_path: Path) -> None:
    """A write that fails half-way is told with advice; once there is room, the run ends as if it had not."""
    _all(run(small, tmp_path / "straight"))
    progress = run(small, tmp_path / "full")
    next(progress)
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, unlimited[1]))  # bytes a file: the line in hand is cut
    try:
        with pytest.raises(WorkspaceError, match="Free space there and run again"):
            _all(progress)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    _all(run(small, tmp_path / "full"))
    assert _equal(tmp_path / "straight", tmp_path / "full")
    lines = [(tmp_path / name / "train.jsonl").read_text() for name in ("straight", "full")]
    assert lines[0] == lines[1]


def test_another_run_in_the_folder_is_refused(small: ImageSet, run: Run, tmp_path: Path) -> None:
    """Other settings, seed or images: the message says which, and nothing in the folder changes."""
    next(run(small))
    before = (tmp_path / "identity.json").read_bytes()
    with pytest.raises(ModelError, match="holds another run; they differ in seed"):
        next(run(small, seed=1))
    with pytest.raises(ModelError, match="settings"):
        next(run(small, settings=r3gan.Settings(latent=8)))
    changed = ImageSet(small.images ^ 1, small.labels, small.patients, small.label_names)
    with pytest.raises(ModelError, match="data"):
        next(run(changed))
    assert (tmp_path / "identity.json").read_bytes() == before


def test_a_damaged_checkpoint_makes_room(small: ImageSet, run: Run, tmp_path: Path) -> None:
    """The run goes on from the sound one before it, and the damaged one is gone: as the newest by its number
    it would push out what is saved next."""
    list(run(small))
    last = checkpoint.steps(tmp_path)[-1]
    (tmp_path / f"checkpoint-{last:08d}.safetensors").write_bytes(b"x")
    progress = run(small)
    events = next(progress).events
    assert last not in checkpoint.steps(tmp_path)
    assert "damaged-checkpoint" in [event["code"] for event in events]
    list(progress)
    assert checkpoint.finished(tmp_path)[1][0].step == last


def test_other_threads_are_no_other_machine(small: ImageSet, run: Run, tmp_path: Path) -> None:
    """A run goes on in the parts that it began with, whatever the threads: there is nothing to tell."""
    progress = run(small, threads=4, batch_size=32, budget_images=1280)
    next(progress)
    progress.close()  # type: ignore[attr-defined]
    assert json.loads((tmp_path / "identity.json").read_text())["machine"]["shards"] == 4
    again = run(small, threads=1, batch_size=32, budget_images=1280)
    assert [event for report in again for event in report.events] == []


def test_another_machine_is_told(small: ImageSet, run: Run, tmp_path: Path) -> None:
    """Resumed under another torch, the run goes on, and an event says that bits may differ."""
    progress = run(small)
    next(progress)
    progress.close()  # type: ignore[attr-defined]
    stored = json.loads((tmp_path / "identity.json").read_text())
    stored["machine"]["torch"] = "0.0"
    (tmp_path / "identity.json").write_text(json.dumps(stored))
    events = [event for report in run(small) for event in report.events]
    assert [event["code"] for event in events] == ["not-bit-identical"]
    assert "torch" in events[0]["message"]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([0, 1] * 31 + [0, 2]), "labels must be numbers from 0 to 1"),
        (np.array([0, 1] * 31 + [0, -1]), "labels must be numbers from 0 to 1"),
        (np.array([0, 1] * 31 + [0.5, 1.2]), "labels must be whole numbers; found float64"),
        (np.array([0] * 49 + [1] * 15), "class 'bar 1' has 15 training images; 16 are needed"),
        (np.array([0] * 9 + [1] * 5), "class 'bar 1' has 5 training images, 'bar 0' 9; 16 are needed"),
    ],
)
def test_labels_that_do_not_fit(small: ImageSet, run: Run, labels: np.ndarray, message: str) -> None:
    """A label out of range or between two, and a class with too few images, are refused with the numbers."""
    with pytest.raises(ModelError, match=message):
        count = len(labels)
        next(run(ImageSet(small.images[:count], labels, small.patients[:count], small.label_names)))


def test_plans_that_do_not_fit(small: ImageSet, run: Run, tmp_path: Path) -> None:
    """Too small a batch for the classes, a budget under one batch, a missing family, a missing GPU."""
    with pytest.raises(ModelError, match="at least 8"):
        next(run(small, batch_size=7))
    with pytest.raises(ModelError, match="budget of 10 images is less than one batch of 16"):
        next(run(small, budget_images=10))
    plan, settings = TrainingPlan(640), r3gan.Settings()
    with pytest.raises(RecipeError, match="r3gan"):
        next(engine.train(small, "r3gam", settings, plan, tmp_path))
    with pytest.raises(ModelError, match="cpu or cuda expected"):
        next(engine.train(small, "r3gan", settings, plan, tmp_path, "tpu"))
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match="no CUDA device"):
            next(engine.train(small, "r3gan", settings, plan, tmp_path, "cuda"))
    assert not list(tmp_path.iterdir())


def test_a_size_that_the_family_cannot_make(run: Run, tmp_path: Path) -> None:
    """4 px are too few: refused before anything is written."""
    labels = np.arange(64) % 2
    tiny = ImageSet(np.zeros((64, 1, 4, 4), np.uint8), labels, labels, ("a", "b"))
    with pytest.raises(ModelError, match="r3gan: makes images of 8 to 256 px a side; these are 4 x 4"):
        next(run(tiny))
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written(small: ImageSet, run: Run, tmp_path: Path) -> None:
    """A file where the folder should be is an error of the workspace, with the reason."""
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkspaceError, match="cannot write"):
        next(run(small, tmp_path / "file"))


def test_minutes_become_images(small: ImageSet, device: str) -> None:
    """The probe finds a positive speed; minutes times speed is rounded down to whole batches."""
    plan = TrainingPlan(64, batch_size=16, threads=1)
    assert engine.images_per_second(small, "r3gan", r3gan.Settings(), plan, device, seconds=0.1) > 0
    assert engine.budget_images(minutes=10, speed=812.0, batch_size=64) == 487_168
    assert engine.budget_images(minutes=0.001, speed=1.0, batch_size=64) == 64
