"""The whole judgement: it holds together, is seeded, and never passes what it could not look at."""

import json
from dataclasses import replace

import numpy as np
import pytest
from pydantic import TypeAdapter

from phantomset.data import catalogue
from phantomset.data.errors import Interrupted
from phantomset.data.records import ImageSet
from phantomset.validators import audit, classifier, gate, lessons
from phantomset.validators.checks import attacks, copies
from phantomset.validators.context import Context
from phantomset.validators.finding import Check, Evidence, Rules, Verdict

from .conftest import make_evidence, with_synthetic

DEMO = Rules(fidelity="demo")


@pytest.fixture(autouse=True)
def short_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """What classifiers learn does not matter here."""
    monkeypatch.setattr(classifier, "STEPS", 8)
    monkeypatch.setattr(lessons, "SEEDS", 1)


@pytest.fixture(scope="module")
def tiny() -> Evidence:
    return make_evidence(60, 50, 40, 50, seed=3)


def changed(part: ImageSet, **fields: object) -> ImageSet:
    return replace(part, **fields)


def test_a_whole_judgement(evidence: Evidence) -> None:
    """Every check and control speaks, no leak is claimed, each reason names a check; it can be stored."""
    said: list[str] = []
    verdict = audit.judge(evidence, DEMO, 0, said.append)
    assert "FAIL" not in (verdict.axes["privacy"], verdict.axes["controls"])
    spoken = {finding.check for finding in verdict.findings}
    assert spoken >= {*catalogue.names(audit.CHECKS), *gate.REQUIRED["controls"]}
    assert "Would have caught one copy" in verdict.power
    told = [*said, *audit.outcomes(verdict.findings)]
    assert not [line for line in told if "patient 1" in line or "p =" in line]
    assert not [line for line in said if any(word in line for word in ("PASS", "FAIL", "INCONCLUSIVE"))]
    assert all(any(name in reason for name in spoken) for reason in verdict.reasons)
    adapter = TypeAdapter(Verdict)
    stored = adapter.dump_json(verdict)
    assert adapter.dump_json(adapter.validate_json(stored)) == stored
    json.dumps(gate.public(verdict, evidence), allow_nan=False)


def test_a_judgement_is_seeded(tiny: Evidence) -> None:
    """The same evidence, rules and seed: the same figures and digest; another seed or set, another digest."""
    first, second = (audit.judge(tiny, DEMO, 3) for _ in range(2))
    assert first.digest == second.digest
    assert [(f.check, f.metric, f.value) for f in first.findings] == [
        (f.check, f.metric, f.value) for f in second.findings
    ]
    unfit = with_synthetic(tiny, tiny.synthetic.take(np.arange(0)))
    assert len({first.digest, *(audit.judge(unfit, DEMO, seed).digest for seed in (3, 4))}) == 3


def test_too_few_patients_are_inconclusive_with_numbers(tiny: Evidence) -> None:
    """50 patients: INCONCLUSIVE, and the reasons say how many would do."""
    verdict = audit.judge(tiny, DEMO, 0)
    assert verdict.status == "INCONCLUSIVE"
    reasons = " ".join(verdict.reasons)
    assert "n_H = 50 patients" in reasons
    assert "1,100 to be safe" in reasons
    assert "n_R = 40 patients; 300" in reasons


