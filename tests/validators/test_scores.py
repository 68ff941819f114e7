"""Patients, planted images, scores and columns."""

import numpy as np
import pytest
import torch

from phantomset.validators.context import Context
from phantomset.validators.distances import Candidates, Table
from phantomset.validators.finding import Evidence, EvidenceError, Rules
from phantomset.validators.measures.permutation import min_p
from phantomset.validators.scan import alarms, scan
from phantomset.validators.scores import (
    Nearer,
    Panel,
    attack_scores,
    auc_columns,
    concentrated_columns,
    panel,
    planted,
    subset,
    whole,
)

from .conftest import make_evidence


@pytest.fixture(scope="module")
def small() -> Evidence:
    return make_evidence(60, 50, 40, 50, seed=3)


def test_a_patient_is_as_near_as_the_nearest_image() -> None:
    """Minimum of a distance, maximum of a score, over the patient's images, for vectors and tables."""
    members = Panel(np.array([2, 0, 2, 1, 0]), np.array([True, False, True]))
    np.testing.assert_array_equal(members.least(np.array([5.0, 4, 3, 2, 1])), [1, 2, 3])
    np.testing.assert_array_equal(members.greatest(np.array([5.0, 4, 3, 2, 1])), [4, 2, 5])
    table = np.array([[5.0, 1], [4, 2], [3, 3], [2, 4], [1, 5]])
    np.testing.assert_array_equal(members.least(table), [[1, 2], [2, 4], [3, 1]])


def test_numbers_of_patients_do_not_tell_their_side() -> None:
    """Patients are numbered at random: ties that are broken by number favor neither T nor H."""
    members = panel(np.repeat(np.arange(500), 2), np.arange(500, 1000), np.random.default_rng(0))
    assert members.patients == 1000
    assert members.is_train.sum() == 500
    assert 200 < members.is_train[:500].sum() < 300
    assert members.is_train[members.owner[:1000]].all()
    assert not members.is_train[members.owner[1000:]].any()


def test_a_patient_on_both_sides_is_refused() -> None:
    """A shared patient would make the holdout blind."""
    with pytest.raises(ValueError, match="in train and in holdout"):
        panel(np.array([1, 2]), np.array([2, 3]), np.random.default_rng(0))


def test_subset_keeps_the_labels() -> None:
    """Some patients' images alone: renumbered, same sides."""
    members = panel(np.arange(10), np.arange(10, 20), np.random.default_rng(0))
    rows = np.array([1, 5, 12, 19])
    part = subset(members, rows)
    np.testing.assert_array_equal(part.is_train[part.owner], members.is_train[members.owner[rows]])


def test_planting_is_the_same_as_judging_the_planted_set(small: Evidence) -> None:
    """Images that take the place of the last ones give the nearness that the whole set would give."""
    copies = small.train.images[[3, 30, 50, 60]]
    context = Context(small, Rules(), 0, lambda _: {"copies": Candidates(copies, tail=4)})
    quick = planted(context.view(), context.view("copies"), np.array([1, 3]))
    images = np.concatenate([small.synthetic.images[:-2], copies[[1, 3]]])
    slow = Context(small, Rules(), 0, lambda _: {"set": Candidates(images, tail=0)})
    expected = whole(slow.view("set"))
    for name in expected.q:
        np.testing.assert_allclose(quick.q[name], expected.q[name], rtol=1e-3, atol=2e-3)
        np.testing.assert_array_equal(quick.votes[name][0], expected.votes[name][0])
    np.testing.assert_allclose(quick.log_ratio, expected.log_ratio, atol=1e-3)


def test_only_what_is_nearer_than_what_stays_is_kept() -> None:
    """Of three images that may be planted, patient 0 is nearer to the last, patient 1 to none that stays."""
    kept = Nearer.than(np.array([0.5, 0.2]), np.array([[0.6, 0.5, 0.3], [0.4, 0.3, 0.9]]))
    assert (kept.image.tolist(), kept.patient.tolist(), kept.q.tolist()) == ([2], [0], [0.3])
    for picked, expected in (([0, 1], [0.5, 0.2]), ([1, 2], [0.3, 0.2])):
        least = np.array([0.5, 0.2])
        kept.lower(least, np.array(picked))
        assert least.tolist() == expected


def test_more_cannot_be_planted_than_the_tail_holds(small: Evidence) -> None:
    """The tail is 3% of T, at least 10, at most half of the set."""
    assert Context(small, Rules(), 0).synthetic_tail == 10


