"""The end of a run in words and tables, and the same as one JSON object."""

import itertools
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from phantomset.data.errors import AWAITS_SIGN_OFF, BUG, FAILED, INCONCLUSIVE, OK
from phantomset.data.quarantine.ledger import CODES
from phantomset.data.workspace import Workspace
from phantomset.pipelines.cli.console import duration, event_note, status, table
from phantomset.pipelines.cli.look import print_json
from phantomset.pipelines.draft import Counts
from phantomset.pipelines.judgement.auditing import Audited
from phantomset.pipelines.judgement.judging import Judgement, counts
from phantomset.pipelines.ledger import RunLedger
from phantomset.pipelines.places import near
from phantomset.pipelines.stages import Outcome
from phantomset.pipelines.synthesis.translation import Translated
from phantomset.validators.finding import Finding, Verdict

EXIT_CODES = {"PASS": OK, "FAIL": FAILED, "INCONCLUSIVE": INCONCLUSIVE}
"""What a verdict ends a command with."""

WORDS = {
    "PASS": "released",
    "FAIL": "blocked: the set failed",
    "INCONCLUSIVE": "blocked: the evidence does not suffice",
}


WAIVED = "released all the same: fidelity was waived; the manifest names by whom, why and until when"


def exit_code(outcome: Outcome) -> int:
    """Return the command's exit code: the verdict's, or 0 for a run that ended before one or released."""
    if outcome.awaits:
        return AWAITS_SIGN_OFF
    if outcome.released is not None:
        return OK
    return EXIT_CODES.get(outcome.judgement.verdict.status, BUG) if outcome.judgement else OK


def as_json(outcome: Outcome, workspace: Workspace, ledger: RunLedger) -> dict[str, Any]:
    """Return what a run did as plain data; restricted figures are left out."""
    answer: dict[str, Any] = {
        "exit_code": exit_code(outcome),
        "workspace": str(workspace.root),
        "run": str(ledger.folder),
        "stages": [asdict(entry) for entry in outcome.entries],
    }
    if outcome.cohort and outcome.split:
        answer["counts"] = asdict(counts(outcome.cohort, outcome.split))
    if outcome.judgement:
        answer |= verdict_as_json(outcome.judgement)
        answer["restricted_report"] = str(outcome.judgement.report)
    if outcome.awaits:
        answer["awaits_sign_off"] = outcome.awaits.needed
    for name, place in (("release", outcome.released), ("blocked", outcome.blocked)):
        if place is not None:
            answer |= {name: str(place), "report": str(place / "report.html")}
    return answer


def verdict_as_json(judged: Judgement | Audited) -> dict[str, Any]:
    """Return a verdict as plain data; restricted figures are left out."""
    verdict = judged.verdict
    return {
        "verdict": verdict.status,
        "axes": verdict.axes,
        "reasons": list(verdict.reasons),
        "power": verdict.power,
        "findings": [_finding(finding) for finding in verdict.findings if not finding.restricted],
        "notes": list(judged.draft.notes),
    }


def show(console: Console, outcome: Outcome, ledger: RunLedger) -> None:
    """Print what came in, how training went, each finding with its figure and limit, and where things lie."""
    console.print()
    if outcome.cohort and outcome.split:
        console.print(_ingested(counts(outcome.cohort, outcome.split)))
    if outcome.checkpoint:
        console.print(_trained(outcome))
    if outcome.judgement:
        console.print(judged(outcome.judgement.verdict))
    console.print()
    for line in _places(outcome, ledger):
        console.print(line, soft_wrap=True)


def _ingested(seen: Counts) -> Group:
    patients = f", {seen.patients:,} patients" if seen.patients is not None else ""
    parts = ", ".join(f"{count:,} {part}" for part, count in seen.parts.items())
    line = f"{seen.files:,} files: {seen.images:,} images{patients} ({parts})"
    rows = table("Ingested", "", "")
    rows.show_header = False
    rows.add_row("taken in", line)
    rows.add_row("classes", ", ".join(f"{name} {count:,}" for name, count in seen.classes.items()))
    for code, count in seen.quarantine.items():
        rows.add_row("kept out", f"{count:,} {code}: {CODES.get(code, '')}")
    if seen.dropped:
        rows.add_row(
            "dropped", f"{sum(seen.dropped.values()):,} header elements by {len(seen.dropped)} rules"
        )
    return Group(rows)


def _trained(outcome: Outcome) -> Group:
    checkpoint = outcome.checkpoint
    assert checkpoint is not None  # noqa: S101 - narrowed by the caller
    entry = next(entry for entry in outcome.entries if entry.stage == "train")
    rows = table("Trained", "", "")
    rows.show_header = False
    took = f"in {duration(entry.seconds)}" if entry.made else "in an earlier run"
    rows.add_row("generator", f"{checkpoint.family}, {checkpoint.images_seen:,} images seen, {took}")
    for event in checkpoint.events:
        rows.add_row("event", event_note(event))
    if outcome.synthetic:
        rows.add_row("set", f"{outcome.synthetic.count:,} labelled synthetic images")
    return Group(rows)


