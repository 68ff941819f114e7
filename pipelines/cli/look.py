"""Commands that look and change nothing: recipes, explain, doctor."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from phantomset.data.errors import BAD_INPUT, OK

recipes = typer.Typer(name="recipes", help="What can be run, and how it is written.", no_args_is_help=True)

Place = Annotated[
    Path | None,
    typer.Option(
        "--workspace", metavar="DIR", help="Default: $PHANTOMSET_WORKSPACE or ./phantomset-workspace."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]

EXIT_CODES = {
    0: "done, published, passed",
    1: "a bug of ours",
    2: "the input, the recipe or the command line is wrong: nothing is left behind; or no space, no memory",
    3: "the gate says FAIL: the set is blocked",
    4: "the gate says INCONCLUSIVE: the set is blocked",
    5: "waits for a person's sign-off",
    130: "interrupted; the same command resumes",
}
"""What a command's exit code means."""


def print_json(answer: dict[str, Any]) -> None:
    """Print one JSON object on stdout; figures that are no numbers become null."""
    sys.stdout.write(json.dumps(_finite(answer), allow_nan=False, default=str) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in cast(dict[Any, Any], value).items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in cast(list[Any], value)]
    return None if isinstance(value, float) and (value != value or abs(value) == float("inf")) else value


@recipes.command("list")
def recipes_list(as_json: AsJson = False) -> int:
    """Name the shipped recipes."""
    from phantomset.pipelines.cli import console
    from phantomset.pipelines.recipes import recipe_file

    known = recipe_file.shipped()
    if as_json:
        print_json({"exit_code": OK, "recipes": known})
        return OK
    rows = console.table("", "recipe", "what it runs on")
    for name, summary in known.items():
        rows.add_row(name, summary)
    console.screen().print(rows)
    return OK


@recipes.command("show")
def recipes_show(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A recipe file, or the name of a shipped recipe.")
    ],
    as_written: Annotated[
        bool, typer.Option("--as-written", help="The file itself, with its comments.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Show a recipe with every default filled in."""
    import yaml

    from phantomset.pipelines.recipes import recipe_file

    if as_written:
        text = recipe_file.text_of(recipe)[0]
        if as_json:
            print_json({"exit_code": OK, "text": text})
        else:
            typer.echo(text, nl=False)
        return OK
    read = recipe_file.read(recipe).recipe
    if as_json:
        print_json({"exit_code": OK, "recipe": read.plain(), "digest": read.digest})
    else:
        typer.echo(yaml.safe_dump(read.plain(), sort_keys=False, allow_unicode=True), nl=False)
    return OK


@recipes.command("schema")
def recipes_schema(as_json: AsJson = False) -> int:
    """Print the JSON schema of recipes, for editors that complete and check while one types."""
    from phantomset.pipelines.recipe import Recipe

    schema = Recipe.model_json_schema()
    if as_json:
        print_json({"exit_code": OK, "schema": schema})
    else:
        typer.echo(json.dumps(schema, indent=2))
    return OK


def explain(
    code: Annotated[
        str, typer.Argument(metavar="CODE", help="A reason code of the quarantine, or an exit code.")
    ],
    as_json: AsJson = False,
) -> int:
    """Say what a reason code or an exit code means, and what to do about it."""
    import difflib

    from phantomset.data.errors import InputError
    from phantomset.data.quarantine.reasons import REASONS, Reason

    known = {**REASONS, **{str(number): Reason(meaning, "") for number, meaning in EXIT_CODES.items()}}
    name = code.strip().upper()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"exit codes are {', '.join(map(str, EXIT_CODES))}"
        raise InputError(f"explain {code}: not a code; {hint} All codes: {', '.join(known)}")
    meaning, remedy, *_ = known[name]
    if as_json:
        print_json({"exit_code": OK, "code": name, "meaning": meaning, "remedy": remedy})
    else:
        typer.echo(f"{name}: {meaning}" + (f"\nWhat to do: {remedy}" if remedy else ""))
    return OK


VerifyStore = Annotated[
    bool, typer.Option("--verify-store", help="Read every stored image and hold it against its digest.")
]


def doctor(workspace: Place = None, verify_store: VerifyStore = False, as_json: AsJson = False) -> int:
    """Say what this machine has: versions, devices, decoders, and whether the workspace can be written."""
    from rich.markup import escape

    from phantomset.pipelines.cli import checkup, console

    rows = checkup.examine(workspace)
    if verify_store:
        rows.append(checkup.verify_store(workspace))
    code = OK if all(row.is_well for row in rows) else BAD_INPUT
    if as_json:
        print_json({"exit_code": code, "checks": [[row.name, row.found, row.is_well] for row in rows]})
        return code
    shown = console.table("", "", "found", "")
    shown.show_header = False
    for row in rows:
        shown.add_row(row.name, escape(row.found), "" if row.is_well else f"[red]{escape(row.advice)}[/]")
    console.screen().print(shown)
    return code


def mark(
    judgement: Annotated[
        str,
        typer.Argument(
            metavar="FOLDER", help="Of the restricted report: its name in restricted/findings, or an audit's."
        ),
    ],
    pair: Annotated[
        str | None, typer.Argument(metavar="PAIR", help="Such as hp-1; none: list marks.")
    ] = None,
    seen: Annotated[str | None, typer.Argument(metavar="copy|different|unsure")] = None,
    by: Annotated[str, typer.Option(metavar="NAME", help="Who looked.")] = "",
    workspace: Place = None,
    as_json: AsJson = False,
) -> int:
    """Record what a person saw who looked at one of the closest pairs; it changes no verdict."""
    from phantomset.pipelines.places import existing
    from phantomset.pipelines.report import marks

    album = marks.of_audit(Path(judgement)) or marks.of_judgement(existing(workspace), judgement)
    if pair is not None:
        marks.record(album, pair, seen or "", by)
    lines = marks.recorded(album)
    if as_json:
        print_json({"exit_code": OK, "marks": lines})
    else:
        for line in lines:
            typer.echo(f"{line['time']}  {line['pair']:<12} {line['mark']:<10} {line['by']}")
    return OK
