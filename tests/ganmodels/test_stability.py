"""Detectors and the ladder, on numbers from healthy and from failed runs."""

import math

import numpy as np
import pytest
import torch

from phantomset.ganmodels.recovery import climb
from phantomset.ganmodels.stability import (
    Check,
    class_spreads,
    drift,
    findings,
    has_stalled,
    is_narrow,
    look,
    persistent,
    sketch,
)
from phantomset.ganmodels.state import Counters

HEALTHY = Check(gap=0.05, pair_accuracy=0.6, spread=1.0, class_spread=0.9)


def _counters(step: int = 500, good_step: int = 100) -> Counters:
    return Counters(step=step, good_step=good_step)


def test_healthy_runs_are_left_alone() -> None:
    """The numbers of a healthy run, its early dip of the spread included, fire nothing."""
    assert findings(HEALTHY, {"penalty": 0.002}, _counters(), 32_000) == set()
    dip = Check(0.01, 0.5, 0.45, 0.3)
    assert findings(dip, {"penalty": 0.04}, _counters(60, 0), 4_000) == set()


@pytest.mark.parametrize(
    ("check", "penalty"),
    [
        (Check(25_000.0, 1.0, 33.0, 30.0), 9e7),  # learning rate ten times too large, at step 20
        (Check(51.0, 0.6, 1.0, 1.0), 0.1),
        (Check(0.1, 0.6, 3.1, 1.0), 0.1),
        (Check(0.1, 0.6, 1.0, 1.0), 1001.0),
        (Check(math.nan, 0.6, 1.0, 1.0), 0.1),
        (Check(0.1, 0.6, 1.0, 1.0), math.inf),
    ],
)
def test_divergence(check: Check, penalty: float) -> None:
    """Any one of gap over 50, spread over 3, penalty over 1000, or a number that is none."""
    assert findings(check, {"penalty": penalty}, _counters(20, 0), 1_280) == {"divergence"}


@pytest.mark.parametrize("check", [Check(0.1, 0.6, 0.49, 0.49), Check(0.1, 0.6, 0.8, 0.34)])
def test_collapse(check: Check) -> None:
    """Fakes half as far apart as real images, or a third in one class, after 10,000 images."""
    assert findings(check, {}, _counters(), 11_000) == {"collapse"}


def test_collapse_before_the_first_good_state_waits() -> None:
    """Without a good checkpoint the way back leads to the start, so 30,000 images are waited for."""
    check = Check(0.1, 0.6, 0.3, 0.3)
    assert findings(check, {}, _counters(good_step=0), 20_000) == set()
    assert findings(check, {}, _counters(good_step=0), 31_000) == {"collapse"}


def test_a_way_back_to_the_start_gives_the_start_its_time_again() -> None:
    """Led back to the start at 32,000 images, collapse waits until 62,000."""
    check, counters = Check(0.1, 0.6, 0.3, 0.3), _counters(good_step=0)
    counters.restarted_images = 32_000
    assert findings(check, {}, counters, 61_000) == set()
    assert findings(check, {}, counters, 63_000) == {"collapse"}


@pytest.mark.parametrize(
    ("spread", "class_spread", "narrow"), [(0.49, 0.6, 1), (0.6, 0.34, 1), (0.5, 0.35, 0)]
)
def test_what_the_warm_up_forgives_is_no_good_state(spread: float, class_spread: float, narrow: int) -> None:
    """Ten checks of alike fakes in the warm-up fire nothing, and yet are not ten clean checks."""
    counters, check = Counters(), Check(0.1, 0.6, spread, class_spread)
    for step in range(10):
        fired = findings(check, {}, counters, 64 * step)
        assert persistent(fired, counters, is_good=not is_narrow(check)) == []
    assert counters.clean_checks == (0 if narrow else 10)


def test_a_steep_critic_is_met_long_before_it_diverges() -> None:
    """A penalty over .2 after the warm-up acts at the third check; healthy runs have .04 there at most."""
    assert findings(HEALTHY, {"penalty": 0.21}, _counters(), 40_000) == {"steep-critic"}
    assert findings(HEALTHY, {"penalty": 0.19}, _counters(), 40_000) == set()
    assert findings(HEALTHY, {"penalty": 1.9}, _counters(20, 0), 1_280) == set()
    counters = Counters()
    assert [persistent({"steep-critic"}, counters) for _ in range(3)] == [[], [], ["steep-critic"]]


