"""Every check of the catalogue keeps the contract; each says what its question asks."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from phantomset.data import catalogue
from phantomset.data.records import ImageSet
from phantomset.validators import classifier, gate, lessons
from phantomset.validators.audit import CHECKS, examine
from phantomset.validators.context import Context
from phantomset.validators.finding import Check, Evidence, Finding, Rules
from phantomset.validators.gate import AXES, REQUIRED

from .conftest import make_evidence, with_copies, with_synthetic

NAMES = catalogue.names(CHECKS)


@pytest.fixture(autouse=True)
def short_training(clean: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """Utility's classifiers learn the blob in a few steps; the extractors of `clean` are trained already."""
    monkeypatch.setattr(classifier, "STEPS", 40)
    monkeypatch.setattr(lessons, "SEEDS", 2)


def run(name: str, context: Context) -> list[Finding]:
    check: Check = catalogue.load(CHECKS, name)
    return list(check.run(context))


def only(name: str, context: Context, metric: str = "") -> Finding:
    return next(finding for finding in run(name, context) if metric in finding.metric)


@pytest.mark.parametrize("name", NAMES)
def test_contract(name: str, clean: Context) -> None:
    """A check has its file's name, a question and an axis; findings are whole, in range, seeded."""
    check: Check = catalogue.load(CHECKS, name)
    assert check.name == name
    assert check.question.endswith("?")
    assert check.axis in AXES
    assert check.required == any(name in names for names in REQUIRED.values())
    findings = run(name, clean)
    assert findings
    for finding in findings:
        assert finding.check == name
        assert finding.axis == check.axis
        assert finding.direction
        json.dumps(asdict(finding), allow_nan=False)
        if finding.value is not None and finding.bounds is not None:
            assert finding.bounds[0] <= finding.value <= finding.bounds[1]
        if finding.status in ("FAIL", "INCONCLUSIVE"):
            assert finding.advice
    again = run(name, clean)
    assert [(f.metric, f.group, f.status, f.value) for f in findings] == [
        (f.metric, f.group, f.status, f.value) for f in again
    ]


@pytest.mark.parametrize("name", [*REQUIRED["privacy"]])
def test_required_privacy_checks_pass_or_wait_on_fresh_patients(name: str, clean: Context) -> None:
    """Fresh patients as S are never failed; only attack strength asks for more than 300 patients."""
    found = {finding.status for finding in run(name, clean)}
    assert "FAIL" not in found
    assert "INCONCLUSIVE" not in found or name == "strength"


@pytest.mark.parametrize("name", ["identity", "copies", "attacks"])
def test_planted_copies_fail(name: str, leaky: Context) -> None:
    """Twenty training images among 450 fail three checks."""
    assert run(name, leaky)[0].status == "FAIL"


def test_more_copies_look_no_better(clean: Context, leaky: Context, evidence: Evidence) -> None:
    """Monotone: the attack family's p falls from no copy over eight to twenty."""
    eight = Context(with_copies(evidence, 8), Rules(), 0)
    p = [only("attacks", context, "concentrated").value for context in (clean, eight, leaky)]
    assert p[0] > p[1] >= p[2]
    assert p[2] < 0.001


def test_total_copying_fails_and_is_no_error(evidence: Evidence) -> None:
    """S = T: identity, scan and family fail; the strength's bounds are at the top."""
    context = Context(with_synthetic(evidence, evidence.train), Rules(), 0)
    for name in ("identity", "copies", "attacks"):
        assert "FAIL" in {finding.status for finding in run(name, context)}
    assert only("strength", context, "AUC").value > 0.95
    assert only("copying_test", context, "C_T").value < -10


def test_holdout_as_synthetic_is_inconclusive(evidence: Evidence) -> None:
    """S = H: the holdout was seen; no verdict, and no FAIL against T."""
    context = Context(with_synthetic(evidence, evidence.holdout), Rules(), 0)
    assert only("identity", context).status == "INCONCLUSIVE"
    assert only("copies", context).status == "INCONCLUSIVE"
    assert only("attacks", context, "concentrated").status == "PASS"


def test_reference_as_synthetic_is_inconclusive(evidence: Evidence) -> None:
    """S = R: identity finds it; nothing divides by zero, though every distance to R is zero."""
    context = Context(with_synthetic(evidence, evidence.reference), Rules(), 0)
    assert only("identity", context).status == "INCONCLUSIVE"
    assert only("copies", context).status == "PASS"


