"""Privacy measures against worked examples, closed forms and independent libraries."""

import numpy as np
import pytest
import torch
from scipy import stats

from phantomset.validators.measures import permutation
from phantomset.validators.measures.copying import (
    authentic_share,
    closer_share,
    copying_test,
    copying_z,
    identifiable_share,
    neighbour_ratio,
)
from phantomset.validators.measures.density import gaussian_kernels, log_density
from phantomset.validators.measures.permutation import (
    exact_p,
    min_p,
    null_sums,
    rank_column,
    smallest_count,
    top_columns,
    top_count_p,
)
from phantomset.validators.measures.rates import (
    attack_strength,
    auc,
    clopper_pearson,
    excess_lower_bound,
    joint_upper_bounds,
    lower_bound,
    tpr_at_fpr,
    trials_without_hit,
    upper_bound,
    wilson,
)
from phantomset.validators.measures.tail import fit_tail, hill_exponent

_rng = np.random.default_rng(1)
T, P, G = _rng.standard_normal((200, 4)), _rng.standard_normal((200, 4)), _rng.standard_normal((200, 4))
C = T + 0.01 * _rng.standard_normal((200, 4))
F = _rng.standard_normal((200, 4)) * 3
FOUR_OF_EIGHT = np.arange(8) < 4
HILL = (np.arange(1, 1001) / 1000) ** (1 / 8)


def line(*points: float) -> np.ndarray:
    return np.array(points)[:, None]


REFERENCES = [
    ("Clopper-Pearson 0/300", lambda: clopper_pearson(0, 300), (0, 0.012221), 1e-6),
    ("Clopper-Pearson 3/300", lambda: clopper_pearson(3, 300), (0.002067, 0.028945), 1e-6),
    ("Clopper-Pearson 1/20", lambda: clopper_pearson(1, 20), (0.001265, 0.248733), 1e-6),
    ("Clopper-Pearson 10/10", lambda: clopper_pearson(10, 10), (0.691503, 1), 1e-6),
    ("upper 0/300", lambda: upper_bound(0, 300), 0.009936, 1e-6),
    ("upper 0/100", lambda: upper_bound(0, 100), 0.029513, 1e-6),
    ("lower is the mirror of upper", lambda: lower_bound(300, 300), 1 - 0.009936, 1e-6),
    ("zero alarms for <= 1%", lambda: trials_without_hit(0.01), 299, 0),
    ("Wilson 10/100", lambda: wilson(10, 100), (0.114797, 0.059568), 1e-6),
    ("4 T on top of 8", lambda: exact_p(np.arange(8.0)[::-1], FOUR_OF_EIGHT), 1 / 70, 1e-15),
    ("vote share", lambda: exact_p(np.array([5.0, 4, 3, 0, 1, 2]), np.arange(6) < 3), 1 / 20, 1e-15),
    ("top 8 all T", lambda: top_count_p(8, 8, 3000, 1500), 3.869871e-3, 1e-8),
    ("13 T of top 16", lambda: top_count_p(13, 16, 3000, 1500), 1.046922e-2, 1e-8),
    (
        "smallest k",
        lambda: [smallest_count(a, p) for p in (0.5, 0.9) for a in (0.01, 0.001)],
        [7, 10, 44, 66],
        0,
    ),
    # U = 8 of 9 pairs; scipy's exact Mann-Whitney gives p = .1 for the same data.
    ("Mann-Whitney U", lambda: 9 * auc(np.array([3.0, 4, 5]), np.array([1.0, 2, 3.5])), 8, 1e-12),
    (
        "Mann-Whitney p",
        lambda: exact_p(stats.rankdata([3, 4, 5, 1, 2, 3.5]), np.arange(6) < 3),
        0.1,
        1e-12,
    ),
    ("C_T of fresh", lambda: copying_z(T, P, G), -0.411714, 1e-5),
    ("C_T of copies", lambda: copying_z(T, P, C), -17.298898, 1e-5),
    ("C_T of far", lambda: copying_z(T, P, F), 16.038673, 1e-5),
    ("C_T limit", lambda: copying_z(T, P + 50, T), -17.298898, 1e-6),
    ("AuthPct of fresh", lambda: authentic_share(T, G), 0.55, 1e-12),
    ("AuthPct of copies", lambda: authentic_share(T, C), 0, 0),
    # By hand: 0 and 10 are real; 1 lies at 1 and 9 of them, 4 at 4 and 6; the 5% quantile lies at 1/9 + 5% of
    # the way to 2/3. 1 and 4 are nearer to {0, 10} than to {6.5}: 1 is, 4 (4 against 2.5) is not.
    ("NNDR", lambda: neighbour_ratio(line(0, 10), line(1, 4)), 1 / 9 + 0.05 * (2 / 3 - 1 / 9), 1e-9),
    ("DCR share", lambda: closer_share(line(0, 10), line(6.5), line(1, 4)), 0.5, 1e-12),
    # 0 is 1 from the synthetic image and 3 from the next real one; 3 is 2 and 3 away; 9 is 8 and 6 away.
    ("identifiability", lambda: identifiable_share(line(0, 3, 9), line(1)), 2 / 3, 1e-12),
    # Newcombe 1998, example (a): 56/70 against 48/80, 95% interval .0524 to .3339.
    ("Newcombe", lambda: excess_lower_bound((56, 70), (48, 80), 0.975), 0.0524, 5e-5),
    ("Hill exponent, true 8", lambda: hill_exponent(HILL[:50], HILL[50]), 8.313672, 1e-5),
    # By hand: half of one and of e^-1/2, then the logarithm.
    (
        "KDE",
        lambda: log_density(gaussian_kernels(torch.tensor([0.0, 1.0]), 1).sum().numpy(), 2),
        -0.219070,
        1e-6,
    ),
    # 3 of 4 reach the threshold 2 that one of 100 negatives passes; ties do not pass.
    ("TPR at FPR 1%", lambda: tpr_at_fpr(np.array([2, 3.0, 4, 9]), np.r_[np.zeros(98), 2, 5], 0.01), 0.75, 0),
]


