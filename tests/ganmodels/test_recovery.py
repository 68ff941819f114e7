"""Failures provoked one by one: the run recovers, or ends with what was good last and says so."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from phantomset.data.errors import ModelError
from phantomset.data.records import ImageSet
from phantomset.ganmodels import checkpoint, recovery, stability, step
from phantomset.ganmodels.engine import images_per_second, train
from phantomset.ganmodels.families import cgan, r3gan, vanilla
from phantomset.ganmodels.generate import Sampler
from phantomset.ganmodels.plan import Progress, TrainingPlan
from phantomset.ganmodels.recovery import TOO_LATE, adapt, climb, is_careful, strengthen
from phantomset.ganmodels.state import Counters
from phantomset.ganmodels.step import Stepper

from .cases import Case

Run = Callable[..., Iterator[Progress]]
Noise = Callable[[int, int], ImageSet]


def _events(progress: Iterator[Progress]) -> list[dict[str, Any]]:
    return [event for report in progress for event in report.events]


def _is_finite(folder: Path) -> bool:
    newest = max(folder.glob("checkpoint-*.safetensors"))
    return all(bool(torch.isfinite(tensor).all()) for tensor in load_file(newest).values())


def test_a_learning_rate_a_hundred_times_too_high(small: ImageSet, run: Run, tmp_path: Path) -> None:
    """0.1 for 0.001: the run rolls back to smaller steps, ends with samples as varied as real images, and
    advises.
    """
    settings = r3gan.Settings(learning_rate_start=0.1, learning_rate_end=0.1, warm_up_share=0)
    events = _events(run(small, settings=settings, budget_images=1_600))
    first = next(event for event in events if event["code"] == "divergence")
    assert "learning rate x 0." in first["message"]
    assert "smaller" in first["advice"]
    saved, _ = checkpoint.newest(tmp_path)
    assert saved is not None
    assert saved.counters["learning_rate_scale"] < 1
    assert _is_finite(tmp_path)
    assert 0.5 < checkpoint.read_statistics(tmp_path)[-1]["spread"] < 2


@pytest.mark.parametrize(
    ("fails_at", "is_given_up", "ends"),
    [
        ([600], True, "no state was worth keeping"),
        ([300], False, ""),
        ([100, 600], True, "no state was worth keeping"),
        ([500, 540], True, "with the state of step 400"),
    ],
)
def test_a_late_failure_without_a_way_back(
    run: Run,
    small: ImageSet,
    monkeypatch: pytest.MonkeyPatch,
    fails_at: list[int],
    is_given_up: bool,
    ends: str,
) -> None:
    """Of 600 steps: what led back to the start, and left less than half of what was lost, is given up."""
    monkeypatch.setattr(stability, "GOOD_CHECKS", 10**6)
    monkeypatch.setattr(Stepper, "is_finite", lambda self: self.state.counters.step not in fails_at)
    monkeypatch.setattr(step, "look", lambda *_: stability.Check(0.1, 0.6, 1.0, 1.0))
    events = _events(
        run(small, budget_images=9_600, checkpoint_every_images=16 * (400 if "400" in ends else 600))
    )
    told = [event for event in events if event["code"] == "given-up"]
    assert bool(told) == is_given_up
    assert all(event["message"].endswith(ends) for event in told)


def test_advice_fits_the_family() -> None:
    """Who has the default family is not sent to it, nor is who translates."""
    for name, words in (("dcgan", "use family r3gan"), ("r3gan", "its default"), ("cyclegan", "each side")):
        instead = recovery.instead_of(Case(name).family)
        assert words in instead
        assert instead in recovery.event("collapse", 0, "x", instead)["advice"]
    assert "penalty" not in climb(Counters(), 40, gap=1.0, is_penalised=False)
    assert strengthen(Counters(), is_penalised=False) == "augmentation + 0.1"


def test_a_critic_far_too_strong(small: ImageSet, tmp_path: Path) -> None:
    """Against a critic that learns a thousand times faster the generator gets nowhere: the run is given up.

    So slow a generator is met as collapsed under a fair critic too; one that wins is told from a fair one
    in `test_provoked`.
    """
    settings = cgan.Settings(learning_rate_critic=0.02, learning_rate_generator=2e-5)
    plan = TrainingPlan(38_400, threads=1)
    events = _events(train(small, "cgan", settings, plan, tmp_path))
    codes = [event["code"] for event in events]
    assert codes[0] == "collapse"
    assert codes[-1] == "given-up"
    assert all(event["advice"] for event in events)
    assert _is_finite(tmp_path)


@pytest.mark.parametrize(
    ("wide_from", "budget", "collapses", "roll_backs", "is_given_up"),
    [
        (5_000, 16_000, [], 0, False),
        (10**9, 17_600, [6_720, 13_440], 2, False),
        (10**9, 16_000, [6_720, 13_440], 1, True),
        (15_000, 16_000, [6_720, 13_440], 1, False),
    ],
)
def test_a_slow_starter_is_told_from_a_collapse(
    small: ImageSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wide_from: int,
    budget: int,
    collapses: list[int],
    roll_backs: int,
    is_given_up: bool,
) -> None:
    """Fakes alike for 5,000 images are left alone; alike for ever, they are met after every 3 x 2,000.

    Collapse acts at the third check, each of 320 images, past the warm-up: at 6,000, and at 6,720 + 6,000.
    Where less than half of the 6,720 is left after it, a fresh start could not come as far: it is told alone,
    and a run that ends so is given up, for it must not be published.
    """
    seen = iter(range(320, 10**6, 320))

    def look(*_: Any) -> stability.Check:
        wide = 1.0 if next(seen) >= wide_from else 0.3
        return stability.Check(0.1, 0.6, wide, wide)

    monkeypatch.setattr(stability, "WARM_UP_IMAGES", 2_000)
    monkeypatch.setattr(step, "look", look)
    plan = TrainingPlan(budget, batch_size=16, threads=1)
    events = _events(train(small, "vanilla", vanilla.Settings(), plan, tmp_path))
    met = [event for event in events if event["code"] == "collapse"]
    assert [event["images"] for event in met] == collapses
    assert [TOO_LATE in event["message"] for event in met] == [
        number >= roll_backs for number in range(len(met))
    ]
    assert [event["code"] for event in events if event["code"] == "given-up"] == ["given-up"] * is_given_up
    saved, _ = checkpoint.newest(tmp_path)
    assert saved is not None
    assert saved.counters["roll_backs"] == roll_backs


def test_a_generator_that_learns_nothing(run: Run, noise: Noise) -> None:
    """After six sheets it is told that nothing changes, at the end that the samples are too alike.

    Pixels that are black or white by chance lie further apart than any images that a generator begins with.
    """
    grey = noise(64, 0)
    black_or_white = replace(grey, images=np.where(grey.images < 128, 0, 255).astype(np.uint8))
    settings = r3gan.Settings(learning_rate_start=1e-12, learning_rate_end=1e-12)
    events = _events(run(black_or_white, settings=settings, budget_images=2_560, checkpoint_every_images=320))
    assert [event["code"] for event in events] == ["stall", "narrow-samples"]
    assert events[0]["images"] == 6 * 320
    assert all("use its default settings" in event["advice"] for event in events)


def test_grain_that_real_images_lack(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real images each of one grey have no power but at frequency 0; what a generator makes of them has."""
    monkeypatch.setattr(stability, "DRIFT_IMAGES", 0)
    greys = np.arange(64, dtype=np.uint8).reshape(-1, 1, 1, 1) * 4
    labels = np.arange(64) % 2
    images = ImageSet(np.tile(greys, (1, 1, 8, 8)), labels, np.arange(64), ("a", "b"))
    (event,) = [event for event in _events(run(images)) if event["code"] == "noise-drift"]
    assert event["images"] == 640
    assert "grain" in event["advice"]


