"""What a check says, what it looks at, and what the gate decides."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from phantomset.data.records import ImageSet
from phantomset.validators.notebook import shown

Status = Literal["PASS", "FAIL", "INCONCLUSIVE", "NOT_EVALUATED", "REPORTED"]
"""REPORTED findings have no threshold and never decide. NOT_EVALUATED blocks where the check is required."""

Axis = Literal["privacy", "controls", "fidelity", "utility"]
PrivacyPolicy = Literal["standard", "strict", "zero-signal"]
FidelityProfile = Literal["demo", "research", "clinical-ml"]
UtilityDepth = Literal["basic", "full"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One figure with all that is needed to read it.

    Attributes:
        check: name of the check (its file).
        metric: what was measured, such as "attack AUC".
        group: "all", or the class or subgroup.
        value: the figure; None where it could not be formed.
        low, high: interval around the value, where there is one.
        unit: such as "share", "AUC", "p".
        bounds: least and greatest possible value.
        direction: "higher is better" and so on.
        limit: what the status was decided by.
        n: how many images or patients stand behind it.
        baseline: the same figure for real data or for a blind guess.
        advice: what to do, in one sentence, where status is not PASS.
        restricted: True where the figure must not leave the data office (p-values, pairs, scores).
    """

    check: str
    metric: str
    axis: Axis
    status: Status
    value: float | None = None
    group: str = "all"
    low: float | None = None
    high: float | None = None
    unit: str = ""
    bounds: tuple[float, float] | None = None
    direction: str = ""
    limit: str = ""
    n: int = 0
    baseline: float | None = None
    advice: str = ""
    restricted: bool = False
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Evidence:
    """The four sets that every judgement needs. Patients of the three real parts are disjoint."""

    train: ImageSet
    holdout: ImageSet
    reference: ImageSet
    synthetic: ImageSet
    has_patients: bool = True


class EvidenceError(ValueError):
    """The evidence does not suffice for a figure.

    The message becomes the finding's advice, so it says what is missing and what would do, and carries names
    of parts and counts alone.
    """


@dataclass(frozen=True, slots=True)
class Rules:
    """What the recipe fixed before training.

    Attributes:
        privacy, fidelity: the policy and the profile.
        conclusive: subgroups, such as "PatientSex: F", without whose judgement there is no PASS.
        utility: "full" asks what the set is good for besides (certificate, detector): no verdict depends
            on it.
        cross_fit: the attack family is asked over five draws of R and H.
    """

    privacy: PrivacyPolicy = "standard"
    fidelity: FidelityProfile = "research"
    conclusive: tuple[str, ...] = ()
    utility: UtilityDepth = "basic"
    cross_fit: bool = False


@dataclass(frozen=True, slots=True)
class Check:
    """One question, as its file exports it under the name ``CHECK``.

    ``run(context)`` returns its findings, or yields them: then those before a breakdown are kept. `Context`
    carries evidence, rules, features and seed.
    """

    name: str
    question: str
    axis: Axis
    required: bool
    run: Callable[[Any], Iterable[Finding]]
    source: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """PASS, FAIL or INCONCLUSIVE with its reasons. Restricted: it carries p-values and per-check detail."""

    status: Literal["PASS", "FAIL", "INCONCLUSIVE"]
    reasons: tuple[str, ...]
    findings: tuple[Finding, ...]
    axes: dict[str, str]
    power: str
    suite: str
    rules: Rules
    digest: str = ""

    def _repr_html_(self) -> str:
        """Return the verdict as a notebook shows it: status, axes, power, reasons. Restricted, as it is."""
        facts = {**self.axes, "privacy policy": self.rules.privacy, "fidelity profile": self.rules.fidelity}
        return shown(self.status, {**facts, "power": self.power, "suite": self.suite}, self.reasons)
