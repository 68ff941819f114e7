"""Commands that look and change nothing: releases, recipes, explain, doctor."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from phantomset.data.errors import BAD_INPUT, OK

releases = typer.Typer(name="releases", help="What was let out.", no_args_is_help=True)
recipes = typer.Typer(name="recipes", help="What can be run, and how it is written.", no_args_is_help=True)

Place = Annotated[
    Path | None,
    typer.Option(
        "--workspace", metavar="DIR", help="Default: $PHANTOMSET_WORKSPACE or ./phantomset-workspace."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of a release, or NAME/vN for one version.")]

EXIT_CODES = {
    0: "done, published, passed",
    1: "a bug of ours",
    2: "the input, the recipe or the command line is wrong; nothing is left behind",
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


@releases.command("list")
def releases_list(workspace: Place = None, as_json: AsJson = False) -> int:
    """Name every release with its number of images and its verdict's digest."""
    from phantomset.pipelines import console, release
    from phantomset.pipelines.places import existing

    found = release.list_releases(existing(workspace))
    if as_json:
        print_json({"exit_code": OK, "releases": [_release(item) for item in found]})
        return OK
    if not found:
        typer.echo("nothing has been released in this workspace")
        return OK
    rows = console.table("", "release", "version", ">images", "made", "set")
    for item in found:
        seen = item.manifest
        made, digest = str(seen.get("created", "?")), str(seen.get("set", "damaged"))[:12]
        rows.add_row(item.name, f"v{item.version}", f"{seen.get('images', 0):,}", made, digest)
    console.screen().print(rows)
    return OK


@releases.command("show")
def releases_show(name: Name, workspace: Place = None, as_json: AsJson = False) -> int:
    """Show one release: what it is made of, and where it lies."""
    from phantomset.pipelines import console, release
    from phantomset.pipelines.places import existing

    found = release.show(existing(workspace), *_named(name))
    if as_json:
        print_json({"exit_code": OK, **_release(found), "manifest": found.manifest})
        return OK
    rows = console.table(f"{found.name} v{found.version}", "", "")
    rows.show_header = False
    for key, value in found.manifest.items():
        if not isinstance(value, list | dict):
            rows.add_row(key, str(value))
    rows.add_row("files", f"{len(found.manifest.get('files', [])):,}")
    rows.add_row("folder", str(found.path))
    rows.add_row("report", str(found.path / "report.html"))
    console.screen().print(rows)
    return OK


@releases.command("verify")
def releases_verify(name: Name, workspace: Place = None, as_json: AsJson = False) -> int:
    """Compare every file of a release with its checksums."""
    from phantomset.pipelines import release
    from phantomset.pipelines.places import existing

    place = existing(workspace)
    found = release.show(place, *_named(name))
    problems = release.verify(place, found.name, found.version)
    code = BAD_INPUT if problems else OK
    if as_json:
        print_json({"exit_code": code, **_release(found), "problems": problems})
    elif problems:
        for problem in problems:
            typer.echo(f"phantomset: {problem}", err=True)
    else:
        typer.echo(f"{found.name} v{found.version}: {len(found.manifest['files']):,} files, all as published")
    return code


def _named(name: str) -> tuple[str, int | None]:
    """Read ``NAME`` or ``NAME/vN``."""
    from phantomset.data.errors import ReleaseError

    base, slash, version = name.partition("/")
    if not slash:
        return base, None
    if not version.removeprefix("v").isdigit():
        raise ReleaseError(f"release {name}: write NAME or NAME/vN, such as chest/v2")
    return base, int(version.removeprefix("v"))


def _release(item: Any) -> dict[str, Any]:
    return {
        "name": item.name,
        "version": item.version,
        "path": str(item.path),
        "set": item.manifest.get("set"),
    }


@recipes.command("list")
def recipes_list(as_json: AsJson = False) -> int:
    """Name the shipped recipes."""
    from phantomset.pipelines import console, recipe_file

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

    from phantomset.pipelines import recipe_file

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
    from phantomset.data.reasons import REASONS, Reason

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


def doctor(workspace: Place = None, as_json: AsJson = False) -> int:
    """Say what this machine has: versions, devices, decoders, and whether the workspace can be written."""
    from phantomset.pipelines import checkup, console

    rows = checkup.examine(workspace)
    code = OK if all(row.is_well for row in rows) else BAD_INPUT
    if as_json:
        print_json({"exit_code": code, "checks": [[row.name, row.found, row.is_well] for row in rows]})
        return code
    shown = console.table("", "", "found", "")
    shown.show_header = False
    for row in rows:
        shown.add_row(row.name, row.found, "" if row.is_well else f"[red]{row.advice}[/]")
    console.screen().print(shown)
    return code