@pytest.mark.parametrize(("name", "measure", "expected", "tolerance"), REFERENCES)
def test_reference_value(name: str, measure, expected, tolerance: float) -> None:
    """Each measure gives the figure of a hand, a closed form or an independent library."""
    assert measure() == pytest.approx(expected, abs=tolerance, rel=0)


def test_planted_zero_has_p_zero() -> None:
    """A training patient at distance 0 is expected never: p = 0."""
    tail = fit_tail(HILL)
    assert tail.p_value(0.0, 1000) == 0
    assert tail.alarm_distance(1000) < HILL[0]


@pytest.mark.parametrize(("holdout", "count"), [(100, 10), (220, 20), (400, 20), (1000, 50), (9, 1)])
def test_tail_of_a_small_holdout(holdout: int, count: int) -> None:
    """A twentieth of the holdout makes the tail; where that is less than 20 values, 20, at most a tenth."""
    assert fit_tail(np.linspace(1, 2, holdout)).count == count


@pytest.mark.parametrize("size", [220, 500])
def test_scan_of_equal_sets_rarely_alarms(size: int) -> None:
    """T and H from one distribution: p below .01 in few of 300 draws, though the tail is fitted."""
    rng = np.random.default_rng(5)
    small = sum(
        fit_tail(rng.weibull(8, size)).p_value(rng.weibull(8, size).min(), size) < 0.01 for _ in range(300)
    )
    assert upper_bound(small, 300) < 0.03


def test_scan_of_the_same_values_never_alarms() -> None:
    """T with the very values of H: p is not below .01 in at least 99 of 100 sets."""
    rng = np.random.default_rng(6)
    small = 0
    for _ in range(100):
        values = rng.weibull(8, 1000)
        small += fit_tail(values).p_value(values.min(), 1000) < 0.01
    assert small <= 1


