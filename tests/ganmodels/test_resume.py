"""A run that was stopped ends as if it had not been, to the bit: every family, its settings and plans."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from phantomset.data.records import ImageSet
from phantomset.ganmodels import checkpoint, recovery
from phantomset.ganmodels.engine import train
from phantomset.ganmodels.family import Player
from phantomset.ganmodels.plan import CHECK_STEPS, TrainingPlan
from phantomset.ganmodels.step import Shard, Stepper

from .cases import DEFAULTS, VARIANTS, Case
from .conftest import draw_bars

BATCH, STEPS = 8, 3 * CHECK_STEPS
"""States are saved at steps 0, 20 and 40; what is stopped after step 20 goes on from what was trained."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """A run to be stopped: the case, what its plan asks for besides, and whether images are held out."""

    case: Case
    augment: str = "none"
    has_held_out: bool = False

    def __str__(self) -> str:
        return ", ".join([str(self.case), self.augment, *["held out"] * self.has_held_out])

    @property
    def plan(self) -> TrainingPlan:
        """Its plan."""
        every = CHECK_STEPS * BATCH
        return TrainingPlan(
            STEPS * BATCH,
            BATCH,
            threads=1,
            checkpoint_every_images=every,
            augment=self.augment,  # type: ignore[arg-type]
        )

    def images(self, seed: int) -> ImageSet:
        """Return 64 images."""
        family = self.case.family
        return draw_bars(64, (family.stacks, 8, 8), family.classes or 2, seed)

    def train(self, folder: Path, device: str) -> None:
        """Train to the end."""
        held_out = self.images(1) if self.has_held_out else None
        case = self.case
        for _ in train(self.images(0), case.name, case.narrow, self.plan, folder, device, held_out):
            pass


PLAIN = [Stopped(case) for case in DEFAULTS]
OTHERS = [
    *(Stopped(case) for case in VARIANTS),
    Stopped(Case("r3gan"), "shift", has_held_out=True),
    Stopped(Case("dcgan"), "affine", has_held_out=True),
    Stopped(VARIANTS[0], "adaptive", has_held_out=True),
    Stopped(VARIANTS[2], "adaptive", has_held_out=True),
    Stopped(Case("pix2pix"), "shift", has_held_out=True),
    Stopped(Case("cyclegan"), "affine", has_held_out=True),
    Stopped(VARIANTS[1], "shift", has_held_out=True),
]


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, device: str) -> Callable[[Stopped], Path]:
    """Return the folder of a run that never stopped, trained once."""
    place = tmp_path_factory.mktemp("straight")

    def trained(run: Stopped) -> Path:
        if not (place / str(run)).exists():
            run.train(place / str(run), device)
        return place / str(run)

    return trained


def _differences(first: Path, second: Path) -> list[str]:
    """Return in what two finished runs differ: tensors, counters, statistics, sheets."""
    ours, theirs = (checkpoint.read(folder, STEPS) for folder in (first, second))
    assert ours.tensors.keys() == theirs.tensors.keys()
    found = [name for name in ours.tensors if not torch.equal(ours.tensors[name], theirs.tensors[name])]
    found += [name for name in ours.counters if ours.counters[name] != theirs.counters[name]]
    files = sorted(path.relative_to(first) for path in (first / "grids").iterdir())
    for name in (Path("train.jsonl"), *files):
        found += [str(name)] if (first / name).read_bytes() != (second / name).read_bytes() else []
    return found


@pytest.mark.parametrize(
    "run", [*PLAIN, *(pytest.param(run, marks=pytest.mark.slow) for run in OTHERS)], ids=str
)
def test_resume_equals_one_straight_run(
    run: Stopped,
    straight: Callable[[Stopped], Path],
    device: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """60 steps, and 60 with an end inside a random one past the 20th, before a random player's move, and a
    new beginning: every tensor, counter, statistic and contact sheet is equal to the bit."""
    monkeypatch.setattr(recovery, "SIGN_TARGET", -1.0)  # so that the adaptive share always moves
    whole, move, chance = straight(run), Stepper._move, np.random.default_rng(time.time_ns())
    last = chance.integers(CHECK_STEPS + 1, STEPS)
    player = chance.choice([each.name for each in run.case.family.players(run.case.narrow)])
    begun: list[int] = []

    def killed(self: Stepper, mover: Player, shards: list[Shard]) -> torch.Tensor:
        if self.state.counters.step == last and mover.name == player:
            raise KeyboardInterrupt
        return move(self, mover, shards)

    def noted(self: Stepper, mover: Player, shards: list[Shard]) -> torch.Tensor:
        begun.append(self.state.counters.step)
        return move(self, mover, shards)

    monkeypatch.setattr(Stepper, "_move", killed)
    with pytest.raises(KeyboardInterrupt):
        run.train(tmp_path, device)
    monkeypatch.setattr(Stepper, "_move", noted)
    run.train(tmp_path, device)
    assert begun[0] == last // CHECK_STEPS * CHECK_STEPS > 0
    assert _differences(whole, tmp_path) == [], (last, player)
    if run.augment == "adaptive":
        assert checkpoint.read(whole, STEPS).counters["augment_share"] > 0
    if run.has_held_out:
        assert all("held_out_gap" in line for line in checkpoint.read_statistics(whole))


SCRIPT = """
import json, sys
from pathlib import Path
import numpy as np
from phantomset.data.catalogue import load
from phantomset.data.records import ImageSet
from phantomset.ganmodels.engine import TrainingPlan, train

