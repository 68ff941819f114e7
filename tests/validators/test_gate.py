"""The gate: fail-closed, required checks, materiality, the coarse public form."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from phantomset.validators import gate
from phantomset.validators.finding import Evidence, Finding, Rules
from phantomset.validators.policy import MARGINS, PROFILES, two_digits

GOOD = [
    Finding(check=name, metric="m", axis=axis, status="PASS", value=0.5)
    for axis, names in gate.REQUIRED.items()
    for name in names
]
AUC_ALARM = Finding("attacks", "AUC columns", "privacy", "FAIL", 0.0001, details={"family": "AUC"})


def with_status(check: str, status: str) -> list[Finding]:
    return [replace(f, status=status) if f.check == check else f for f in GOOD]


def test_all_good_passes() -> None:
    """Every required check passes: PASS on all axes, no reason."""
    verdict = gate.decide(GOOD, Rules())
    assert verdict.status == "PASS"
    assert set(verdict.axes.values()) == {"PASS"}
    assert verdict.reasons == ()


@pytest.mark.parametrize("check", [f.check for f in GOOD])
@pytest.mark.parametrize("status", ["FAIL", "INCONCLUSIVE", "NOT_EVALUATED", "REPORTED"])
def test_nothing_but_pass_lets_a_required_check_through(check: str, status: str) -> None:
    """FAIL fails the set; anything else than PASS of a required check makes it INCONCLUSIVE."""
    verdict = gate.decide(with_status(check, status), Rules())
    assert verdict.status == ("FAIL" if status == "FAIL" else "INCONCLUSIVE")
    assert verdict.reasons


@pytest.mark.parametrize("check", [f.check for f in GOOD])
def test_a_missing_required_check_is_inconclusive(check: str) -> None:
    """What did not speak cannot have passed."""
    verdict = gate.decide([f for f in GOOD if f.check != check], Rules())
    assert verdict.status == "INCONCLUSIVE"
    assert any(check in reason for reason in verdict.reasons)


def test_no_findings_at_all_is_inconclusive() -> None:
    """An empty judgement is none."""
    assert gate.decide([], Rules()).status == "INCONCLUSIVE"


@pytest.mark.parametrize("figure", [math.nan, math.inf])
@pytest.mark.parametrize("field", ["value", "low", "high"])
def test_what_is_not_a_number_never_passes(figure: float, field: str) -> None:
    """NaN or infinity in any figure of a passing check: INCONCLUSIVE, and the figure is taken out."""
    findings = [replace(f, **{field: figure}) if f.check == "copies" else f for f in GOOD]
    verdict = gate.decide(findings, Rules())
    assert verdict.status == "INCONCLUSIVE"
    copies = next(f for f in verdict.findings if f.check == "copies")
    assert (copies.value, copies.low, copies.high) == (None, None, None)


def test_not_a_number_does_not_soften_a_fail() -> None:
    """A FAIL whose figure is NaN stays a FAIL."""
    findings = [replace(f, status="FAIL", value=math.nan) if f.check == "copies" else f for f in GOOD]
    assert gate.decide(findings, Rules()).status == "FAIL"


def test_fail_wins_over_inconclusive() -> None:
    """A set that leaks fails, whatever could not be measured."""
    findings = [*with_status("copies", "FAIL"), replace(GOOD[0], status="INCONCLUSIVE")]
    assert gate.decide(findings, Rules()).status == "FAIL"


def test_reported_findings_never_decide() -> None:
    """Figures without a threshold change nothing, also where they are no numbers."""
    extra = Finding("copying_test", "C_T", "privacy", "REPORTED", math.nan)
    assert gate.decide([*GOOD, extra], Rules()).status == "PASS"


@pytest.mark.parametrize(
    ("policy", "bound", "expected"),
    [
        ("standard", "PASS", "PASS"),
        ("strict", "PASS", "PASS"),
        ("zero-signal", "PASS", "FAIL"),
        ("standard", "INCONCLUSIVE", "FAIL"),
        ("strict", "INCONCLUSIVE", "FAIL"),
    ],
)
def test_materiality(policy: str, bound: str, expected: str) -> None:
    """An alarm of AUC columns alone is forgiven if a margin was set and the bounds hold; never else."""
    findings = [*with_status("strength", bound), AUC_ALARM]
    assert gate.decide(findings, Rules(privacy=policy)).status == expected


@pytest.mark.parametrize("policy", sorted(MARGINS))
@pytest.mark.parametrize("check", ["identity", "copies", "attacks"])
def test_no_policy_forgives_copies_or_top_ranks(policy: str, check: str) -> None:
    """Copies, top-r counts and votes fail under every policy."""
    assert gate.decide(with_status(check, "FAIL"), Rules(privacy=policy)).status == "FAIL"


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_no_profile_touches_privacy(profile: str) -> None:
    """Whatever fidelity may be, a privacy FAIL fails and a control that went wrong blocks."""
    rules = Rules(fidelity=profile)
    assert gate.decide(with_status("attacks", "FAIL"), rules).axes["privacy"] == "FAIL"
    assert gate.decide(with_status("negative_control", "INCONCLUSIVE"), rules).status == "INCONCLUSIVE"


def test_no_policy_is_weaker_than_standard() -> None:
    """Margins of every policy are at most the standard ones."""
    for margins in MARGINS.values():
        assert margins.auc <= MARGINS["standard"].auc
        assert margins.tpr <= MARGINS["standard"].tpr


def test_power_speaks_from_the_controls() -> None:
    """The sentence is the controls' own; without them it says that nothing can be said."""
    assert "nothing can be said" in gate.decide(GOOD, Rules()).power
    spoken = replace(GOOD[-1], details={"power": "Would have caught it."})
    assert gate.decide([*GOOD, spoken], Rules()).power == "Would have caught it."


