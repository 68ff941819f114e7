"""Failures whose cause is known, in whole runs of a toy: the event says what failed, and the run heals."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load

from phantomset.data.records import ImageSet
from phantomset.ganmodels import checkpoint, engine, stability
from phantomset.ganmodels.family import Family, FamilySettings
from phantomset.ganmodels.plan import TrainingPlan
from phantomset.ganmodels.step import Stepper

from .toy import Faults, domains, toy, translator, waves

Train = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Train the toy with its faults; return all events."""

    def start(
        chosen: Faults | Family,
        images: tuple[int, ...] | ImageSet,
        budget_images: int,
        held_out: ImageSet | None = None,
        batch_size: int = 64,
    ) -> list[dict[str, Any]]:
        family = toy(chosen) if isinstance(chosen, Faults) else chosen
        learn = waves(images) if isinstance(images, tuple) else images
        monkeypatch.setattr(engine, "load", lambda *_: family)
        monkeypatch.setattr(stability, "WARM_UP_IMAGES", 2_000)
        plan = TrainingPlan(budget_images, batch_size, threads=1)
        progress = engine.train(learn, "toy", FamilySettings(), plan, tmp_path, held_out=held_out)
        return [event for report in progress for event in report.events]

    return start


def test_a_small_class_that_repeats_itself_is_named(train: Train) -> None:
    """One image of twenty is of class 2; from step 60 on its fakes are nearly one. It is met by name.

    Some 5 pairs a check of 1,280 images, so 84 of them after 17: at some 22,000 images the class is judged.
    """
    events = train(Faults(repeats=2, repeats_from=60), (190, 190, 20), 36_000)
    assert [event["code"] for event in events] == ["collapse"]
    assert events[0]["message"].startswith("spread of class 'class 2' 0.")
    assert "roll-back 1" in events[0]["message"]
    assert 22_000 <= events[0]["images"] <= 34_000


def test_a_small_class_that_varies_is_left_alone(train: Train) -> None:
    """The same sizes of classes in health: no event at all."""
    assert train(Faults(), (190, 190, 20), 30_000) == []


@pytest.mark.parametrize("is_both_ways", [True, False])
@pytest.mark.parametrize("counts", [(300, 60), (60, 300)])
def test_a_perfect_translator_is_left_alone(
    train: Train, is_both_ways: bool, counts: tuple[int, int]
) -> None:
    """Between domains whose variety differs four times, the larger or the smaller five times the other."""
    assert train(translator(Faults(), is_both_ways), domains(counts), 16_000) == []


@pytest.mark.parametrize("is_both_ways", [True, False])
def test_a_translator_that_repeats_itself_is_told(train: Train, is_both_ways: bool) -> None:
    """From step 300 on nearly one image is made of all of domain 0, so domain 1 is what lacks variety."""
    family = translator(Faults(repeats=0, repeats_from=300), is_both_ways)
    events = train(family, domains((200, 200)), 25_000)
    assert [event["code"] for event in events] == ["collapse"]
    assert events[0]["message"].startswith("spread of class 'class 1' 0.")
    assert 19_200 < events[0]["images"] <= 19_200 + 3 * 1_280


@pytest.mark.parametrize(("is_held_out", "steps"), [(True, (20, 40, 60)), (False, (240,))])
def test_a_run_given_up_ends_with_what_covered_most(
    train: Train, monkeypatch: pytest.MonkeyPatch, is_held_out: bool, steps: tuple[int, ...]
) -> None:
    """Grain grows from the start, so the first checkpoints cover held-out images best, though all are good.

    From step 260 on the weights are no numbers: with held-out images the run ends there, else with step 240.
    """
    monkeypatch.setattr(Stepper, "is_finite", lambda self: self.state.counters.step <= 240)
    held_out = waves((100, 100)) if is_held_out else None
    events = train(Faults(grain_rate=2e-3), (100, 100), 64 * 420, held_out)
    assert [event["code"] for event in events] == ["divergence"] * 8 + ["given-up"]
    assert all("to step 240:" in event["message"] for event in events[:7])
    assert any(events[-1]["message"].endswith(f"the state of step {step}") for step in steps)


