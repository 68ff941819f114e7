"""Several draws of R and H: who is where, one p of several, and what the attack family says with them."""

from dataclasses import replace

import numpy as np
import pytest

from phantomset.validators.checks.attacks import CHECK
from phantomset.validators.context import Context
from phantomset.validators.crossfit import DRAWS, crossed, redrawn
from phantomset.validators.finding import Evidence, Rules

from .conftest import make_evidence, with_copies


@pytest.fixture(scope="module")
def case() -> Evidence:
    return make_evidence(110, 110, 60, 110, seed=2)


def test_patients_stay_whole_and_train_stays(case: Evidence) -> None:
    """Each draw has as many patients in H and R as before, none in both, and the same images in all."""
    other = redrawn(case, np.random.default_rng(0))
    assert other.train is case.train
    holdout, reference = (np.unique(part.patients) for part in (other.holdout, other.reference))
    assert (len(holdout), len(reference)) == (110, 60)
    assert not np.intersect1d(holdout, reference).size
    assert len(np.intersect1d(holdout, np.unique(case.reference.patients))) > 0
    before, after = (
        np.sort(np.concatenate([e.holdout.images, e.reference.images]).reshape(-1, 784).sum(1))
        for e in (case, other)
    )
    np.testing.assert_array_equal(before, after)


def test_one_p_of_several_holds_its_level() -> None:
    """Twice the median; of 2,000 sets of five equal p-values, or of five independent ones, at most 5% and
    three standard errors lie under 0.05."""
    rng = np.random.default_rng(0)
    for draws in (rng.random((2_000, 1)).repeat(5, axis=1), rng.random((2_000, 5))):
        assert np.mean([crossed(row) <= 0.05 for row in draws]) <= 0.05 + 3 * (0.05 * 0.95 / 2_000) ** 0.5


def test_the_family_over_five_draws(case: Evidence) -> None:
    """Planted copies alarm over all draws; the first draw is the registered one, p is twice the median."""
    context = Context(with_copies(case, 30), Rules(cross_fit=True), 0)
    found = {f.details["family"]: f for f in CHECK.run(context)}
    alone = {f.details["family"]: f for f in CHECK.run(Context(context.evidence, Rules(), 0))}
    for kind, finding in found.items():
        by_draw = finding.details["p_by_draw"]
        assert len(by_draw) == DRAWS
        assert by_draw[0] == alone[kind].value
        assert finding.value == pytest.approx(min(1, 2 * sorted(by_draw)[2]))
    assert found["concentrated"].status == alone["concentrated"].status == "FAIL"
    assert alone["concentrated"].details["p_by_draw"] == [alone["concentrated"].value]


def test_without_the_rule_there_is_one_draw(case: Evidence) -> None:
    """The registered split alone, and nothing is measured twice."""
    context = Context(case, Rules(), 0)
    assert list(context.draws()) == [context]
    assert replace(Rules(), cross_fit=True) != Rules()
