"""Memory that does not suffice: met in a step, told elsewhere; never a fault of ours."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from phantomset.data.errors import ModelError
from phantomset.data.records import ImageSet, ImageSpec
from phantomset.ganmodels import checkpoint, step
from phantomset.ganmodels.engine import images_per_second
from phantomset.ganmodels.families import r3gan
from phantomset.ganmodels.family import Draw
from phantomset.ganmodels.generate import CHUNK, Sampler, at_once, generate
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


def test_images_are_made_one_chunk_after_the_other_where_memory_is_short(
    small: ImageSet, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where two chunks do not fit at once but one does: the same bits, and no event of training."""
    list(run(small))
    labels = np.zeros(3 * CHUNK, np.int64)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    expected = generate(tmp_path, labels, seed=0)
    draw, drawing = Sampler._draw, threading.Semaphore(1)

    def alone(*args: Any) -> Any:
        if not drawing.acquire(blocking=False):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        try:
            time.sleep(0.2)  # until the other thread has come
            return draw(*args)
        finally:
            drawing.release()

    monkeypatch.setattr(Sampler, "_draw", alone)
    assert np.array_equal(generate(tmp_path, labels, seed=0), expected)


def test_a_sheet_that_does_not_fit_halves_no_batch(
    small: ImageSet, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Smaller parts of a batch would not help the pictures on the way: the error says so, once."""
    monkeypatch.setattr(Sampler, "_draw", failing(RuntimeError(ONEDNN[0])))
    reports = []
    with pytest.raises(ModelError, match=r"generate: out of memory.*image\.size_px"):
        reports.extend(run(small))
    assert not [event for report in reports for event in report.events]


@pytest.mark.parametrize(
    ("height", "width", "count"), [(28, 28, 64), (64, 64, 64), (128, 128, 16), (512, 512, 1)]
)
def test_large_images_are_made_a_few_at_a_time(height: int, width: int, count: int) -> None:
    """As many pixels at once as 64 images of 64 x 64 have, and one image at least."""
    assert at_once(ImageSpec(1, height, width)) == count


def test_a_draw_in_parts_is_the_draw() -> None:
    """Labels and noise of each part are those of the whole, in order."""
    draw = Draw(torch.arange(10), torch.randn(10, 3), torch.Generator(), 0.5, torch.randn(10, 3))
    parts = [draw.part(first, 4) for first in range(0, 10, 4)]
    for name in ("labels", "noise", "fine_noise"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(draw, name))
    assert {part.truncation for part in parts} == {0.5}


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