def test_alarm_distance_expects_what_it_says() -> None:
    """E(τ) = .001 by definition."""
    tail = fit_tail(HILL)
    assert tail.expected(tail.alarm_distance(500), 500) == pytest.approx(0.001)


def test_min_p_is_exact_when_nothing_leaks() -> None:
    """Under random labels P(p <= .05) is near .05, however the columns are correlated."""
    rng = np.random.default_rng(7)
    score = rng.standard_normal(120)
    columns = [rank_column("a", score), rank_column("b", score + 0.1 * rng.standard_normal(120))]
    columns += top_columns("a", score)
    labels = np.arange(120) < 60
    alarms = sum(min_p(columns, rng.permutation(labels), 199, rng).p <= 0.05 for _ in range(200))
    low, high = clopper_pearson(alarms, 200, 0.999)
    assert low <= 0.05 <= high


def test_min_p_sees_eight_exposed_patients() -> None:
    """8 training patients on top of 120 reach p = .003 in a single top-8 column: π^8 = 1/256."""
    rng = np.random.default_rng(8)
    score = rng.standard_normal(1000)
    score[:8] += 20
    result = min_p(top_columns("a", score, [8]), np.arange(1000) < 500, 9999, rng)
    assert result.column_p[0] == pytest.approx(top_count_p(8, 8, 1000, 500))
    assert result.p == pytest.approx(result.column_p[0], rel=0.5)


def test_null_sums_draw_as_many_patients_as_train() -> None:
    """Each permutation labels exactly n_T patients."""
    sums = list(null_sums(np.ones((50, 1)), 20, 1100, np.random.default_rng(0)))
    np.testing.assert_array_equal(np.concatenate(sums), np.full((1100, 1), 20.0))


def test_stopping_early_changes_no_decision(monkeypatch: pytest.MonkeyPatch) -> None:
    """50 permutations as extreme as what was seen are enough: the same answers at .05 and below as with all,
    the same p where it is that low, and a p that is close where it is not.
    """
    rng = np.random.default_rng(3)
    score = rng.standard_normal(200)
    columns = [rank_column("a", score), *top_columns("a", score, [16])]
    labels = [rng.permutation(np.arange(200) < 100) for _ in range(60)]
    noisy = [score + shift * rng.standard_normal(200) for shift in (2, 4, 8, 12)]
    labels += [values > np.median(values) for values in noisy]
    early, whole = [], []
    for enough, into in ((permutation.ENOUGH, early), (10**9, whole)):
        monkeypatch.setattr(permutation, "ENOUGH", enough)
        into += [min_p(columns, label, 999, np.random.default_rng(1)).p for label in labels]
    assert [p <= 0.05 for p in early] == [p <= 0.05 for p in whole]
    assert [p for p in early if p <= 0.05] == [p for p in whole if p <= 0.05]
    assert sum(p <= 0.05 for p in whole) >= 2
    np.testing.assert_allclose(early, whole, rtol=0.6)


def test_c_t_is_the_mean_of_z_over_cells() -> None:
    """Three far cells of T: in the first S is nearer than H (U = 0), in the second farther (U = nm).

    In the third S has 5 images, so it does not count: ``C_T = (90 Z_1 + 130 Z_2) / 220``, H's counts as
    weights, with ``Z = ±√(3 nm / (n + m + 1))``. The global form of the same sets is another figure.
    """

    def cell(centre: float, distance: float, count: int) -> np.ndarray:
        return centre + distance + 0.001 * np.arange(count)

    train = line(*cell(0, 0, 100), *cell(1000, 0, 100), *cell(2000, 0, 100))
    holdout = line(*cell(0, 20, 90), *cell(1000, 20, 130), *cell(2000, 20, 90))
    synthetic = line(*cell(0, 10, 220), *cell(1000, 30, 80), *cell(2000, 10, 5))
    near, far = (np.sqrt(3 * n * m / (n + m + 1)) for n, m in ((90, 220), (130, 80)))
    expected = (-90 * near + 130 * far) / 220
    found = copying_test(train, holdout, synthetic, np.random.default_rng(0))
    assert found == pytest.approx(expected, abs=1e-9)
    assert copying_z(train, holdout, synthetic) != pytest.approx(expected, abs=0.5)