def test_a_check_that_breaks_down_blocks(tiny: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception in a check is an INCONCLUSIVE finding with its type alone, never its message."""

    def broken(_context: object) -> list:
        raise ZeroDivisionError("patient 4711 at /secret")

    monkeypatch.setattr(copies, "CHECK", replace(copies.CHECK, run=broken))
    said: list[str] = []
    verdict = audit.judge(tiny, DEMO, 0, said.append)
    finding = next(f for f in verdict.findings if f.check == "copies")
    assert finding.status == "INCONCLUSIVE"
    assert "ZeroDivisionError" in finding.advice
    assert "4711" not in repr(verdict) + "".join(said)


def test_what_was_found_before_a_breakdown_is_kept(tiny: Evidence) -> None:
    """One reference patient: that 300 are needed is told, although T and H cannot be compared with it."""
    patients = tiny.reference.patients
    context = Context(replace(tiny, reference=tiny.reference.take(patients == patients[0])), DEMO, 0)
    splits = [f for f in audit.examine(context, ("privacy",)) if f.check == "splits"]
    assert [f.status for f in splits] == ["PASS", "PASS", "INCONCLUSIVE", "INCONCLUSIVE"]
    assert "n_R = 1 patients; 300 are needed" in splits[2].advice


def test_an_interruption_is_no_finding(tiny: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is stopped from outside stops: a half-judged set must not be stored as INCONCLUSIVE."""

    def stopped(_context: object) -> list:
        raise Interrupted("stopped")

    monkeypatch.setattr(attacks, "CHECK", replace(attacks.CHECK, run=stopped))
    with pytest.raises(Interrupted):
        audit.judge(tiny, DEMO, 0)


def test_a_check_that_says_nothing_blocks(tiny: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    """A required check without findings counts as not evaluated."""
    silent: Check = replace(copies.CHECK, run=lambda _: [])
    monkeypatch.setattr(copies, "CHECK", silent)
    verdict = audit.judge(tiny, DEMO, 0)
    assert "copies: required, and not evaluated." in verdict.reasons


def empty(part: ImageSet) -> ImageSet:
    return part.take(np.arange(0))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda e: replace(e, holdout=empty(e.holdout)), "holdout set is empty"),
        (lambda e: replace(e, synthetic=empty(e.synthetic)), "synthetic set is empty"),
        (
            lambda e: replace(e, synthetic=changed(e.synthetic, images=e.synthetic.images[..., :20])),
            "2 image shapes",
        ),
        (
            lambda e: replace(
                e, synthetic=changed(e.synthetic, images=np.repeat(e.synthetic.images, 3, axis=1))
            ),
            "2 image shapes",
        ),
        (
            lambda e: replace(e, synthetic=changed(e.synthetic, images=e.synthetic.images / 255)),
            "float64",
        ),
        (lambda e: replace(e, holdout=changed(e.holdout, labels=e.holdout.labels[:-1])), "unequal numbers"),
        (lambda e: replace(e, synthetic=changed(e.synthetic, label_names=("x", "y"))), "other label names"),
        (lambda e: replace(e, holdout=e.train), "60 patients are in two parts"),
    ],
)
def test_sets_that_cannot_be_judged(tiny: Evidence, damage, message: str) -> None:
    """Empty, unlike or overlapping sets: INCONCLUSIVE with a message, before anything is computed."""
    verdict = audit.judge(damage(tiny), DEMO, 0)
    assert verdict.status == "INCONCLUSIVE"
    assert any(message in reason for reason in verdict.reasons)


def of_one_patient(part: ImageSet) -> ImageSet:
    return part.take(part.patients == part.patients[0])


BY_DISTANCE = ("copies", "attacks", "strength", "subgroups")
BY_REFERENCE = (*BY_DISTANCE, "splits", "attributes", "copying_test")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        pytest.param(
            lambda e: replace(e, synthetic=changed(e.synthetic, images=np.full_like(e.synthetic.images, 77))),
            {},
            id="constant",
        ),
        pytest.param(
            lambda e: replace(e, reference=changed(e.reference, images=np.zeros_like(e.reference.images))),
            dict.fromkeys(
                BY_DISTANCE, "do not differ (scanpca); 300 reference patients with images of their own"
            ),
            id="constant-reference",
        ),
        pytest.param(
            lambda e: replace(
                e, reference=changed(e.reference, patients=np.full_like(e.reference.patients, 10**6))
            ),
            dict.fromkeys(BY_DISTANCE, "come from one patient, or do not differ"),
            id="reference-of-one-patient",
        ),
        pytest.param(
            lambda e: replace(e, reference=of_one_patient(e.reference)),
            dict.fromkeys(
                BY_REFERENCE,
                "has 1 images; 10 at the very least are needed to fit a representation, and 300 reference",
            ),
            id="one-reference-patient",
        ),
        pytest.param(
            lambda e: replace(e, holdout=of_one_patient(e.holdout)),
            {
                "copies": "n_H = 1 patients; the copy scan needs 200",
                "attacks": "n_H = 1 patients; the attack family needs 100",
                "strength": "n_H = 1 patients; about 600",
                "splits": " train, 1 holdout images; at least 2 of each kind",
                "copying_test": " train, 1 holdout images; at least 2 of each kind",
                "frechet": "1 images for 50 features; 250 are needed",
                "kernel": "1 holdout images; at least 2 of each kind",
            },
            id="one-holdout-patient",
        ),
        pytest.param(
            lambda e: replace(e, synthetic=e.synthetic.take(np.arange(3))),
            {"coverage": "3 images; at least 50"},
            id="three-images",
        ),
        pytest.param(
            lambda e: replace(e, synthetic=e.synthetic.take(np.arange(1))),
            {
                "coverage": "1 images; at least 50",
                "frechet": "1 images for 50 features; 250 are needed",
                "kernel": "There are 1 synthetic",
            },
            id="one-image",
        ),
        pytest.param(
            lambda e: replace(e, train=of_one_patient(e.train)),
            {"strength": "n_T = 1 patients; about 600"},
            id="one-patient",
        ),
        pytest.param(
            lambda e: replace(e, train=changed(e.train, labels=np.zeros_like(e.train.labels))),
            {"utility": "There is one class; a classifier needs two"},
            id="one-label",
        ),
    ],
)
def test_degenerate_sets_never_pass_and_say_what_is_missing(
    tiny: Evidence, damage, said: dict[str, str]
) -> None:
    """Constant images, one patient, one image: no traceback, no PASS, and each check says what would do."""
    verdict = audit.judge(damage(tiny), DEMO, 0)
    assert verdict.status in ("INCONCLUSIVE", "FAIL")
    assert not [f.check for f in verdict.findings if "broke down" in f.advice]
    for check, words in said.items():
        told = [f.advice for f in verdict.findings if f.check == check and f.status == "INCONCLUSIVE"]
        assert any(words in advice for advice in told), (check, told)