place, name, settings, plan, device = Path(sys.argv[1]), *map(json.loads, sys.argv[2:])
images, labels = np.load(place / "images.npy"), np.load(place / "labels.npy")
learn = ImageSet(images, labels, np.arange(len(labels)), tuple(f"bar {k}" for k in range(labels.max() + 1)))
chosen = load("phantomset.ganmodels.families", name).Settings(**settings)
for _ in train(learn, name, chosen, TrainingPlan(**plan), place / "run", device):
    pass
"""


def _command(run: Stopped, place: Path, device: str) -> list[str]:
    images = run.images(0)
    np.save(place / "images.npy", images.images)
    np.save(place / "labels.npy", images.labels)
    settings: dict[str, Any] = run.case.narrow.model_dump(mode="json")
    told = (run.case.name, settings, asdict(run.plan), device)
    return [sys.executable, "-c", SCRIPT, str(place), *map(json.dumps, told)]


def _kill(command: list[str], folder: Path) -> None:
    """Start a run and kill it at a random moment past its 20th step; once more where it ended before."""
    chance = np.random.default_rng(time.time_ns())
    for _ in range(5):
        shutil.rmtree(folder, ignore_errors=True)
        killed = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        begun = time.monotonic()
        while not (folder / "checkpoint-00000020.safetensors").exists():
            assert killed.poll() is None
            if not (folder / "train.jsonl").exists():
                begun = time.monotonic()
            time.sleep(0.01)
        # Within what twenty steps more take, by the first.
        time.sleep(chance.uniform(0, time.monotonic() - begun))
        killed.kill()
        if killed.wait() == -signal.SIGKILL:
            return
    pytest.fail("every run ended before it was killed")


@pytest.mark.slow
@pytest.mark.parametrize("run", PLAIN + OTHERS[: len(VARIANTS)], ids=str)
def test_killed_and_resumed(
    run: Stopped, straight: Callable[[Stopped], Path], device: str, tmp_path: Path
) -> None:
    """`kill -9` at a random moment past the 20th step, then the same command again: nothing differs."""
    whole, command = straight(run), _command(run, tmp_path, device)
    _kill(command, tmp_path / "run")
    subprocess.run(command, check=True, capture_output=True)
    assert _differences(whole, tmp_path / "run") == []
