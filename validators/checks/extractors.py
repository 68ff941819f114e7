"""Do the feature extractors see what they are believed for?"""

from collections.abc import Sequence

from phantomset.validators.context import Context
from phantomset.validators.extractors import Extractor
from phantomset.validators.finding import Check, Finding, Status
from phantomset.validators.qualification import SEEN


def _run(context: Context) -> Sequence[Finding]:
    findings = [_finding(context, extractor) for extractor in context.extractors.values()]
    return [*findings, _together(context)]


def _together(context: Context) -> Finding:
    """Return how many kinds of faults nobody sees who may decide: each space has a part to play."""
    found = context.extractors.values()
    asked, seen = (
        {rung for each in some for rung in each.exam.frechet or {}}
        for some in (found, [each for each in found if each.qualified])
    )
    unseen = sorted(asked - seen)
    blind: Status = "NOT_EVALUATED" if context.rules.fidelity == "demo" else "INCONCLUSIVE"
    return Finding(
        check="extractors",
        metric="kinds of faults that no qualified extractor sees",
        axis="fidelity",
        status=blind if unseen else "REPORTED",
        value=len(unseen),
        unit="kinds",
        bounds=(0, len(asked)),
        direction="lower is better",
        n=len(context.evidence.holdout),
        baseline=0,
        advice=f"Nobody would notice: {', '.join(unseen)}." if unseen else "",
    )


def _finding(context: Context, extractor: Extractor) -> Finding:
    exam = extractor.exam
    seen = {rung: ratios[-1] for rung, ratios in (exam.frechet or {}).items() if ratios}
    return Finding(
        check="extractors",
        metric="faintest fault, in units of real against real",
        axis="fidelity",
        status="REPORTED" if extractor.qualified else "NOT_EVALUATED",
        group=extractor.name,
        value=min(seen.values()) if seen else None,
        unit="ratio",
        direction="higher is better",
        limit=f"> {SEEN}",
        n=len(context.evidence.holdout),
        baseline=1.0,
        advice="" if extractor.qualified else f"{extractor.shortcoming} Its figures do not decide.",
        details={
            "extractor": extractor.digest,
            "frechet": exam.frechet,
            "kernel": exam.kernel,
            "null": exam.null,
            "kernel_null": exam.kernel_null,
            "unsteadiness": exam.unsteadiness,
        },
    )


CHECK = Check(
    name="extractors",
    question="Do the feature extractors see what they are believed for?",
    axis="fidelity",
    required=False,
    run=_run,
    source="Stein et al. 2023 (Inception features mislead outside of their domain)",
)
