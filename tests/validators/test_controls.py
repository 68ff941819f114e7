"""Controls: they notice what was planted, stay silent without a leak, and say so when they do not."""

import numpy as np
import pytest

from phantomset.validators import controls
from phantomset.validators.context import Context
from phantomset.validators.controls import CONTROLS, control_sets, jittered
from phantomset.validators.finding import Rules
from phantomset.validators.gate import REQUIRED
from phantomset.validators.ladder import LADDER

from .conftest import make_evidence


def statuses(context: Context, name: str) -> dict[str, str]:
    return {finding.metric: finding.status for finding in CONTROLS[name](context)}


def test_required_controls_exist() -> None:
    """What the gate asks for is there."""
    assert set(REQUIRED["controls"]) <= set(CONTROLS)


def test_planted_copies_are_noticed(clean: Context) -> None:
    """On a clean set with enough patients the required rungs pass, and the pool says so in words."""
    findings = list(CONTROLS["positive_control"](clean))
    assert len(findings) == len(LADDER) + 1
    pooled = findings[-1]
    assert pooled.status == "PASS"
    assert pooled.n == sum({1: 24, 10: 8}.get(rung.dose, 0) for rung in LADDER)
    assert "Would have caught one copy of a training image" in pooled.details["power"]
    assert "at least 88% (24 of 24) of exact; noise 2/255; " in pooled.details["power"]
    assert "training image (exact; noise 2/255; " in pooled.details["public_power"]
    by_rung = {f.metric.split(": ", 1)[1]: f for f in findings[:-1]}
    assert by_rung["exact"].value == 1
    assert by_rung["patch"].status == "REPORTED"


def test_exposed_patients_are_noticed_without_the_scan(clean: Context) -> None:
    """k95 is given when, and only when, 95% of 59 trials at 3% of T were noticed."""
    (finding,) = CONTROLS["family_control"](clean)
    hits = finding.details["hits_by_k"]
    enough = hits[max(hits)] >= 0.95 * 59
    assert (finding.status == "PASS") == ("k95_share" in finding.details) == enough
    assert max(hits) == 9


def test_the_power_statement_proves_what_it_says() -> None:
    """Each kind stands beside the one-sided 95% bound of its own trials, rounded down: 18 of 24 proves .57.

    By Clopper and Pearson: 24 of 24 proves .05^(1/24) = .8827, 18 of 24 .5653; no pool lends it more.
    """
    hits = {rung.name: 24 if rung.dose == 1 else 8 for rung in LADDER}
    trials = dict(hits)
    singles = [rung.name for rung in LADDER if rung.dose == 1]
    hits[singles[2]], hits[singles[5]] = 18, 17
    details = controls._pooled_finding(hits, trials).details
    assert f"{24 * len(singles) - 13} of {24 * len(singles)}" in details["power"]
    assert f"at least 88% (24 of 24) of {singles[0]}; {singles[1]}; {singles[3]}; " in details["power"]
    assert f"at least 56% (18 of 24) of {singles[2]}. Not" in details["power"]
    assert f"Not reliably noticed: {singles[5]} (17 of 24)." in details["power"]
    assert not any(digit in details["public_power"] for digit in ("24", "18 of", "17 of", "%"))


