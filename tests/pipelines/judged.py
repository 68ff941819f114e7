"""Cases and verdicts for the tests of the ledger of judgements."""

from dataclasses import replace

from phantomset.pipelines.judgement.lineage import Case, Lineage, Settled, hashed
from phantomset.validators.finding import Finding, Rules, Verdict

PATIENTS = hashed(f"p{number}" for number in range(100))


def case(**changes: object) -> Case:
    made = Case(patients=PATIENTS, section="model-a", made="set-1", rules="rules", recipe="chest")
    return replace(made, **changes)


def verdict(status: str = "PASS", rules: Rules | None = None) -> Verdict:
    axes = {"privacy": status}
    return Verdict(status, (f"judged {status}",), (), axes, "power", "suite", rules or Rules(), "digest")


def exposing(*classes: str | None) -> Verdict:
    """A FAIL that was found in the patients of each class; None: in all patients."""
    found = tuple(
        Finding("copies", "p", "privacy", "FAIL", details={"class": name} if name else {}) for name in classes
    )
    return replace(verdict("FAIL"), findings=found)


def judged(book: Lineage, status: str, **changes: object) -> Settled:
    return book.settle(case(**changes), verdict(status))


def by(book: Lineage, status: str, rules: Rules, **changes: object) -> Settled:
    """Settle what judges said under these rules; the case names them, as a run's does."""
    return book.settle(case(rules=repr(rules), **changes), verdict(status, rules))