def test_grain_is_met_on_the_way(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The toy learns grain from step 200 on, unless penalties come at every step. It is met soon: back to the
    good state of step 200, penalties at every step, and the run ends without grain and without a word of it.
    """
    monkeypatch.setattr(stability, "DRIFT_IMAGES", 64 * 200)
    events = train(Faults(grain_rate=1e-3, grain_from=200), (100, 100), 64 * 400)
    assert [event["code"] for event in events] == ["noise-drift"]
    assert 64 * 200 < events[0]["images"] <= 64 * 260
    assert events[0]["message"].startswith("power at the highest frequencies is 10^")
    assert "; roll-back 1 to step 200: " in events[0]["message"]
    assert "penalty at every step" in events[0]["message"]
    assert checkpoint.read_statistics(tmp_path)[-1]["noise_drift"] < stability.DRIFT_LIMIT


def test_grain_that_stays_is_met_once_and_told_at_the_end(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where penalties at every step do not help, the engine does not go back for it again and again."""
    monkeypatch.setattr(stability, "DRIFT_IMAGES", 64 * 200)
    events = train(Faults(grain_rate=1e-3, grain_from=200, is_stubborn=True), (100, 100), 64 * 400)
    assert [event["code"] for event in events] == ["noise-drift", "noise-drift"]
    assert "roll-back 1" in events[0]["message"]
    assert (events[1]["images"], "roll-back" in events[1]["message"]) == (64 * 400, False)
    assert checkpoint.read_statistics(tmp_path)[-1]["noise_drift"] > stability.DRIFT_LIMIT


def test_a_critic_that_wins_is_made_to_work_harder(train: Train) -> None:
    """It tells all pairs apart, and from step 300 on fakes grow alike: met by rung 1, and they recover."""
    (event,) = train(Faults(shrinks_from=300, is_won=True), (100, 100), 64 * 500)
    assert event["code"] == "critic-wins"
    assert event["message"] == "augmentation + 0.1, penalty x 2"
    assert 64 * 380 <= event["images"] <= 64 * 440


@pytest.mark.parametrize("faults", [Faults(shrinks_from=300), Faults(is_won=True)])
def test_a_fair_critic_is_left_alone(train: Train, faults: Faults) -> None:
    """Fakes that grow alike by as much under a critic that guesses, and a lucky critic: no event at all."""
    assert train(faults, (100, 100), 64 * 500) == []


def test_a_steep_critic_is_met_by_a_stronger_penalty(train: Train) -> None:
    """A penalty of .3 from step 300 on: back at the third check, and with twice the penalty it is .15."""
    (event,) = train(Faults(steep_from=300), (100, 100), 64 * 500)
    assert (event["code"], event["images"]) == ("steep-critic", 64 * 360)
    assert event["message"].startswith("roll-back 1 to step 300: ")
    assert "penalty x 2" in event["message"]


def test_a_late_blow_up_is_met_by_penalties_at_every_step(train: Train) -> None:
    """At seven tenths of 1,600 steps the penalty is a hundred times its past and fakes are more alike."""
    (event,) = train(Faults(blows_up_from=1_120), (100, 100), 32 * 1_600, batch_size=32)
    assert (event["code"], event["images"]) == ("late-blow-up", 32 * 1_180)
    assert "roll-back 1 to step " in event["message"]
    assert "penalty at every step" in event["message"]


def test_a_damaged_good_checkpoint_is_gone_behind(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state to go back to cannot be read: that is told, the best one before it is taken, and the run
    heals."""
    save = checkpoint.save

    def spoil(folder: Path, tensors: Any, counters: dict[str, Any], done: bool = False) -> None:
        save(folder, tensors, counters, done)
        if counters["step"] == 300:
            (folder / "checkpoint-00000300.safetensors").write_bytes(b"none")

    monkeypatch.setattr(checkpoint, "save", spoil)
    events = train(Faults(steep_from=300), (100, 100), 64 * 500, waves((100, 100)))
    assert [event["code"] for event in events][:2] == ["damaged-checkpoint", "steep-critic"]
    assert "that of step 300 was damaged or gone; the run goes back to step " in events[0]["message"]
    assert int(events[0]["message"].rpartition(" ")[2]) < 300
    assert "penalty x 2" in events[1]["message"]
    assert "given-up" not in {event["code"] for event in events}


def test_a_class_beyond_the_picture_that_ends_narrow_is_named(train: Train) -> None:
    """Samples of the fourteenth class repeat themselves: no step of training shows it, no row of the picture,
    and all samples together are varied. The last look names it."""
    (event,) = train(Faults(repeats_at_last=13), (30,) * 14, 64 * 100)
    assert event["code"] == "narrow-samples"
    assert event["message"].startswith("spread of class 'class 13' 0.0")


def test_a_damaged_checkpoint_is_told_and_gone_behind(train: Train, tmp_path: Path) -> None:
    """The newest is cut off: the run goes on from the one before, says so, and ends where it would have."""
    train(Faults(grain_rate=1e-3), (100, 100), 64 * 100)
    done, before = sorted(tmp_path.glob("checkpoint-*.safetensors"), reverse=True)[:2]
    end = load(done.read_bytes())
    done.write_bytes(done.read_bytes()[:-5])
    (event,) = train(Faults(grain_rate=1e-3), (100, 100), 64 * 100)
    step = int(before.stem.removeprefix("checkpoint-"))
    assert (event["code"], event["images"]) == ("damaged-checkpoint", 64 * step)
    assert f"goes on from step {step}" in event["message"]
    assert event["advice"] == "Check the disk."
    assert all(torch.equal(tensor, end[name]) for name, tensor in load(done.read_bytes()).items())