def test_a_constant_set_is_refused(small: ImageSet, run: Run, tmp_path: Path) -> None:
    """A class whose images are all equal teaches nothing: refused before anything is written."""
    images = small.images.copy()
    images[small.labels == 1] = 7
    with pytest.raises(ModelError, match="all 32 training images of class 'bar 1' are equal"):
        next(run(ImageSet(images, small.labels, small.patients, small.label_names)))
    assert not list(tmp_path.iterdir())


class Tight:
    """A `Stepper._move` that finds no memory for parts over a size."""

    def __init__(self, most: int, from_step: int) -> None:
        self.most, self.from_step, self.move = most, from_step, Stepper._move

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Put it in the place of the method."""
        tight = self

        def moved(self: Stepper, player: Any, shards: Any) -> torch.Tensor:
            is_late = self.state.counters.step >= tight.from_step and player.name == "generator"
            if is_late and len(shards[0].batch.images) > tight.most:
                raise RuntimeError(
                    "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
                )
            return tight.move(self, player, shards)

        monkeypatch.setattr(Stepper, "_move", moved)


def test_out_of_memory_halves_the_parts(
    small: ImageSet, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch of 16 in parts of 4 instead of 8: said once, and the images shown are the same."""
    Tight(4, from_step=30).install(monkeypatch)
    events = _events(run(small))
    assert [event["code"] for event in events] == ["out-of-memory"]
    assert events[0]["message"] == "a batch is computed in 4 parts of 4 images from now on"
    assert [line["step"] for line in checkpoint.read_statistics(tmp_path)] == [20, 40]
    assert _is_finite(tmp_path)