def judged(verdict: Verdict) -> Group:
    """Return a verdict's findings as a table, its reasons, and what it would have noticed."""
    rows = table("Judged", "check", "figure", ">value", "limit", "status")
    shown = [finding for finding in verdict.findings if finding.status != "REPORTED"]
    for axis, own in itertools.groupby(sorted(shown, key=_axis), lambda finding: finding.axis):
        rows.add_row(Text(axis, style="bold"), "", "", "", status(verdict.axes.get(axis, "")))
        for (check, limit, word), group in itertools.groupby(own, _alike):
            for name, value in _rows(list(group), word):
                rows.add_row(f"  {check}", name, value, limit, status(word))
        rows.add_section()
    lines: list[Text | Table] = [rows]
    reported = len(verdict.findings) - len(shown)
    if reported:
        lines.append(Text(f"{reported} figures that decide nothing are in the report.", style="dim"))
    lines += [Text(f"- {reason}") for reason in verdict.reasons[:MOST_REASONS]]
    if len(verdict.reasons) > MOST_REASONS:
        lines.append(Text(f"- and {len(verdict.reasons) - MOST_REASONS} more: the report has each"))
    if verdict.power:
        lines.append(Text(verdict.power))
    return Group(*lines)


MOST_REASONS = 12
"""Reasons that are printed; the report has all of them."""

ALIKE = 3
"""From this many figures of one check on, passed under one limit, they are one line: the report has each."""


def _alike(finding: Finding) -> tuple[str, str, str]:
    return finding.check, finding.limit, finding.status


def _axis(finding: Finding) -> int:
    return ("privacy", "controls", "fidelity", "utility").index(finding.axis)


def _rows(findings: list[Finding], word: str) -> list[tuple[str, str]]:
    """Return name and figure of each line for findings of one check, limit and status."""
    values = [finding.value for finding in findings if finding.value is not None]
    if word != "PASS" or len(findings) < ALIKE or len(values) < len(findings):
        return [(_metric(finding), figure(finding)) for finding in findings]
    first, last = findings[0].metric, findings[-1].metric
    shared = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    name = "".join(letter for letter, _ in shared).rstrip(" :(,0123456789") or first
    span = f"{min(values):.3g}" if min(values) == max(values) else f"{min(values):.3g} to {max(values):.3g}"
    return [(f"{name}: {len(findings)} figures", f"{span} {findings[0].unit}".strip())]


def _places(outcome: Outcome, ledger: RunLedger) -> list[Text]:
    """Return where things lie, a line each, whole: a path is there to be copied."""
    lines: list[Text] = []
    if outcome.judgement:
        word = outcome.judgement.verdict.status
        lines.append(Text.assemble(status(word), f": {_end(outcome, word)}"))
    for name, place in (("release", outcome.released), ("reasons", outcome.blocked)):
        if place is not None:
            lines += [
                Text(f"  {name:<14} {near(place)}"),
                Text(f"  {'report':<14} {near(place / 'report.html')}"),
            ]
    if outcome.judgement:
        lines.append(Text(f"  {'for reviewers':<14} {near(outcome.judgement.report)} (restricted)"))
    if grid := sample_grid(outcome):
        lines.append(Text(f"  {'sample grid':<14} {near(grid)} (restricted)"))
    lines.append(Text(f"  {'run':<14} {near(ledger.folder)}"))
    return lines


def _end(outcome: Outcome, status: str) -> str:
    """Return what became of the set in words."""
    if outcome.awaits is None:
        return WORDS[status] if status == "PASS" or outcome.released is None else WAIVED
    people = "one person" if outcome.awaits.needed == 1 else "two people"
    return (
        f"waits for the sign-off of {people}: phantomset sign-off {outcome.awaits.recipe} --by NAME --role "
        "FUNCTION, then the same command again"
    )


def sample_grid(outcome: Outcome) -> Path | None:
    """Return the newest picture of samples that the training drew, where there is one."""
    grids = sorted((outcome.checkpoint_folder / "grids").glob("*.png")) if outcome.checkpoint_folder else []
    return grids[-1] if grids else None


def figure(finding: Finding) -> str:
    """Return a finding's figure with its interval and unit, as short as it can be read.

    >>> figure(Finding("c", "m", "privacy", "PASS", value=0.51234, low=0.49, high=0.54, unit="AUC"))
    '0.512 [0.49, 0.54] AUC'
    """
    if finding.value is None:
        return "-"
    interval = (
        f" [{finding.low:.3g}, {finding.high:.3g}]"
        if finding.low is not None and finding.high is not None
        else ""
    )
    return f"{finding.value:.3g}{interval} {finding.unit}".strip()


def _finding(finding: Finding) -> dict[str, Any]:
    return {name: value for name, value in asdict(finding).items() if name not in ("details", "restricted")}


def _metric(finding: Finding) -> str:
    return finding.metric if finding.group == "all" else f"{finding.metric} ({finding.group})"


def show_translated(made: Translated, as_json: bool) -> None:
    """Print what a translation made, in words or as JSON; a warning in words goes to stderr."""
    if as_json:
        print_json({"exit_code": OK, **asdict(made)})
        return
    use = "its training was given up" if made.is_given_up else f"name {made.name}, for generate.through"
    typer.echo(f"translated  {made.count:,} images; {use}")
    for event in made.events:
        typer.echo(f"event       {event_note(event)}")
    typer.echo("figures     " + ", ".join(f"{name} {value:g}" for name, value in made.figures.items()))
    typer.echo(f"folder      {made.folder} (restricted: a patient's translated image is a patient's image)")
    if made.warning:
        typer.echo(f"phantomset: warning: {made.warning}", err=True)
