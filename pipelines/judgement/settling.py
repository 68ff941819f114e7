"""What a fresh verdict is worth in the light of the record: it stands, or an earlier judgement holds."""

from dataclasses import replace

from phantomset.data.digest import digest_of
from phantomset.pipelines.judgement.record import Case, Judged, Status
from phantomset.validators.finding import Rules, Verdict
from phantomset.validators.policy import is_as_strict

MOST_INCONCLUSIVE = 3
"""So many sets may end INCONCLUSIVE. The next one of their model section that does is a FAIL, and a PASS, of
whatever section, needs a written reason: trying on until a set happens to pass is not evidence."""


def privacy_of(verdict: Verdict) -> str:
    """Return what a fresh verdict says of privacy and its controls, whatever else failed beside it."""
    outcomes = [verdict.axes[axis] for axis in ("privacy", "controls") if axis in verdict.axes]
    return next((word for word in ("FAIL", "INCONCLUSIVE") if word in outcomes), "PASS")


def fails(record: list[Judged]) -> list[Judged]:
    """The FAILs that mark the lineage; one that was only inherited marks nothing anew."""
    return [entry for entry in record if entry.marks]


def is_left(entry: Judged, record: list[Judged], case: Case | Judged) -> bool:
    """Say whether the set is without the classes that a FAIL was found in. Once: a second one sticks.

    Where it was found beyond them too, it has another cause until the rest of that very set has passed:
    another seed would be another try.
    """
    if not entry.classes or entry.left_out or not entry.classes <= set(case.left_out):
        return False
    passed = (
        other.whole == entry.made
        and entry.classes <= other.left_out <= set(case.left_out)
        and other.privacy == "PASS"
        and other.is_own
        for other in record
    )
    return not entry.is_wider or case.whole == entry.made or any(passed)


def decide(record: list[Judged], case: Case, verdict: Verdict) -> tuple[Verdict, str]:
    """Return the settled verdict and its cause: "judged", "inherited", "limit" or "held"."""
    if verdict.status != "FAIL":
        inherited = _inherited(record, case)
        if inherited:
            return _failed(verdict, inherited), "inherited"
    # A FAIL of quality hides no open question of privacy: such a set is a try like any other.
    if "INCONCLUSIVE" in (verdict.status, privacy_of(verdict)):
        tried = _tried([entry for entry in record if entry.section == case.section], case)
        if tried >= MOST_INCONCLUSIVE:
            return _failed(
                verdict,
                f"{tried} other sets of this model section and these patients were INCONCLUSIVE; trying "
                "on until one passes is not evidence. More patients or another model section would be.",
            ), "limit"
    held = _held(record, case, verdict.rules) if verdict.status == "PASS" else ""
    return (_changed(verdict, "INCONCLUSIVE", held), "held") if held else (verdict, "judged")


def _tried(record: list[Judged], case: Case) -> int:
    """Return how many other sets were tried and told nothing."""
    return len({entry.made for entry in record if entry.is_open} - {case.made})


def _held(record: list[Judged], case: Case, rules: Rules) -> str:
    """Return why a PASS does not settle what earlier judgements left open, or nothing where it does."""
    section = [entry for entry in record if entry.section == case.section]
    if _by_stricter_rules(section, rules):
        return (
            "a set that this model section made from these patients failed to pass under other rules; "
            "rules that are relaxed after a look settle nothing. Judge by those that were fixed first "
            "(privacy, conclusive and cross_fit of the gate section); or change the model or image section, "
            "and write gate.reason before training."
        )
    questions = _open_questions(record, case, rules)
    if not questions or case.reason is not None:
        return ""
    return (
        f"{' '.join(questions)} Write down in gate.reason why this set is not one more try, and judge again."
    )


def _open_questions(record: list[Judged], case: Case, rules: Rules) -> list[str]:
    """Return what a PASS would pass over; a written reason has to answer it, and stays on the record."""
    found: list[str] = []
    tried = _tried(record, case)
    if tried >= MOST_INCONCLUSIVE:
        found.append(f"{tried} other sets made from the same patients ended INCONCLUSIVE.")
    days = sorted({entry.day for entry in _by_stricter_rules(record, rules)})
    return found + [
        f"A set made from the same patients did not pass under stricter or other rules on {day}."
        for day in days
    ]


def _by_stricter_rules(record: list[Judged], rules: Rules) -> list[Judged]:
    """Return what did not pass when more was asked, or other things."""
    return [entry for entry in record if entry.privacy != "PASS" and not is_as_strict(rules, entry.rules)]


def _inherited(record: list[Judged], case: Case) -> str:
    """Return why an earlier FAIL holds for this set, or nothing where none does."""
    holding = [entry for entry in fails(record) if not is_left(entry, record, case)]
    same = next((entry for entry in holding if entry.section == case.section), None)
    if same is not None:
        return (
            f"a set made by this model section from these patients ended FAIL on {same.day}; "
            f"another seed, name, subset or workspace does not clear it. {_ways_out(same)}"
        )
    if holding and case.reason is None:
        return (
            f"a set made from these patients ended FAIL on {holding[-1].day}. The recipe has changed since; "
            "write down in gate.reason why the change removes the cause, and judge again."
        )
    return ""


def _ways_out(entry: Judged) -> str:
    change = "Change the model or image section, and write gate.reason"
    if not entry.classes or entry.left_out:
        return f"{change}."
    # The report of the data office names the classes; this sentence may become public.
    same = ", of this same set" if entry.is_wider else ""
    return f"{change}; or release without the classes that failed{same}, with gate.leave_out."


def notes(record: list[Judged], case: Case, rules: Rules) -> tuple[str, ...]:
    """Say, for every later release, what is on the record of its patients and why it was left."""
    left = f" Reason given for going on: {case.reason}" if case.reason else ""
    days = sorted({entry.day for entry in fails(record) if entry.key != case.key})
    failed = [f"An earlier set made from the same patients ended FAIL on {day}." for day in days]
    return tuple(f"{fact}{left}" for fact in [*failed, *_open_questions(record, case, rules)])


def otherwise(own: list[Judged], settled: Verdict) -> tuple[str, ...]:
    """Say where this very judgement came out better before: a set may have been let out on it."""
    better = sorted({(entry.day, entry.status) for entry in own if entry.status != settled.status})
    return tuple(
        f"The same judgement of this set came out {status} on {day}; the worst holds."
        for day, status in better
    )


def as_recorded(verdict: Verdict, entry: Judged) -> Verdict:
    """Return a verdict as the same judgement stands on the record."""
    if verdict.status == entry.status and not entry.why:
        return verdict
    why = entry.why or f"this judgement is on the record as {entry.status}"
    return _changed(verdict, entry.status, why)


def _failed(verdict: Verdict, why: str) -> Verdict:
    return _changed(verdict, "FAIL", why)


def untrusted(verdict: Verdict, why: str) -> Verdict:
    """Return what a verdict is worth where the record cannot be trusted: a FAIL alone stands."""
    if verdict.status == "FAIL":
        return verdict
    reason = (
        f"the ledger of judgements beside the key cannot be trusted: {why}. "
        "Restore from one backup what lies there (judgements.jsonl, judgements.head and the key); without "
        "the ledger nobody knows what was judged before."
    )
    return _changed(verdict, "INCONCLUSIVE", reason)


def _changed(verdict: Verdict, status: Status, why: str) -> Verdict:
    """Return another verdict, under another digest, with the reason in front."""
    digest = digest_of("settled", verdict.digest, status, why)
    return replace(verdict, status=status, reasons=(why, *verdict.reasons), digest=digest)
