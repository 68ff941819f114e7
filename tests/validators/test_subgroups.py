"""Rare patients leak first: classes, attributes and outliers are looked at apart."""

from dataclasses import replace

import numpy as np
import pytest

from phantomset.data.records import ImageSet
from phantomset.validators.checks.subgroups import CHECK
from phantomset.validators.context import Context
from phantomset.validators.finding import Evidence, Finding, Rules
from phantomset.validators.scores import whole
from phantomset.validators.subgroups import OUTLIERS, subgroups

from .conftest import make_evidence, with_synthetic


def by_group(findings: list[Finding]) -> dict[str, list[Finding]]:
    groups: dict[str, list[Finding]] = {}
    for finding in findings:
        groups.setdefault(finding.group, []).append(finding)
    return groups


def with_sex(part: ImageSet) -> ImageSet:
    values = np.where(part.patients % 2 == 0, "F", "M")
    return replace(part, attributes={"PatientSex": values, "Number": part.patients.astype(np.str_)})


@pytest.fixture(scope="module")
def described(evidence: Evidence) -> Evidence:
    """The clean case with a sex and a number for each patient."""
    return replace(evidence, train=with_sex(evidence.train), holdout=with_sex(evidence.holdout))


def test_all_rows_are_the_whole_set(clean: Context) -> None:
    """A look at every real image is the look of the verdict: one set of distances serves both."""
    every = clean.nearness_of(np.ones(len(clean.real), bool))
    own = whole(clean.view())
    assert np.array_equal(every.members.owner, own.members.owner)
    for name, q in own.q.items():
        np.testing.assert_allclose(every.q[name], q, rtol=1e-6)
        assert np.array_equal(every.votes[name][0], own.votes[name][0])
    np.testing.assert_allclose(every.log_ratio, own.log_ratio)


def test_groups_are_chosen_without_their_labels(described: Evidence) -> None:
    """Classes, values of an attribute with few values, and outliers; a number a patient is no subgroup."""
    context = Context(described, Rules(), 0)
    groups = {group.name: group for group in subgroups(context)}
    assert list(groups) == ["class: plain", "class: bright", "PatientSex: F", "PatientSex: M", OUTLIERS]
    assert (groups["PatientSex: F"].rows ^ groups["PatientSex: M"].rows).all()
    outlying = np.unique(context.members.owner[groups[OUTLIERS].rows])
    assert len(outlying) == 250  # 125 of the smaller side expected, T and H being equal


def test_fresh_patients_expose_no_subgroup(clean: Context) -> None:
    """No leak, no FAIL in any group."""
    assert {finding.status for finding in CHECK.run(clean)} <= {"PASS", "NOT_EVALUATED"}


def test_a_leak_in_one_class_is_found_there() -> None:
    """Copies of 20 training patients of one class: that class FAILs and names itself, the other does not."""
    evidence = make_evidence(230, 230, 60, 100)
    own = np.flatnonzero(evidence.train.labels == 1)
    _, first = np.unique(evidence.train.patients[own], return_index=True)
    images = evidence.synthetic.images.copy()
    images[:20] = evidence.train.images[own[first[:20]]]
    context = Context(with_synthetic(evidence, replace(evidence.synthetic, images=images)), Rules(), 0)
    groups = by_group(list(CHECK.run(context)))
    assert "FAIL" in {finding.status for finding in groups["class: bright"]}
    assert {finding.details["class"] for finding in groups["class: bright"]} == {"bright"}
    assert "FAIL" not in {finding.status for finding in groups["class: plain"]}


def test_a_small_group_blocks_only_where_the_rules_ask_for_it() -> None:
    """Under 100 holdout patients: not evaluated, with the numbers; INCONCLUSIVE where the recipe names it.

    A named group that does not exist is INCONCLUSIVE too.
    """
    context = Context(make_evidence(60, 50, 40, 50, seed=3), Rules(), 0)
    found = by_group(list(CHECK.run(context)))
    assert {f.status for findings in found.values() for f in findings} == {"NOT_EVALUATED"}
    assert "100 in the holdout" in found["class: plain"][0].advice
    context.rules = Rules(conclusive=("class: plain", "PatientSex: F"))
    named = by_group(list(CHECK.run(context)))
    assert named["class: plain"][0].status == "INCONCLUSIVE"
    assert named["PatientSex: F"][0].status == "INCONCLUSIVE"
    assert named["class: bright"][0].status == "NOT_EVALUATED"
