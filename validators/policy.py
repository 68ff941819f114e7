"""The numbers that decide: alpha budget, privacy policies, fidelity profiles, sizes. Fixed before any run."""

from dataclasses import dataclass

from phantomset.validators.finding import FidelityProfile, PrivacyPolicy, Rules

ALPHA_SCAN = 0.001
"""P1, after Bonferroni over representations."""

ALPHA_FAMILY = 0.0025
"""P2 with P3: half of .005 for the concentrated columns, half for the AUC columns."""

ALPHA_SUBGROUPS = 0.001
"""All subgroups and the outlier stratum together: half for copy scans, half for attack families."""

ALPHA_REIDENTIFICATION = 0.001
"""P5. With the subgroups, the .002 that these share with attacks on the model: weights never leave."""

ALPHA_ATTRIBUTES = 0.002
"""P6, over all attributes."""

MOST_ATTRIBUTE_EXCESS = 0.05
"""By so much may an attribute of training patients be guessed better than one of others, as a lower bound."""

ALPHA_EXCHANGEABLE = 0.01
"""Train and holdout whose images differ at this level are no random split."""

PERMUTATIONS = 9999
BOOTSTRAPS = 1000

LEAST_HOLDOUT_SCAN = 200
"""Patients: the 5% tail needs 10 points."""

LEAST_HOLDOUT_FAMILY = 100
LEAST_HOLDOUT_STRENGTH = 600
"""Patients on each side below which a subgroup gets no bound of attack strength."""

OUTLIER_SHARE, LEAST_OUTLIERS = 0.05, 125
"""The outlier stratum: that share of all patients, or so many on the smaller side, whichever is more."""

LEAST_REFERENCE = 300
EXPOSED_SHARE = 0.03
"""The family must notice that share of T, or it has no power."""


@dataclass(frozen=True, slots=True)
class Margins:
    """Under which the joint upper bounds of attack strength must stay.

    Attributes:
        auc, tpr: the bounds; ``tpr`` at a false positive rate of 1%.
        forgives_auc_alarm: an alarm of AUC columns alone passes when the bounds hold.
        needed, safe: patients on each side that are about needed, and that are safe with a weak signal.
    """

    auc: float
    tpr: float
    forgives_auc_alarm: bool
    needed: int
    safe: int


MARGINS: dict[PrivacyPolicy, Margins] = {
    "standard": Margins(0.60, 0.06, True, 600, 1100),
    "strict": Margins(0.55, 0.035, True, 2100, 2100),
    # No margin forgives an alarm; the bounds themselves are never weaker than the standard ones.
    "zero-signal": Margins(0.60, 0.06, False, 600, 1100),
}


def is_as_strict(rules: Rules, other: Rules) -> bool:
    """Say whether rules ask of privacy all that others ask: the margins, the groups, the same draws.

    A set that did not pass under the others cannot pass under such rules for want of a question. `strict` and
    `zero-signal` each ask what the other does not.

    >>> is_as_strict(Rules("strict"), Rules("standard")), is_as_strict(Rules("strict"), Rules("zero-signal"))
    (True, False)
    """
    own, its = MARGINS[rules.privacy], MARGINS[other.privacy]
    margins = own.auc <= its.auc and own.tpr <= its.tpr and own.forgives_auc_alarm <= its.forgives_auc_alarm
    return margins and set(rules.conclusive) >= set(other.conclusive) and rules.cross_fit == other.cross_fit


@dataclass(frozen=True, slots=True)
class Profile:
    """What fidelity and utility must reach. No profile touches privacy.

    Attributes:
        auc_margin: TSTR AUROC may fall short of TRTR by that much.
        by_bound: the lower 95% bound must hold, not the estimate alone.
        recall_margin: per class; None where recall does not decide.
        coverage: least coverage of H by S in each qualified space.
        coverage_is_ratio: that is, in units of the coverage of H by T.
        diversity: range of Vendi S over H per class; None where it does not decide.
        label_margin: balanced accuracy of the R classifier on S may fall short of H by that much.
    """

    auc_margin: float
    by_bound: bool
    recall_margin: float | None
    coverage: float
    coverage_is_ratio: bool
    diversity: tuple[float, float] | None
    label_margin: float | None


PROFILES: dict[FidelityProfile, Profile] = {
    "demo": Profile(0.10, False, None, 0.6, False, None, None),
    "research": Profile(0.03, True, 0.10, 0.8, True, (0.8, 1.25), 0.05),
    "clinical-ml": Profile(0.01, True, 0.10, 0.8, True, (0.8, 1.25), 0.05),
}


def two_digits(count: int) -> int:
    """Return a count rounded to two digits, as the public may know it."""
    return int(float(f"{count:.2g}"))
