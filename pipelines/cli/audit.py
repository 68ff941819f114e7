"""`phantomset audit`, and its table."""

from pathlib import Path
from typing import Annotated, Any

import typer

from phantomset.pipelines.cli.look import AsJson, print_json

SETS = "A folder, a ZIP file, an .npz file or a release."


def audit(
    synthetic: Annotated[Path, typer.Option(metavar="PATH", help=f"The set to judge. {SETS}")],
    train: Annotated[Path, typer.Option(metavar="PATH", help="The real images that it was made from.")],
    holdout: Annotated[Path, typer.Option(metavar="PATH", help="Real images that its generator never saw.")],
    reference: Annotated[
        Path | None, typer.Option(metavar="PATH", help="More such images; a third of the holdout without.")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the report goes.")] = Path("audit"),
    privacy: Annotated[
        str, typer.Option(metavar="POLICY", help="standard, strict or zero-signal.")
    ] = "standard",
    fidelity: Annotated[
        str, typer.Option(metavar="PROFILE", help="demo, research or clinical-ml.")
    ] = "research",
    utility: Annotated[
        str, typer.Option(metavar="DEPTH", help="basic, or full: also what it is good for.")
    ] = "basic",
    seed: Annotated[int, typer.Option(metavar="N", help="Of every random step.")] = 0,
    as_json: AsJson = False,
) -> int:
    """Judge a synthetic set that was made anywhere; exits 0 (PASS), 3 (FAIL) or 4 (INCONCLUSIVE)."""
    from phantomset.pipelines.cli import console, summary
    from phantomset.pipelines.judgement import auditing

    request = auditing.Request(synthetic, train, holdout, reference, _rules(privacy, fidelity, utility), seed)
    with console.watching() as watch:
        found = auditing.audit(request, out, watch.say)
    code = summary.EXIT_CODES[found.verdict.status]
    if as_json:
        print_json({"exit_code": code, "report": str(found.report), **summary.verdict_as_json(found)})
        return code
    screen = console.screen()
    screen.print(summary.judged(found.verdict))
    for note in found.draft.notes:
        screen.print(f"- {note}", soft_wrap=True)
    screen.print(f"{found.verdict.status}. Report, restricted: {found.report}", soft_wrap=True)
    return code


def _rules(privacy: str, fidelity: str, utility: str) -> Any:
    """Return the rules of a policy, a profile and a depth.

    Raises:
        InputError: one of them is unknown.
    """
    from typing import cast

    from phantomset.data.errors import InputError
    from phantomset.validators.finding import FidelityProfile, PrivacyPolicy, Rules, UtilityDepth
    from phantomset.validators.policy import MARGINS, PROFILES

    depths = ("basic", "full")
    options = (("privacy", privacy, MARGINS), ("fidelity", fidelity, PROFILES), ("utility", utility, depths))
    for option, value, known in options:
        if value not in known:
            raise InputError(f"--{option}: {value!r} is none of {', '.join(known)}.")
    return Rules(
        cast(PrivacyPolicy, privacy), cast(FidelityProfile, fidelity), utility=cast(UtilityDepth, utility)
    )