def test_the_power_of_k95_is_measured_on_draws_that_did_not_choose_it(
    clean: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search whose k had luck: the least k of which fresh draws are noticed as often counts, with what
    these prove, for the sentence and for the public share alike.
    """

    def lucky(_context: Context, _pool: np.ndarray, k: int, *names: str) -> int:
        return {4: 40, 5: 56, 6: 58}[k] if names else (59 if k >= 4 else 0)

    monkeypatch.setattr(controls, "_family_hits", lucky)
    (finding,) = CONTROLS["family_control"](clean)
    assert (finding.status, finding.value) == ("PASS", 6)
    assert finding.details["k95_share"] == 6 / 300
    assert "6 exposed patients of 300" in finding.details["power"]
    assert "in at least 92% (58 of 59) of cases, with 95% confidence" in finding.details["power"]


def test_where_no_fresh_draws_confirm_all_that_may_be_exposed_count(
    clean: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No k below 3% of T holds on fresh draws: the k that was asked for first stands, by its own draws."""

    def lucky(_context: Context, _pool: np.ndarray, k: int, *names: str) -> int:
        return 40 if names else (59 if k >= 4 else 0)

    monkeypatch.setattr(controls, "_family_hits", lucky)
    (finding,) = CONTROLS["family_control"](clean)
    assert (finding.status, finding.value) == ("PASS", 9)
    assert "(59 of 59)" in finding.details["power"]


def test_k95_of_three_hundredths_was_not_searched(clean: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the least k is the one that was asked for first, its own draws stand: 57 of 59 proves .89."""

    def weak(_context: Context, _pool: np.ndarray, k: int, *names: str) -> int:
        assert not names
        return 57 if k == 9 else 0

    monkeypatch.setattr(controls, "_family_hits", weak)
    (finding,) = CONTROLS["family_control"](clean)
    assert (finding.status, finding.value) == ("PASS", 9)
    assert "in at least 89% (57 of 59) of cases" in finding.details["power"]


def test_the_dose_is_noticed(clean: Context) -> None:
    """Jittered training images in place of S make the suite alarm."""
    assert statuses(clean, "dose_control") == {"training images with jitter in place of S": "PASS"}


def test_no_leak_no_alarm(clean: Context) -> None:
    """Fresh patients as S, random labels, a set made of R: silent."""
    assert set(statuses(clean, "negative_control").values()) == {"PASS"}


def test_a_blind_scan_fails_its_control(clean: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scan that never alarms: every single-copy rung and the pool are INCONCLUSIVE."""
    monkeypatch.setattr(controls, "ALPHA_SCAN", -1.0)
    found = statuses(clean, "positive_control")
    assert found["1 planted, noticed: exact"] == "INCONCLUSIVE"
    assert found["copies of required kinds, noticed"] == "INCONCLUSIVE"


def test_a_blind_family_fails_its_control(clean: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """A family that never alarms has no k95, and the finding says how many patients would do."""
    monkeypatch.setattr(controls, "ALPHA_FAMILY", -1.0)
    (finding,) = CONTROLS["family_control"](clean)
    assert finding.status == "INCONCLUSIVE"
    assert "600" in finding.advice
    assert "k95_share" not in finding.details


def test_a_suite_that_always_alarms_fails_its_control(
    clean: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scan that alarms on anything alarms on fresh patients and under random labels."""
    monkeypatch.setattr(controls, "ALPHA_SCAN", 2.0)
    monkeypatch.setattr(controls, "alarms", lambda *_: {"scan": True, "family": False, "AUC": False})
    assert set(statuses(clean, "negative_control").values()) == {"INCONCLUSIVE"}


def test_a_deaf_suite_fails_the_dose(clean: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """A suite that is silent about a set of training images cannot judge."""
    monkeypatch.setattr(controls, "alarms", lambda *_: {"scan": False, "family": False, "AUC": True})
    assert set(statuses(clean, "dose_control").values()) == {"INCONCLUSIVE"}


def test_too_small_a_holdout_says_what_would_do() -> None:
    """With fewer than 200 holdout patients none can pose as the set: INCONCLUSIVE with the number."""
    context = Context(make_evidence(60, 50, 40, 50), Rules(), 0, control_sets)
    finding = CONTROLS["negative_control"](context)[0]
    assert finding.status == "INCONCLUSIVE"
    assert "n_H = 50" in finding.advice
    assert "200" in finding.advice


def test_controls_are_seeded_and_leave_the_set_alone(evidence) -> None:
    """The same seed plants the same copies; the synthetic images stay as they are."""
    before = evidence.synthetic.images.copy()
    first, second = (Context(evidence, Rules(), 5, control_sets).extra_sets for _ in range(2))
    other = Context(evidence, Rules(), 6, control_sets).extra_sets
    np.testing.assert_array_equal(first["planted"].images, second["planted"].images)
    assert (first["planted"].images != other["planted"].images).any()
    np.testing.assert_array_equal(evidence.synthetic.images, before)


def test_jitter_keeps_mean_and_variance() -> None:
    """Draws of the kernel density have the images' variance: sources are shrunk by what the jitter adds."""
    rng = np.random.default_rng(0)
    images = np.clip(128 + 30 * rng.standard_normal((300, 1, 6, 6)), 0, 255).astype(np.uint8)
    made = jittered(images, 4000, 0.6, rng)
    assert made.std(0).mean() == pytest.approx(images.std(0).mean(), rel=0.03)
    assert made.mean() == pytest.approx(images.mean(), abs=1)