def test_critic_wins_only_while_the_spread_falls() -> None:
    """Pair accuracy over .97 alone is a lucky batch; with fakes growing alike it is a lost game."""
    won = Check(0.4, 0.98, 0.7, 0.7)
    steady, falling = _counters(), _counters()
    steady.spreads, falling.spreads = [0.7] * 10, [0.9] * 10
    assert findings(won, {}, steady, 40_000) == set()
    assert findings(won, {}, falling, 40_000) == {"critic-wins"}


def test_one_bad_check_is_not_enough() -> None:
    """Divergence acts at the 2nd check in a row, collapse at the 3rd; a clean check between starts anew."""
    counters = _counters()
    assert persistent({"collapse"}, counters) == []
    assert persistent({"collapse"}, counters) == []
    assert persistent(set(), counters) == []
    assert counters.clean_checks == 1
    assert [persistent({"collapse", "divergence"}, counters) for _ in range(3)] == [
        [],
        ["divergence"],
        ["collapse"],
    ]


def test_each_roll_back_is_more_careful() -> None:
    """Half the learning rate and twice the penalty; a tenth of the rate when the gap exceeds 1,000."""
    counters = _counters()
    climb(counters, 40, gap=60.0)
    assert (counters.learning_rate_scale, counters.penalty_scale, counters.roll_backs) == (0.5, 2.0, 1)
    climb(counters, 40, gap=1e6)
    assert counters.learning_rate_scale == pytest.approx(0.05)
    assert counters.streaks == {}


def test_look_measures_pairs_and_distances() -> None:
    """Fakes that are the real images halved: spread one half in every class; scores by hand."""
    real = torch.randn(32, 1, 4, 4)
    labels = torch.arange(32) % 2
    shared = {
        "fakes": real / 2,
        "real_scores": torch.tensor([1.0, 0.0] * 16),
        "fake_scores": torch.tensor([0.0, 2.0] * 16),
    }
    check = look(real, labels, shared, Counters())
    assert check.spread == pytest.approx(0.5, abs=1e-6)
    assert check.class_spread == pytest.approx(0.5, abs=1e-6)
    assert (check.gap, check.pair_accuracy) == (1.5, 0.5)


def test_a_small_class_is_judged_over_several_batches() -> None:
    """Four images of 32 are 6 pairs: 84 pairs take 14 batches. Then the oldest weigh less and less."""
    rng, counters = torch.Generator().manual_seed(0), Counters()
    labels = (torch.arange(32) < 4).long()

    def see(size: float) -> Check:
        real = torch.randn(32, 1, 4, 4, generator=rng)
        fakes = torch.where((labels == 1)[:, None, None, None], size * real, real)
        return look(real, labels, {"fakes": fakes}, counters)

    checks = [see(0.2) for _ in range(14)]
    assert [check.class_spread for check in checks[:13]] == pytest.approx([1.0] * 13)
    assert class_spreads(counters) == {0: pytest.approx(1.0), 1: pytest.approx(0.2)}
    assert checks[13].class_spread == pytest.approx(0.2)
    for _ in range(14):
        see(1.0)
    # What was known before weighs (1 - 6 / 84)^14 = .354 after 14 more batches.
    assert class_spreads(counters)[1] == pytest.approx(0.2 * 0.354 + 0.646, abs=0.05)
    assert counters.class_pairs["1"][2] == 84


def test_pairs_that_are_no_numbers_are_not_remembered() -> None:
    """A batch of NaN leaves what was known of its classes."""
    counters, labels = Counters(), torch.zeros(16, dtype=torch.int64)
    real = torch.randn(16, 1, 4, 4)
    look(real, labels, {"fakes": real / 2}, counters)
    look(real, labels, {"fakes": real * math.nan}, counters)
    assert class_spreads(counters) == {0: pytest.approx(0.5)}