def test_strength_says_how_many_patients_would_do(clean: Context) -> None:
    """300 patients cannot bound the AUC under .55: INCONCLUSIVE, with the number that would do."""
    context = Context(clean.evidence, Rules(privacy="strict"), 0)
    context.__dict__["scores"] = clean.scores  # measured once; the policy does not change them
    finding = only("strength", context, "AUC")
    assert finding.status == "INCONCLUSIVE"
    assert "= 300 patients; about 2,100" in finding.advice
    assert finding.high > finding.value


def test_strength_has_both_ends(clean: Context) -> None:
    """Figures lie in their intervals; precision is ``h π / (h π + .01 (1 - π))`` of each end h."""
    findings = {f.metric: f for f in run("strength", clean)}
    for finding in findings.values():
        assert 0 <= finding.low <= finding.value <= finding.high
    rate, precision = findings["attack TPR at FPR 1%"], findings["attack precision at FPR 1%"]
    prior = precision.baseline
    for end in ("low", "value", "high"):
        found = getattr(rate, end) * prior
        assert getattr(precision, end) == pytest.approx(found / (found + 0.01 * (1 - prior)))


@pytest.mark.parametrize(
    ("check", "needed"), [("copies", "200"), ("attacks", "100"), ("splits", "300"), ("strength", "600")]
)
def test_tiny_parts_are_inconclusive_with_a_number(check: str, needed: str) -> None:
    """60 + 50 + 40 patients: every privacy test that needs more says how many."""
    findings = run(check, Context(make_evidence(60, 50, 40, 50), Rules(), 0))
    waiting = [finding for finding in findings if finding.status == "INCONCLUSIVE"]
    assert waiting
    assert any(needed in finding.advice for finding in waiting)


def test_a_holdout_that_is_train_under_other_names_is_noticed(evidence: Evidence) -> None:
    """H a copy of T with patients' codes of its own: the pictures give it away, and what would do is said."""
    holdout = replace(evidence.train, patients=evidence.train.patients + 10**6)
    context = Context(replace(evidence, holdout=holdout), Rules(), 0)
    finding = only("splits", context, "images in two parts")
    assert (finding.status, finding.value) == ("INCONCLUSIVE", len(evidence.train))
    assert "split again by patient" in finding.advice


def test_features_that_are_not_numbers_never_pass(clean: Context) -> None:
    """Extractors that answer NaN: nothing that looks at features passes, and the axis is INCONCLUSIVE."""
    broken = {
        name: replace(found, features=lambda images: np.full((len(images), 8), np.nan))
        for name, found in clean.extractors.items()
    }
    context = Context(clean.evidence, Rules(), 0)
    context.__dict__["_fitted"] = (broken, None)
    verdict = gate.decide(examine(context, ("fidelity",)), Rules())
    assert verdict.axes["fidelity"] == "INCONCLUSIVE"
    looking = ("coverage", "diversity", "frechet", "kernel", "modes")
    assert {f.status for f in verdict.findings if f.check in looking} == {"INCONCLUSIVE"}


def test_a_foreign_holdout_is_noticed(evidence: Evidence) -> None:
    """A holdout from a brighter, coarser device is no random split."""
    strange = evidence.holdout.images // 2 + 100
    holdout = ImageSet(
        strange, evidence.holdout.labels, evidence.holdout.patients, evidence.holdout.label_names
    )
    case = Evidence(evidence.train, holdout, evidence.reference, evidence.synthetic)
    assert only("splits", Context(case, Rules(), 0), "alike").status == "INCONCLUSIVE"


def test_a_grainier_holdout_is_noticed(evidence: Evidence) -> None:
    """Noise of five grey levels, by which another device shows: the wavelet bank sees it, where the pixels'
    components, which have no place for grain, take the two for one.
    """
    images = evidence.holdout.images
    grain = np.random.default_rng(0).normal(0, 5, images.shape)
    grainy = np.clip(np.rint(images + grain), 0, 255).astype(np.uint8)
    case = replace(evidence, holdout=replace(evidence.holdout, images=grainy))
    finding = only("splits", Context(case, Rules(), 0), "alike")
    assert finding.status == "INCONCLUSIVE"
    assert finding.details["texture"] < 0.01 / 3 < finding.details["pixels"]


# Fidelity and utility -------------------------------------------------------------------------------


def demo(case: Evidence) -> Context:
    return Context(case, Rules(fidelity="demo"), 0)


def relabelled(images: ImageSet, labels: np.ndarray) -> ImageSet:
    return ImageSet(images.images, labels, images.patients, images.label_names)