def test_scores_rank_copied_patients_first(small: Evidence) -> None:
    """A set of training images: all ten attacks put training patients above holdout patients."""
    case = Evidence(small.train, small.holdout, small.reference, small.train)
    context = Context(case, Rules(), 0)
    is_train = context.members.is_train
    assert set(context.scores) >= {"scanhp", "white", "ens-mean", "ens-max", "domias"}
    for name, score in context.scores.items():
        assert np.median(score[is_train]) > np.median(score[~is_train]), name


def test_columns_do_not_know_the_labels(small: Evidence) -> None:
    """Columns are made from scores and votes alone; votes add up to the images that vote."""
    near = Context(small, Rules(), 0).nearness
    columns = concentrated_columns(attack_scores(near), near)
    by_name = {column.name: column for column in columns}
    assert by_name["hp votes 100%"].weights.sum() == len(small.synthetic)
    assert by_name["scanhp votes 1%"].weights.sum() == 1
    together = by_name["hp + white + pca + learned votes 100%"].weights
    assert together.sum() == 4 * len(small.synthetic)
    assert (together >= by_name["hp votes 100%"].weights + by_name["pca votes 100%"].weights).all()
    assert {column.weights.sum() for column in columns if column.top} == {8, 16, 32}
    assert len(auc_columns(attack_scores(near))) == 10


def test_suite_is_silent_on_fresh_patients_and_loud_on_copies(clean: Context, leaky: Context) -> None:
    """Fresh patients: no alarm. Twenty training images among them: scan and concentrated family alarm."""
    silent = {"scan": False, "family": False, "AUC": False}
    assert alarms(clean.nearness, 999, np.random.default_rng(0)) == silent
    found = alarms(leaky.nearness, 999, np.random.default_rng(0))
    assert found["scan"]
    assert found["family"]


def test_image_labels_would_alarm_where_patient_labels_do_not() -> None:
    """200 clean cases, 8 like images a patient: by image the test alarms often, by patient at .05."""
    rng, by_patient, by_image = np.random.default_rng(1), 0, 0
    for _ in range(200):
        score = rng.standard_normal(40)
        labels = rng.permutation(np.arange(40) < 20)
        by_patient += min_p(auc_columns({"a": score}), labels, 99, rng).p <= 0.05
        images = np.repeat(score, 8) + 1e-6 * rng.standard_normal(320)
        by_image += min_p(auc_columns({"a": images}), np.repeat(labels, 8), 99, rng).p <= 0.05
    assert by_patient < 25
    assert by_image > 40


def test_scan_counts_who_is_below_the_alarm_distance() -> None:
    """One training patient far below all others: p tiny, one patient listed, none of H."""
    rng = np.random.default_rng(2)
    q = {"a": rng.weibull(20, 1000), "b": rng.weibull(20, 1000)}
    is_train = np.arange(1000) < 500
    q["a"][7] = 0.05
    found = scan(q, is_train)
    assert found.p < 1e-6
    assert (found.train_below, found.holdout_below) == ({"a": 1, "b": 0}, {"a": 0, "b": 0})
    assert found.p == pytest.approx(2 * found.p_by_space["a"])


@pytest.mark.parametrize("place", [3, 700])
def test_a_distance_that_is_no_number_hides_no_copy(place: int) -> None:
    """Beside an exact copy one distance, in T or in H, is not a number: no p at all."""
    q = {"a": np.random.default_rng(2).weibull(20, 1000)}
    q["a"][7], q["a"][place] = 0.0, np.nan
    with pytest.raises(EvidenceError, match="a: a distance is not a number"):
        scan(q, np.arange(1000) < 500)


def test_the_closest_of_head_and_tail_is_found() -> None:
    """Columns 0 and 1 are the head, 2 and 3 the tail: each row's least q is named by its own column."""
    q = torch.tensor([[0.9, 0.4, 0.8, 0.7], [0.9, 0.8, 0.6, 0.3], [0.2, 0.8, 0.2, 0.3]])
    table = Table.empty(3, 4, 2)
    table.take(0, q, None)
    assert table.without_tail().head_index.tolist() == [1, 3, 0]
    undivided = Table.empty(3, 4, 0)
    undivided.take(0, q, None)
    assert undivided.without_tail().head_index.tolist() == [1, 3, 0]