def test_drift_sees_grain_that_the_eye_hardly_sees() -> None:
    """Smooth images against themselves: 0. Noise of 5 grey levels lifts the highest bands far over .3."""
    rng = np.random.default_rng(0)
    angle = 2 * np.pi * np.arange(28) / 28  # whole waves: no edge that would fill the high bands
    smooth = 120 + 60 * np.sin(angle[:, None] + rng.uniform(0, 6, (64, 1, 1, 1))) * np.cos(2 * angle)
    grain = smooth + rng.normal(0, 5, smooth.shape)
    real = (smooth + rng.normal(0, 1, smooth.shape)).round().astype(np.uint8)
    assert drift(real, real) == 0.0
    # Noise of variance 25 instead of 1 + 1/12 (rounding) lifts its power by log10(25.08 / 1.08) = 1.37.
    assert drift(grain.round().astype(np.uint8), real) == pytest.approx(1.37, abs=0.1)


def _late(**changes: object) -> set[str]:
    """Findings late in a run whose past was healthy: penalty .001, pairs .6, spread 1."""
    counters = _counters(5_000, 4_000)
    counters.history = [[0.001, 0.6, 1.0]] * 40
    counters.history[-10:] = changes.pop("last", counters.history[-10:])  # type: ignore[call-overload]
    check = Check(**{"gap": 0.1, "pair_accuracy": 0.6, "spread": 0.8, "class_spread": 0.8, **changes})  # type: ignore[arg-type]
    return findings(check, {"penalty": 0.06}, counters, 300_000, progress=0.7)


def test_late_blow_up() -> None:
    """A penalty over 50 times its median, or pairs outside .3 to .85, while the fakes grow alike."""
    assert _late() == {"late-blow-up"}
    assert _late(spread=0.95) == set()
    counters = _counters(5_000, 4_000)
    counters.history = [[0.001, 0.6, 1.0]] * 30 + [[0.001, 0.2, 1.0]] * 10
    check = Check(0.1, 0.2, 0.8, 0.8)
    assert findings(check, {"penalty": 0.001}, counters, 300_000, progress=0.7) == {"late-blow-up"}
    counters.history = [[0.001, 0.6, 1.0]] * 40
    assert findings(check, {"penalty": 0.001}, counters, 300_000, progress=0.4) == set()


def test_over_fit_needs_a_difference_that_stands_out() -> None:
    """Ten checks with held-out images over half the way to the fakes, by more than two standard errors."""

    def after(gap: float, error: float, fake: float) -> set[str]:
        counters, fired = _counters(), set()
        numbers = {"held_out_gap": gap, "held_out_error": error, "fake_gap": fake}
        for _ in range(10):
            fired = findings(HEALTHY, numbers, counters, 30_000)
        return fired

    assert after(0.6, 0.1, 1.0) == {"over-fit"}
    assert after(0.6, 0.4, 1.0) == set()  # within the noise
    assert after(0.3, 0.01, 1.0) == set()  # a third of the way
    assert after(0.6, 0.1, -0.2) == {"over-fit"}  # the fakes look more real than held-out images


def test_a_stall() -> None:
    """A quarter of the run without change, and samples too alike; moving or wide samples are no stall."""
    still = [0.6, *[100.0] * 16]
    counters = Counters(sketches=[still] * 5)
    assert not has_stalled(counters)
    counters.sketches = [still] * 6
    assert has_stalled(counters)
    counters.sketches[-1] = [0.6, *[110.0] * 16]
    assert not has_stalled(counters)
    counters.sketches = [[0.95, *[100.0] * 16]] * 6
    assert not has_stalled(counters)


def test_a_sketch() -> None:
    """Samples half as far from their mean as real images: spread one half, the mean image in 16 parts."""
    rng = np.random.default_rng(0)
    real = rng.integers(0, 200, (20, 1, 8, 8)).astype(np.uint8)
    row = sketch((50 + real // 2).astype(np.uint8), real)
    assert row[0] == pytest.approx(0.5, abs=0.01)
    assert len(row) == 17
    assert row[1:] == pytest.approx([50 + 199 / 4] * 16, abs=10)


def test_families_without_scores_or_fakes() -> None:
    """An autoencoder shows neither: nothing fires but a loss that is no number or far too large."""
    check = look(torch.zeros(4, 1, 2, 2), torch.zeros(4, dtype=torch.int64), {}, Counters())
    assert check == Check()
    assert findings(check, {"autoencoder_loss": 0.5}, _counters(), 400_000) == set()
    assert findings(check, {"autoencoder_loss": math.nan}, _counters(), 1_000) == {"divergence"}
    assert findings(check, {"autoencoder_loss": 2_000.0}, _counters(), 1_000) == {"divergence"}