def test_fresh_patients_reach_every_profile(clean: Context) -> None:
    """Fresh real patients pass `research` in coverage, diversity, labels and extractors."""
    for extractor in clean.extractors.values():
        assert extractor.qualified, extractor.exam
    for name in ("coverage", "diversity", "labels"):
        decided = {f.status for f in run(name, clean)} - {"REPORTED"}
        assert decided == {"PASS"}, name


def test_extractors_are_two_and_learned_from_r(clean: Context) -> None:
    """Classifier (48 and the two classes) and texture (48), standardised on R."""
    assert set(clean.extractors) == {"classifier", "texture"}
    for name in clean.extractors:
        features = clean.features(name, "reference")
        assert features.shape[1] == {"classifier": 50, "texture": 48}[name]
        np.testing.assert_allclose(features.mean(0), 0, atol=1e-6)


def test_collapse_fails_coverage_and_diversity(evidence: Evidence, clean: Context) -> None:
    """Fifteen distinct images cover little and are not diverse; coverage and Vendi fall far."""
    few = evidence.synthetic.take(np.arange(len(evidence.synthetic)) % 15)
    context = Context(with_synthetic(evidence, few), Rules(fidelity="research"), 0)
    context.__dict__["_fitted"] = clean._fitted
    assert {f.status for f in run("coverage", context) if f.metric.startswith("coverage")} == {"FAIL"}
    assert {f.status for f in run("diversity", context)} == {"FAIL"}
    distances = {f.group: f.value for f in run("frechet", context)}
    for finding in run("frechet", clean):
        assert distances[finding.group] > 3 * finding.value


def test_wrong_labels_fail_labels_and_utility(evidence: Evidence, clean: Context) -> None:
    """Swapped labels: the reference classifier sees it, and what is trained on them teaches the opposite."""
    wrong = relabelled(evidence.synthetic, 1 - evidence.synthetic.labels)
    context = Context(with_synthetic(evidence, wrong), Rules(fidelity="demo"), 0)
    context.__dict__["_fitted"] = clean._fitted
    assert only("labels", context).value < 0.5
    finding = only("utility", context, "AUROC")
    assert finding.status == "FAIL"
    assert finding.value < 0.5 < finding.baseline


def test_utility_of_fresh_patients_is_that_of_real_ones(evidence: Evidence) -> None:
    """Fresh patients as S teach as well as T: a gap near 0 within its interval, recalls by class."""
    findings = run("utility", demo(evidence))
    finding = findings[0]
    assert finding.status == "PASS"
    assert finding.value == pytest.approx(finding.baseline, abs=0.05)
    assert finding.low <= finding.value <= finding.high
    assert {f.group for f in findings if "recall" in f.metric} == {"plain", "bright"}


def test_a_missing_class_fails_before_training(evidence: Evidence) -> None:
    """No synthetic image of a class: FAIL that names the class."""
    only_plain = evidence.synthetic.take(evidence.synthetic.labels == 0)
    (finding,) = run("utility", demo(with_synthetic(evidence, only_plain)))
    assert finding.status == "FAIL"
    assert "bright" in finding.advice


def test_one_class_is_inconclusive_for_utility(evidence: Evidence) -> None:
    """Without a second class there is nothing to tell apart, and no learned extractor."""
    parts = [
        relabelled(part, np.zeros(len(part), np.int64))
        for part in (evidence.train, evidence.holdout, evidence.reference, evidence.synthetic)
    ]
    context = demo(Evidence(*parts))
    assert only("utility", context).status == "INCONCLUSIVE"
    assert set(context.extractors) == {"texture"}
    assert only("labels", context).status == "NOT_EVALUATED"


def test_an_extractor_that_did_not_qualify_does_not_decide(evidence: Evidence, clean: Context) -> None:
    """In the demo its space is left out; for research its coverage and diversity are INCONCLUSIVE."""
    blind = {
        name: replace(found, exam=replace(found.exam, missed=("blur",)))
        for name, found in clean.extractors.items()
    }
    for profile, expected in (("demo", "NOT_EVALUATED"), ("research", "INCONCLUSIVE")):
        context = Context(evidence, Rules(fidelity=profile), 0)
        context.__dict__["_fitted"] = (blind, None)
        found = {f.status for f in run("coverage", context) if f.metric.startswith("coverage")}
        assert found == {f.status for f in run("diversity", context)} == {expected}
        assert {f.status for f in run("modes", context)} == {"NOT_EVALUATED"}
