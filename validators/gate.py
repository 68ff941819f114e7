"""From findings to a verdict, and from a verdict to what may be told in public. Fail-closed."""

import hashlib
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from phantomset.validators.finding import Axis, Evidence, Finding, Rules, Status, Verdict
from phantomset.validators.policy import MARGINS, two_digits

SUITE_VERSION = "1.0"

AXES: tuple[Axis, ...] = ("privacy", "controls", "fidelity", "utility")

REQUIRED: dict[Axis, tuple[str, ...]] = {
    "privacy": ("splits", "identity", "copies", "attacks", "strength"),
    "controls": ("positive_control", "family_control", "dose_control", "negative_control"),
    "fidelity": ("coverage",),
    "utility": ("utility",),
}
"""A required check without a finding that decides makes its axis INCONCLUSIVE."""

NOT_ALWAYS: dict[str, str] = {
    "reidentification": "re-identification of a patient from another image (P5)",
    "attributes": "inference of a protected attribute (P6)",
    "white_box": "attacks on the model itself (P8); weights are not released",
}
"""What cannot be measured on every set: printed, unless the check of that name spoke."""

LEAST_TOLD = 10
"""Smaller counts of real things are not told in public."""

K95_BANDS = ((0.01, "<= 1% of T"), (0.03, "<= 3% of T"))

NO_BAND = "not established"
NO_POWER = "No control ran, so nothing can be said about what would have been noticed."

Outcome = Literal["PASS", "FAIL", "INCONCLUSIVE"]


def decide(findings: Iterable[Finding], rules: Rules, digest: str = "") -> Verdict:
    """Return the verdict of all findings under the rules.

    An axis is FAIL if any finding is; else INCONCLUSIVE if one is, if a required check has not spoken, or
    if a figure is not a number; else PASS. The set passes only if all four axes do. An alarm of AUC columns
    alone is forgiven where the policy has margins and every bound of attack strength holds.
    """
    settled = _settle_auc_alarm([_sound(finding) for finding in findings], rules)
    axes: dict[str, str] = {}
    reasons: list[str] = []
    for axis in AXES:
        own = [finding for finding in settled if finding.axis == axis]
        missing = _missing(own, axis)
        axes[axis] = _outcome([finding.status for finding in own], bool(missing))
        reasons += [_reason(f) for f in own if f.status in ("FAIL", "INCONCLUSIVE")]
        reasons += [f"{name}: required, and not evaluated." for name in missing]
    return Verdict(
        status=_outcome(cast(Sequence[Status], list(axes.values())), False),
        reasons=tuple(reasons),
        findings=tuple(settled),
        axes=axes,
        power=power_statement(settled),
        suite=suite(),
        rules=rules,
        digest=digest,
    )


def _sound(finding: Finding) -> Finding:
    """Return the finding, or INCONCLUSIVE in its place where its figure is not a number."""
    figures = [x for x in (finding.value, finding.low, finding.high) if x is not None]
    if finding.status == "REPORTED" or all(map(math.isfinite, figures)):
        return finding
    advice = finding.advice or "The figure is not a number; look for constant images or empty classes."
    status: Status = "FAIL" if finding.status == "FAIL" else "INCONCLUSIVE"
    return replace(finding, status=status, value=None, low=None, high=None, advice=advice)


def _settle_auc_alarm(findings: list[Finding], rules: Rules) -> list[Finding]:
    """Forgive an alarm of AUC columns alone where the policy's margins bound the signal."""
    bounds = [f for f in findings if f.check == "strength" and f.status != "REPORTED"]
    held = bool(bounds) and all(f.status == "PASS" for f in bounds)
    if not (MARGINS[rules.privacy].forgives_auc_alarm and held):
        return findings
    note = f"forgiven: attack strength is bounded by the {rules.privacy} policy"
    return [
        replace(f, status="PASS", limit=f"{f.limit}; {note}")
        if f.status == "FAIL" and f.details.get("family") == "AUC"
        else f
        for f in findings
    ]


def _missing(findings: list[Finding], axis: Axis) -> list[str]:
    spoken = {f.check for f in findings if f.status not in ("NOT_EVALUATED", "REPORTED")}
    return [name for name in REQUIRED[axis] if name not in spoken]


def _outcome(statuses: Sequence[Status], missing: bool) -> Outcome:
    if "FAIL" in statuses:
        return "FAIL"
    return "INCONCLUSIVE" if missing or "INCONCLUSIVE" in statuses else "PASS"


def _reason(finding: Finding) -> str:
    group = "" if finding.group == "all" else f" ({finding.group})"
    return f"{finding.check}{group}: {finding.metric}: {finding.status}. {finding.advice}".strip()


def power_statement(findings: Iterable[Finding]) -> str:
    """Return in words what this judgement would have noticed, from the controls' own counts. Restricted."""
    return " ".join(_sentences(findings, "power")) or NO_POWER