def test_out_of_memory_whatever_the_parts(small: ImageSet, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where not one image fits, the error says what to make smaller."""
    Tight(0, from_step=0).install(monkeypatch)
    with pytest.raises(ModelError, match=r"not even one image.*image\.size_px"):
        list(run(small))


class Narrow:
    """A critic's forward that finds no memory for more than so many images, where it is not for a step."""

    def __init__(self, most: int) -> None:
        self.most, self.forward = most, r3gan.Critic.forward

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Put it in the place of the method."""
        narrow = self

        def forward(self: r3gan.Critic, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            if len(images) > narrow.most and not torch.is_grad_enabled():
                raise MemoryError
            return narrow.forward(self, images, labels)

        monkeypatch.setattr(r3gan.Critic, "forward", forward)


def test_out_of_memory_in_a_check_is_met_as_in_a_step(
    small: ImageSet, noise: Noise, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The critic looks at held-out images in parts of 4 once more did not fit: said once, no check lost."""
    Narrow(4).install(monkeypatch)
    plan = TrainingPlan(640, batch_size=16, threads=1)
    events = _events(train(small, "r3gan", r3gan.Settings(), plan, tmp_path, held_out=noise(16, 1)))
    assert [event["message"] for event in events] == [
        "a batch is computed in 4 parts of 4 images from now on"
    ]
    lines = checkpoint.read_statistics(tmp_path)
    assert [line["step"] for line in lines] == [20, 40]
    assert all(line["held_out_error"] > 0 for line in lines)


def test_out_of_memory_in_a_drawing_loses_nothing(
    small: ImageSet, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says what to make smaller; with more memory the run goes on, and ends where it would have."""

    def tight(*_: Any, **__: Any) -> np.ndarray:
        raise MemoryError

    list(run(small, tmp_path / "straight"))
    with monkeypatch.context() as patch, pytest.raises(ModelError, match=r"image\.size_px"):
        patch.setattr(Sampler, "images", tight)
        list(run(small, tmp_path / "stopped"))
    list(run(small, tmp_path / "stopped"))
    ends = [
        load_file(tmp_path / name / "checkpoint-00000040.safetensors") for name in ("straight", "stopped")
    ]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    assert [line["step"] for line in checkpoint.read_statistics(tmp_path / "stopped")] == [20, 40]


def test_the_trial_of_the_speed_halves_the_parts_too(
    small: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What does not fit before training is computed in smaller parts, as in it; or is refused like it."""
    plan, asked = TrainingPlan(64, batch_size=16, threads=1), (small, "r3gan", r3gan.Settings())
    Tight(4, from_step=0).install(monkeypatch)
    assert images_per_second(*asked, plan, seconds=0.01) > 0
    monkeypatch.undo()
    Tight(0, from_step=0).install(monkeypatch)
    with pytest.raises(ModelError, match=r"not even one image.*image\.size_px"):
        images_per_second(*asked, plan, seconds=0.01)


def test_rungs_of_the_ladder() -> None:
    """Rates 1/2, 1/2, then 1/4, fresh moments and twice the batch; from the fifth, float32 and penalties at
    every step.
    """
    counters = Counters(good_step=40)
    said = [climb(counters, 40, gap=60.0) for _ in range(5)]
    assert counters.learning_rate_scale == pytest.approx(0.5**2 * 0.25**3)
    assert ["fresh moments" in each for each in said] == [False, False, True, True, True]
    assert ["batch x 2" in each for each in said] == [False, False, True, True, True]
    assert counters.batches == 2
    assert ["float32" in each for each in said] == [False, False, False, False, True]
    assert is_careful(counters)


def test_where_a_step_must_be_one_batch_it_stays_one() -> None:
    """Under differential privacy the rate of drawing is part of the promise: nothing is said of a batch."""
    counters = Counters(roll_backs=4)
    assert "batch" not in climb(counters, 40, gap=60.0, can_grow=False)
    assert counters.batches == 1


def test_the_third_way_back_doubles_the_batch_and_resumes_exactly(
    small: ImageSet, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After failures at steps 20, 40 and 60 the last 60 of 120 batches are 30 moves; also when resumed."""
    monkeypatch.setattr(Stepper, "is_finite", lambda self: self.state.counters.step > 60)
    events = _events(run(small, tmp_path / "straight", budget_images=1_920))
    assert [event["images"] for event in events if event["code"] == "divergence"] == [320, 640, 960]
    stopped = run(small, tmp_path / "stopped", budget_images=1_920)
    next(report for report in stopped if report.images_seen == 1_280)
    stopped.close()  # type: ignore[attr-defined]
    list(run(small, tmp_path / "stopped", budget_images=1_920))
    ends = [
        load_file(tmp_path / name / "checkpoint-00000120.safetensors") for name in ("straight", "stopped")
    ]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    moves = {float(value) for name, value in ends[0].items() if name.endswith(".step")}
    assert moves == {30.0}


def test_a_late_blow_up_holds_the_fall_of_gamma() -> None:
    """It stays where it was at the last good state; an earlier hold is not lifted by a later one."""
    counters = Counters()
    assert "penalty at every step" in climb(counters, 40, 1.0, holds=0.6)
    climb(counters, 40, 1.0, holds=0.8)
    assert counters.held_progress == 0.6


def test_rung_one_has_an_end() -> None:
    """Augmentation rises by 0.1 up to 0.6; the penalty doubles up to four times."""
    counters = Counters()
    for _ in range(9):
        strengthen(counters)
    assert (counters.augment_share, counters.penalty_scale) == (pytest.approx(0.6), 4.0)


def test_adaptive_augmentation_follows_the_sign() -> None:
    """A mean sign over 0.6 raises the share by images / 500,000, one below lowers it, never under 0."""
    counters = Counters()
    adapt(counters, 0.9, 5_000, budget=10**6)
    assert counters.augment_share == pytest.approx(0.01)
    adapt(counters, 0.5, 50_000, budget=10**6)
    assert counters.augment_share == 0.0
    adapt(counters, 0.9, 5_000, budget=50_000)  # a short run can go the whole way too
    assert counters.augment_share == pytest.approx(0.1)
