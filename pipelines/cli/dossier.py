"""`phantomset dossier`: what an access committee asks, filled from a run and from what people signed."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phantomset.data.errors import OK
from phantomset.pipelines.cli.look import AsJson, Place, print_json
from phantomset.pipelines.cli.people import KeyFile

if TYPE_CHECKING:
    from phantomset.pipelines.dossier.answers import Answer
    from phantomset.pipelines.draft import Draft


def dossier(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="The recipe of the run, as `run` was given it.")
    ],
    answers: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Your answers, in YAML; your key signs them."),
    ] = None,
    by: Annotated[str, typer.Option(metavar="NAME", help="Who answers.")] = "",
    role: Annotated[str, typer.Option(metavar="FUNCTION", help="Such as data protection officer.")] = "",
    key: KeyFile = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where it goes; default: the restricted part.")
    ] = None,
    override: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="As `run` was given it.")
    ] = None,
    workspace: Place = None,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda")] = "auto",
    threads: Annotated[int | None, typer.Option(metavar="N")] = None,
    as_json: AsJson = False,
) -> int:
    """Write the access committee's dossier: measured values, signed answers, and what nobody answered."""
    from dataclasses import replace

    from phantomset.data.errors import ReleaseError
    from phantomset.pipelines import stages
    from phantomset.pipelines.cli import console
    from phantomset.pipelines.cli.launch import Machinery, launch
    from phantomset.pipelines.dossier import answers as people
    from phantomset.pipelines.recipes import recipe_file
    from phantomset.pipelines.releases import signing, waiver

    chosen = recipe_file.read(recipe, override or [])
    given = people.read(answers) if answers else {}
    signer = signing.signer(key) if answers else None
    if answers and signer is None:
        raise ReleaseError(
            "dossier: answers need a key of yours. Make one: phantomset keys new --name 'YOUR NAME'"
        )
    with console.watching() as watch:
        outcome, place, _ = launch(chosen, Machinery(workspace, device, threads, True), watch, "validate")
    if outcome.judgement is None:
        raise ReleaseError("dossier: this recipe was not judged")
    request = stages.request_of(chosen.recipe, outcome.judgement)
    if signer:
        people.sign(place, request, given, (by, role), signer)
    folder = out or place.restricted("findings", outcome.judgement.digest)
    waived = waiver.held(place, request) if outcome.judgement.is_waivable else None
    draft = replace(outcome.judgement.draft, waiver=waived)
    path, form, counts = _written(folder, draft, people.signed(place, request))
    if as_json:
        print_json({"exit_code": OK, "dossier": str(path), "form": str(form), "cells": counts})
    else:
        typer.echo(f"{path}: " + ", ".join(f"{count} {state}" for state, count in counts.items()))
        typer.echo(f"what is not answered can be filled in here: {form}")
    return OK


def _written(
    folder: Path, draft: "Draft", answers: "dict[str, list[Answer]]"
) -> tuple[Path, Path, dict[str, int]]:
    """Write the pages and return the first, the form to fill in, and the counts of the cells.

    Raises:
        WorkspaceError: the folder cannot be made or written.
    """
    from phantomset.data.errors import WorkspaceError
    from phantomset.pipelines.dossier import page

    try:
        folder.mkdir(parents=True, exist_ok=True)
        return page.write(folder, draft, answers)
    except OSError as error:
        raise WorkspaceError(f"--out: cannot write to {folder} ({error.strerror}).") from None