def _sentences(findings: Iterable[Finding], key: str) -> list[str]:
    return [str(finding.details[key]) for finding in findings if finding.details.get(key)]


@cache
def suite() -> str:
    """Return the suite's version and the digest of its source, first 12 digits."""
    folder = Path(__file__).parent
    sha = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        sha.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return f"{SUITE_VERSION}+{sha.hexdigest()[:12]}"


def public(verdict: Verdict, evidence: Evidence) -> dict[str, Any]:
    """Return the coarse verdict, the only form that leaves the data office.

    Status, axes, suite, rules, counts to two digits, the band of k₉₅, what was not evaluated, fidelity to
    two digits, and which kinds of copies the controls noticed. No p-value, threshold, score, pair, count of
    trials or per-patient figure.
    """
    spoken = {f.check for f in verdict.findings if f.status != "NOT_EVALUATED"}
    return {
        "status": verdict.status,
        "axes": dict(verdict.axes),
        "checks": _check_outcomes(verdict),
        "suite": verdict.suite,
        "rules": {"privacy": verdict.rules.privacy, "fidelity": verdict.rules.fidelity},
        "patients": {
            part: _told(len(np.unique(getattr(evidence, part).patients)))
            for part in ("train", "holdout", "reference")
        },
        "synthetic_images": len(evidence.synthetic),
        "patients_known": evidence.has_patients,
        "k95_band": _k95_band(verdict.findings),
        "not_evaluated": [text for name, text in NOT_ALWAYS.items() if name not in spoken],
        "fidelity": [
            _coarse(f) for f in verdict.findings if f.axis in ("fidelity", "utility") and not f.restricted
        ],
        "certificate": _certificate(verdict.findings),
        "power": _coarse_power(verdict.findings),
        "says": _says(verdict.status),
    }


def _check_outcomes(verdict: Verdict) -> dict[str, str]:
    """Return one word for each check of the privacy and control axes, where these passed.

    Which check stopped a set that was not let out is for the data office: whoever knows it can aim at it.
    """
    found: dict[str, list[Status]] = {}
    for finding in verdict.findings:
        told = finding.axis in ("privacy", "controls") and verdict.axes[finding.axis] == "PASS"
        if told and finding.status != "REPORTED":
            found.setdefault(finding.check, []).append(finding.status)
    return {
        name: "NOT_EVALUATED" if set(statuses) == {"NOT_EVALUATED"} else _outcome(statuses, False)
        for name, statuses in found.items()
    }


def _coarse(finding: Finding) -> dict[str, Any]:
    def rounded(value: float | None) -> float | None:
        return None if value is None or not math.isfinite(value) else float(f"{value:.2g}")

    return {
        "check": finding.check,
        "metric": finding.metric,
        "group": finding.group,
        "status": finding.status,
        "value": rounded(finding.value),
        "baseline": rounded(finding.baseline),
        "n": _told(finding.n),
        "unit": finding.unit,
        "direction": finding.direction,
        # A limit may be made from a figure of the real images: it is no finer than the figure itself.
        "limit": re.sub(r"\d+\.\d{3,}", lambda match: f"{float(match[0]):.2g}", finding.limit),
    }


def _told(count: int) -> int | None:
    """Return a count of real things to two digits; None where it is too small to be told."""
    return two_digits(count) if count >= LEAST_TOLD else None


def _certificate(findings: Iterable[Finding]) -> dict[str, str]:
    """Return what the set is good for, in words, with the rule; nothing where it was not asked."""
    told = [f.details for f in findings if f.check == "certificate" and "words" in f.details]
    return {key: str(told[0][key]) for key in ("words", "sentence", "rule")} if told else {}


def _k95_band(findings: Iterable[Finding]) -> str:
    for finding in findings:
        share = finding.details.get("k95_share")
        if isinstance(share, float):
            return next((band for limit, band in K95_BANDS if share <= limit), "> 3% of T")
    return NO_BAND


def _coarse_power(findings: Sequence[Finding]) -> str:
    """Return what would have been noticed: which kinds of copies, and the band of k₉₅. No count of trials."""
    parts = _sentences(findings, "public_power")
    band = _k95_band(findings)
    if band != NO_BAND:
        parts.append(f"The smallest group of exposed patients caught without the copy scan: {band}.")
    return " ".join(parts) or NO_POWER


def _says(status: str) -> str:
    if status == "PASS":
        return (
            "No copy of a training image and no group of exposed training patients was detected, "
            "at the power stated. This is evidence, not a proof; the set is not called anonymous."
        )
    if status == "FAIL":
        return "The set was not let out: a check found what its rules forbid."
    return "The set was not let out: the evidence does not suffice for a judgement."