def test_public_form_is_coarse(evidence: Evidence) -> None:
    """No p-value, limit of a privacy check, advice or detail; counts to two digits; JSON."""
    secret = Finding(
        "attacks",
        "m",
        "privacy",
        "PASS",
        0.123456,
        advice="hush",
        restricted=True,
        details={"pair": [17, 4711]},
    )
    fidelity = Finding("coverage", "coverage", "fidelity", "PASS", 0.87654, baseline=0.91234, n=1_163)
    few = Finding("coverage", "coverage", "fidelity", "PASS", 0.8, n=7)
    power = "Would have caught 20 exposed patients of 1,627 in at least 89% (57 of 59) of cases."
    details = {"k95_share": 0.0123, "power": power}
    control = Finding("family_control", "k", "controls", "PASS", 20, details=details)
    told = {"power": "(exact) in 24 of 24", "public_power": "Would have caught one copy (exact)."}
    copies = Finding("positive_control", "copies", "controls", "PASS", 1.0, details=told)
    findings = [*GOOD, secret, few, fidelity, copies, control]
    public = gate.public(gate.decide(findings, Rules(privacy="strict", fidelity="demo")), evidence)
    text = json.dumps(public)
    assert not [
        word for word in ("0.123456", "hush", "4711", "0.0123", "of 59", "of 24", "1,627") if word in text
    ]
    assert public["status"] == "PASS"
    assert public["patients"] == {"train": 300, "holdout": 300, "reference": 310}
    assert public["k95_band"] == "<= 3% of T"
    assert public["power"] == (
        "Would have caught one copy (exact). "
        "The smallest group of exposed patients caught without the copy scan: <= 3% of T."
    )
    assert public["rules"] == {"privacy": "strict", "fidelity": "demo"}
    assert {"value": 0.88, "baseline": 0.91, "n": 1_200}.items() <= public["fidelity"][-1].items()
    assert public["fidelity"][-2]["n"] is None
    assert any("re-identification" in text for text in public["not_evaluated"])
    assert "not called anonymous" in public["says"]


def test_what_is_too_small_or_too_fine_is_not_told(evidence: Evidence) -> None:
    """Fewer than ten patients are not counted; a limit made from a real figure is no finer than that."""
    few = replace(evidence, holdout=evidence.holdout.take(np.arange(7)))
    recall = Finding("utility", "recall", "utility", "PASS", 0.9, baseline=0.94, limit=">= 0.84127")
    public = gate.public(gate.decide([recall], Rules()), few)
    assert public["patients"] == {"train": 300, "holdout": None, "reference": 310}
    assert public["fidelity"][0]["limit"] == ">= 0.84"


def test_the_public_does_not_hear_which_check_stopped_a_set(evidence: Evidence) -> None:
    """One word a check where the axis passed; of an axis that did not, the axis alone."""
    passed = gate.public(gate.decide(GOOD, Rules()), evidence)["checks"]
    assert passed == dict.fromkeys((*gate.REQUIRED["privacy"], *gate.REQUIRED["controls"]), "PASS")
    failed = gate.public(gate.decide(with_status("copies", "FAIL"), Rules()), evidence)
    assert failed["axes"]["privacy"] == "FAIL"
    assert failed["checks"] == dict.fromkeys(gate.REQUIRED["controls"], "PASS")
    assert "No control ran" in failed["power"]


def test_counts_are_rounded_to_two_digits() -> None:
    """1,163 patients are told as 1,200."""
    assert [two_digits(n) for n in (7, 99, 104, 1163, 15_499)] == [7, 99, 100, 1200, 15_000]


def test_suite_names_its_source() -> None:
    """Version and a digest of the room's source, the same within a process."""
    assert gate.suite().startswith(f"{gate.SUITE_VERSION}+")
    assert gate.suite() == gate.suite()
    assert len(gate.suite().split("+")[1]) == 12


def test_status_of_numpy_figures_is_plain() -> None:
    """Figures of numpy are numbers as any."""
    findings = [replace(f, value=np.float64(0.5)) for f in GOOD]
    assert gate.decide(findings, Rules()).status == "PASS"
