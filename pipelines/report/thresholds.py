"""Each threshold that decided: its value, its direction, where it comes from, and who answers for it."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from phantomset.data import catalogue
from phantomset.data.errors import RecipeError
from phantomset.pipelines.draft import Draft
from phantomset.pipelines.report.words import CHECKS, capital
from phantomset.validators.finding import Finding

NOBODY = "not named (gate.owner)"
SUITE = "measured in this run; what is planted, and how often it must be found, is fixed in the suite"
"""Source of the controls' thresholds: they are no checks with a paper of their own."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """One threshold, with the figures that were held against it.

    Attributes:
        what: the figure, and how many there are.
        limit: the threshold itself.
        found: the figure, or the least and the greatest of several.
        direction: which way is better.
        source: the paper or the measurement that it comes from.
        rules: the policy or profile that sets it.
        owner: who answers for the rules.
    """

    what: str
    limit: str
    found: str
    direction: str
    source: str
    rules: str
    owner: str


def thresholds(draft: Draft) -> list[Threshold]:
    """Return every threshold that a finding was held against, in the order of the findings."""
    owner = str(draft.recipe.get("gate", {}).get("owner") or NOBODY)
    return [_threshold(draft, owner, findings) for findings in _held(draft.verdict.findings)]


def _held(findings: Sequence[Finding]) -> Iterator[list[Finding]]:
    """Yield the findings that share a check and a limit."""
    decided = [each for each in findings if each.limit and each.status in ("PASS", "FAIL", "INCONCLUSIVE")]
    for _, group in itertools.groupby(decided, lambda each: (each.axis, each.check, each.limit)):
        yield list(group)


def _threshold(draft: Draft, owner: str, findings: list[Finding]) -> Threshold:
    first, rules = findings[0], draft.verdict.rules
    more = f" and {len(findings) - 1} more" if len(findings) > 1 else ""
    values = sorted(each.value for each in findings if each.value is not None)
    is_of_people = first.axis in ("privacy", "controls")
    return Threshold(
        what=capital(first.metric) + more,
        limit=first.limit,
        found=" to ".join(dict.fromkeys(f"{value:.4g}" for value in [*values[:1], *values[-1:]])) or "none",
        direction=first.direction,
        source=_source(first.check),
        rules=f"privacy policy {rules.privacy}" if is_of_people else f"fidelity profile {rules.fidelity}",
        owner=owner,
    )


def _source(check: str) -> str:
    """Return the source that a check names; controls are our own."""
    try:
        return catalogue.load(CHECKS, check).source or SUITE
    except RecipeError:
        return SUITE
