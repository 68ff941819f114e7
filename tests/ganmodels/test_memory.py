"""Memory that does not suffice: met in a step, told elsewhere; never a fault of ours."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phantomset.data.errors import ModelError
from phantomset.data.records import ImageSet
from phantomset.ganmodels import checkpoint, step
from phantomset.ganmodels.engine import images_per_second
from phantomset.ganmodels.families import r3gan
from phantomset.ganmodels.generate import Sampler, generate
from phantomset.ganmodels.memory import is_out_of_memory
from phantomset.ganmodels.plan import Progress, TrainingPlan
from phantomset.ganmodels.step import Stepper
from phantomset.ganmodels.translate import translate

Run = Callable[..., Iterator[Progress]]

ONEDNN = (
    "could not create a primitive",
    "could not create a memory object",
    "could not execute a primitive",
)
"""What oneDNN says where the system refused it memory."""


def failing(error: Exception) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried", True),
        ("CUDA out of memory. Tried to allocate 2.00 GiB", True),
        ("std::bad_alloc", True),
        *((words, True) for words in ONEDNN),
        ("could not create a primitive descriptor for a convolution forward propagation primitive", False),
        ("mat1 and mat2 shapes cannot be multiplied", False),
    ],
)
def test_words_of_an_error_of_memory(words: str, answer: bool) -> None:
    """Those of torch and of oneDNN; what is refused for its shape is another error."""
    assert is_out_of_memory(RuntimeError(words)) is answer


@pytest.mark.parametrize("words", ONEDNN)
def test_a_step_that_onednn_has_no_memory_for(
    small: ImageSet, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    """A batch of 16 is computed in parts of 4; where not even one image fits, whatever why, that is said."""
    move, most = Stepper._move, 4

    def moved(self: Stepper, player: Any, shards: Any) -> Any:
        if len(shards[0].batch.images) > most:
            raise RuntimeError(words)
        return move(self, player, shards)

    monkeypatch.setattr(Stepper, "_move", moved)
    events = [event for report in run(small) for event in report.events]
    assert [event["code"] for event in events] == ["out-of-memory"]
    assert events[0]["message"].startswith("a batch is computed in 4 parts of 4 images")
    most = 0
    with pytest.raises(ModelError, match=r"not even one image.*image\.size_px"):
        list(run(small, tmp_path / "none"))


@pytest.mark.parametrize(
    "error",
    [RuntimeError("DefaultCPUAllocator: can't allocate memory"), MemoryError(), OSError(12, os.strerror(12))],
)
def test_networks_that_do_not_fit(
    small: ImageSet, run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """While they are built, to train or to try the speed: the error says what to make smaller."""
    monkeypatch.setattr(step, "State", failing(error))
    with pytest.raises(ModelError, match=r"out of memory.*image\.size_px.*networks.*--threads"):
        list(run(small))
    plan = TrainingPlan(64, batch_size=16, threads=1)
    with pytest.raises(ModelError, match=r"out of memory.*image\.size_px.*networks.*--threads"):
        images_per_second(small, "r3gan", r3gan.Settings(), plan, seconds=0.01)


def test_images_that_do_not_fit(
    small: ImageSet, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While they are made or translated: the error says what to make smaller."""
    list(run(small))
    monkeypatch.setattr(Sampler, "_draw", failing(RuntimeError(ONEDNN[0])))
    with pytest.raises(ModelError, match=r"generate: out of memory.*image\.size_px"):
        generate(tmp_path, np.zeros(3, np.int64), seed=0)
    monkeypatch.setattr(checkpoint, "finished", failing(MemoryError()))
    with pytest.raises(ModelError, match=r"translate: out of memory.*image\.size_px"):
        translate(tmp_path, small.images, small.labels, seed=0)


def test_other_errors_stay_what_they_are(small: ImageSet, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of ours is not told as want of memory."""
    monkeypatch.setattr(step, "State", failing(RuntimeError("shapes cannot be multiplied")))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        list(run(small))


LIMITED = """
import resource, sys
from pathlib import Path
import numpy as np
from phantomset.data.errors import ModelError
from phantomset.data.records import ImageSet
from phantomset.ganmodels.engine import train
from phantomset.ganmodels.families import r3gan
from phantomset.ganmodels.plan import TrainingPlan

labels = np.arange(64) % 2
pixels = np.random.default_rng(0).integers(0, 256, (64, 1, 8, 8), dtype=np.uint8)
images, folder = ImageSet(pixels, labels, np.arange(64), ("a", "b")), Path(sys.argv[1])
plan = TrainingPlan(32, batch_size=16, threads=1)
list(train(images, "r3gan", r3gan.Settings(latent=4, widths=(8,)), plan, folder / "narrow"))
pages = int(Path("/proc/self/statm").read_text().split()[0])
most = pages * resource.getpagesize() + 2**24
resource.setrlimit(resource.RLIMIT_AS, (most, most))
try:
    list(train(images, "r3gan", r3gan.Settings(widths=(1024,)), plan, folder / "wide"))
except ModelError as error:
    print(error)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="asks Linux how much memory a process has")
def test_a_process_that_may_have_no_more_memory(tmp_path: Path) -> None:
    """Under a real limit 16 MiB more than narrow networks took are too little for wide ones, and told."""
    command = [sys.executable, "-c", LIMITED, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("train: out of memory. Choose a smaller image.size_px")