def test_c_t_of_small_sets_has_one_cell() -> None:
    """With 200 images in a set there are two cells; with 40 one, and the figure is the global one."""
    rng = np.random.default_rng(0)
    assert copying_test(T[:40], P[:40], G[:40], rng) == copying_z(T[:40], P[:40], G[:40])
    assert copying_test(T, P, C, rng) == pytest.approx(-12, abs=1)


def test_lower_ends_of_the_joint_interval_mirror_the_upper_ones() -> None:
    """Draws that are symmetric around the figures: both ends lie as far away from each."""
    rng = np.random.default_rng(3)
    half = 0.02 * rng.standard_normal((3000, 5))
    value = np.array([0.5, 0.52, 0.6, 0.5, 0.5])
    found = joint_upper_bounds(value, value + np.concatenate([half, -half]))
    np.testing.assert_allclose(value - found.lower, found.upper - value)
    assert found.least == pytest.approx(0.6 - 2.33 * 0.02, abs=0.003)  # Φ⁻¹(.95^(1/5)) = 2.32


def test_bootstrap_agrees_with_the_normal_limit() -> None:
    """One attack without signal: bound - value is 1.645 deviations √(1/12 (1/n + 1/m)) of the AUC."""
    rng = np.random.default_rng(9)
    area, _ = attack_strength(rng.random((800, 1)), rng.random((800, 1)), 0.01, 2000, rng)
    expected = 1.645 * np.sqrt(1 / 12 * (2 / 800))
    assert area.bound - area.worst == pytest.approx(expected, rel=0.1)


def test_bootstrap_weights_reproduce_the_plain_figures() -> None:
    """Scores that separate perfectly have AUC, TPR and both bounds 1: the bootstrap cannot move them."""
    area, hit = attack_strength(np.ones((50, 2)), np.zeros((300, 2)), 0.01, 50, np.random.default_rng(0))
    assert (area.worst, area.bound, hit.worst, hit.bound) == pytest.approx((1, 1, 1, 1), abs=1e-6)


def test_joint_bound_covers_the_one_attack_that_leaks() -> None:
    """Of ten attacks one has a true TPR of .0298 at FPR 1%: the greatest bound covers it nearly always."""
    rng, covered = np.random.default_rng(4), 0
    for _ in range(40):
        shared = rng.standard_normal((2, 600, 1))
        members, others = np.sqrt(0.5) * (shared + rng.standard_normal((2, 600, 10)))
        members[rng.random(600) < 0.02, 0] += 8
        covered += attack_strength(members, others, 0.01, 200, rng)[1].bound >= 0.02 + 0.98 * 0.01
    assert covered >= 36


def test_constant_scores_are_a_blind_guess() -> None:
    """Scores that are all equal give AUC .5 and no true positive."""
    area, hit = attack_strength(np.ones((50, 1)), np.ones((300, 1)), 0.01, 50, np.random.default_rng(0))
    assert (area.worst, hit.worst) == (0.5, 0.0)


def test_joint_bound_is_wider_than_each_alone() -> None:
    """Ten attacks together need a wider bound than one of them."""
    rng = np.random.default_rng(2)
    draws = 0.5 + 0.02 * rng.standard_normal((4000, 10))
    value = np.full(10, 0.5)
    alone = joint_upper_bounds(value[:1], draws[:, :1]).bound
    together = joint_upper_bounds(value, draws).bound
    assert alone == pytest.approx(0.5 + 1.645 * 0.02, abs=0.002)
    # The 95% quantile of the maximum of ten independent normals is Φ⁻¹(.95^(1/10)) = 2.57.
    assert together == pytest.approx(0.5 + 2.57 * 0.02, abs=0.003)