@pytest.mark.parametrize("shape", [{"channels": 3, "size_px": 24}, {"channels": 1, "size_px": 40}])
def test_colour_and_other_sizes_are_judged(shape: dict[str, int]) -> None:
    """Every check speaks on RGB and on 40 px; none breaks down."""
    verdict = audit.judge(make_evidence(60, 50, 40, 50, seed=3, **shape), DEMO, 0)
    assert not [f.check for f in verdict.findings if f.metric == "could not be evaluated"]


def test_a_leak_in_an_earlier_release_is_found_together(tiny: Evidence) -> None:
    """S is clean, an earlier set holds training images: FAIL, named as one of both together."""
    earlier = tiny.train.take(np.arange(5))
    findings = audit._jointly(tiny, [earlier], DEMO, 0, audit.silent)
    identity = next(f for f in findings if f.check == "identity")
    assert (identity.group, identity.status, identity.value) == (audit.JOINT, "FAIL", 5)
    assert identity.n == len(tiny.synthetic) + 5
    assert all(f.group.endswith(audit.JOINT) for f in findings)
    unfit = with_synthetic(tiny, tiny.synthetic.take(np.arange(0)))
    alone = audit.judge(unfit, DEMO, 0).digest
    assert audit.judge(unfit, DEMO, 0, earlier=[earlier]).digest != alone


def test_a_left_out_class_is_gone_from_fidelity_and_not_from_privacy(tiny: Evidence) -> None:
    """Without a class S is smaller; its patients are still looked at, and utility does not miss it."""
    three = {name: with_third(getattr(tiny, name)) for name in ("train", "holdout", "reference", "synthetic")}
    verdict = audit.judge(Evidence(**three), DEMO, 0, leave_out=["third"])
    identity = next(f for f in verdict.findings if f.check == "identity")
    assert identity.n == int((three["synthetic"].labels != 2).sum())
    assert "class: third" in {f.group for f in verdict.findings if f.check == "subgroups"}
    recalls = {f.group for f in verdict.findings if f.check == "utility" and "recall" in f.metric}
    assert recalls == {"plain", "bright"}


def with_third(part: ImageSet) -> ImageSet:
    labels = np.where(np.arange(len(part)) % 3 == 0, 2, part.labels)
    return replace(part, labels=labels, label_names=("plain", "bright", "third"))


def test_sets_are_put_together_by_label_name(tiny: Evidence) -> None:
    """A class that has another number, or that the set does not have, is not taken for another class."""
    other = replace(tiny.synthetic, label_names=("bright", "unknown"))
    together = audit.together_with(tiny.synthetic, [other])
    later = together.labels[len(tiny.synthetic) :]
    assert set(later[tiny.synthetic.labels == 0]) == {1}
    assert set(later[tiny.synthetic.labels == 1]) == {-1}
