"""Several processes under torchrun compute one run."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from phantomset.data.errors import ModelError
from phantomset.data.records import ImageSet
from phantomset.ganmodels import engine, processes
from phantomset.ganmodels.families import r3gan
from phantomset.ganmodels.plan import TrainingPlan

PLAN = TrainingPlan(680, batch_size=17, threads=1, checkpoint_every_images=340)
"""40 steps; the two parts of a batch are of 9 and 8 images."""

SCRIPT = """
import sys
from pathlib import Path
import numpy as np
from phantomset.data.records import ImageSet
from phantomset.ganmodels import engine
from phantomset.ganmodels.families import r3gan
from phantomset.ganmodels.plan import TrainingPlan

folder, stop = Path(sys.argv[1]), int(sys.argv[2])
images, labels = np.load(folder / "images.npy"), np.load(folder / "labels.npy")
learn = ImageSet(images, labels, labels, ("bar 0", "bar 1"))
plan = TrainingPlan(680, batch_size=17, threads=1, checkpoint_every_images=340)
progress = engine.train(learn, "r3gan", r3gan.Settings(), plan, folder / "two")
for report in progress:
    if report.images_seen >= stop:
        progress.close()
"""


def _under_torchrun(script: Path, folder: Path, stop: int) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run(
        [*launcher, str(script), str(folder), str(stop)],
        check=True,
        capture_output=True,
        timeout=300,
    )


@pytest.mark.slow
def test_two_processes_equal_one(small: ImageSet, tmp_path: Path) -> None:
    """Two gloo processes, stopped half-way and started again: every tensor, the loss curve and the sheets
    equal those of one process to the bit, and nothing of the second process is left."""
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    for _ in engine.train(small, "r3gan", r3gan.Settings(), PLAN, tmp_path / "one"):
        pass
    np.save(tmp_path / "images.npy", small.images)
    np.save(tmp_path / "labels.npy", small.labels)
    for stop in (340, 10**9):
        _under_torchrun(script, tmp_path, stop)
    files = [
        sorted(path.relative_to(tmp_path / name) for path in (tmp_path / name).rglob("*") if path.is_file())
        for name in ("one", "two")
    ]
    assert files[0] == files[1]
    for name in ("train.jsonl", "grids/000000680.png"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    ends = [load_file(tmp_path / name / "checkpoint-00000040.safetensors") for name in ("one", "two")]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_more_processes_than_images(small: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of 8 has no work for a ninth process."""
    monkeypatch.setattr(processes, "count", lambda: 9)
    monkeypatch.setattr(processes, "_copied", lambda folder, _: folder)
    plan = replace(PLAN, batch_size=8)
    with pytest.raises(ModelError, match="9 processes for a batch of 8 images"):
        next(engine.train(small, "r3gan", r3gan.Settings(), plan, tmp_path))
    assert not (tmp_path / "identity.json").exists()


def test_more_processes_than_parts(small: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that began with two parts a batch is not continued by three processes."""
    progress = engine.train(small, "r3gan", r3gan.Settings(), PLAN, tmp_path)
    next(progress)
    progress.close()  # type: ignore[attr-defined]
    monkeypatch.setattr(processes, "count", lambda: 3)
    monkeypatch.setattr(processes, "_copied", lambda folder, _: folder)
    with pytest.raises(ModelError, match="3 processes for a batch of 2 parts"):
        next(engine.train(small, "r3gan", r3gan.Settings(), PLAN, tmp_path))
