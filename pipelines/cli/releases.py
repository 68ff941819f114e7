"""Commands on what was let out: list, show, verify, accept, diff, retract, concerning."""

from pathlib import Path
from typing import Annotated, Any

import typer

from phantomset.data.errors import BAD_INPUT, FAILED, OK
from phantomset.pipelines.cli.look import AsJson, Place, print_json

releases = typer.Typer(name="releases", help="What was let out.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of a release, or NAME/vN for one version.")]
Target = Annotated[
    str,
    typer.Argument(
        metavar="NAME|DIR", help="A release of this workspace, or the folder of one from anywhere."
    ),
]
Key = Annotated[Path | None, typer.Option(metavar="FILE", help="The publisher's public key.")]


@releases.command("list")
def releases_list(workspace: Place = None, as_json: AsJson = False) -> int:
    """Name every release with its number of images and its set's digest."""
    from phantomset.pipelines.cli import console
    from phantomset.pipelines.places import existing
    from phantomset.pipelines.releases import release, retraction, standing

    place = existing(workspace)
    found = release.list_releases(place)
    failed = _failed_since()
    taken = {(item.name, item.version) for item in retraction.read(place.root / "releases" / retraction.LIST)}
    if as_json:
        rows = [
            {
                **_release(item),
                "retracted": (item.name, item.version) in taken,
                "failed_since": failed.get(str(item.manifest.get("set"))),
            }
            for item in found
        ]
        print_json({"exit_code": OK, "releases": rows})
        return OK
    if not found:
        typer.echo("nothing has been released in this workspace")
        return OK
    shown = console.table("", "release", "version", ">images", "made", "set", "")
    for item in found:
        seen = item.manifest
        made, digest = str(seen.get("created", "?")), str(seen.get("set", "damaged"))[:12]
        word = f"FAIL since {failed[seen['set']]}" if seen.get("set") in failed else ""
        word = "retracted" if (item.name, item.version) in taken else word
        shown.add_row(item.name, f"v{item.version}", f"{seen.get('images', 0):,}", made, digest, word)
    console.screen().print(shown)
    for sentence in standing.fallen(place, failed):
        typer.echo(f"phantomset: {sentence}", err=True)
    return OK


@releases.command("show")
def releases_show(name: Name, workspace: Place = None, as_json: AsJson = False) -> int:
    """Show one release: what it is made of, and where it lies."""
    from phantomset.pipelines.cli import console
    from phantomset.pipelines.places import existing
    from phantomset.pipelines.releases import release

    found = release.show(existing(workspace), *_named(name))
    day = _failed_since().get(str(found.manifest.get("set")))
    if as_json:
        print_json({"exit_code": OK, **_release(found), "failed_since": day, "manifest": found.manifest})
        return OK
    rows = console.table(f"{found.name} v{found.version}", "", "")
    rows.show_header = False
    for key, value in found.manifest.items():
        if not isinstance(value, list | dict):
            rows.add_row(key, str(value))
    rows.add_row("files", f"{len(found.manifest.get('files', [])):,}")
    rows.add_row("folder", str(found.path))
    rows.add_row("report", str(found.path / "report.html"))
    if day:
        rows.add_row("FAIL since", day)
    console.screen().print(rows)
    return OK


@releases.command("verify")
def releases_verify(
    target: Target,
    key: Key = None,
    retractions: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The publisher's list of what was taken back.")
    ] = None,
    workspace: Place = None,
    as_json: AsJson = False,
) -> int:
    """Find any byte of a release that was changed, taken away or added, and say whether it was taken back.

    In the house that published it: also whether it would not be let out today, by exit code 3.
    """
    from phantomset.pipelines.releases import signing, standing, verification

    folder = _folder(target, workspace)
    public = signing.public_key(key) if key else None
    found = verification.verify(folder, public, retractions)
    day = _failed_since().get(found.set)
    code = BAD_INPUT if found.problems else FAILED if day else OK
    if as_json:
        answer = {"exit_code": code, "path": str(folder), "problems": list(found.problems)}
        answer |= {"warnings": list(found.warnings), "failed_since": day}
        print_json({**answer, "signature": found.signature, "signer": found.signer})
        return code
    for line in [*found.problems, *(f"warning: {warning}" for warning in found.warnings)]:
        typer.echo(f"phantomset: {line}", err=True)
    if day and not found.problems:
        typer.echo(f"phantomset: {standing.sentence(found.named, day)}", err=True)
    state = "not as published" if found.problems else "all as published"
    typer.echo(f"{target}: {found.files:,} files, {state}; {found.sentence()}")
    return code


@releases.command("accept")
def releases_accept(
    target: Target,
    needs: Annotated[Path, typer.Option(metavar="FILE", help="What you need, in YAML.")],
    key: Key = None,
    workspace: Place = None,
    as_json: AsJson = False,
) -> int:
    """Say whether a release is whole and has what you need: exit code 0, or 3 where it has not.

    In the house that published it: 3 as well where it would not be let out today.
    """
    from phantomset.pipelines.releases import acceptance, signing, standing, verification

    folder = _folder(target, workspace)
    asked = acceptance.read_needs(needs)
    found = verification.verify(folder, signing.public_key(key) if key else None)
    problems, day = found.problems, _failed_since().get(found.set)
    unmet = acceptance.unmet(folder, asked) if not problems else []
    if day and not problems:
        unmet.append(standing.sentence(found.named, day))
    code = BAD_INPUT if problems else FAILED if unmet else OK
    if as_json:
        print_json({"exit_code": code, "path": str(folder), "problems": list(problems), "unmet": unmet})
        return code
    for line in [*problems, *unmet]:
        typer.echo(f"phantomset: {line}", err=True)
    typer.echo(f"{target}: {'damaged' if problems else 'not accepted' if unmet else 'accepted'}")
    return code


@releases.command("diff")
def releases_diff(one: Target, other: Target, workspace: Place = None, as_json: AsJson = False) -> int:
    """Show what differs between two releases: facts, classes, recipe, verdict, figures and files."""
    from phantomset.pipelines.cli import console
    from phantomset.pipelines.releases import comparison

    rows, files = comparison.differences(_folder(one, workspace), _folder(other, workspace))
    if as_json:
        differing = {row.what: [row.one, row.other] for row in rows}
        print_json({"exit_code": OK, "differences": differing, "files": files})
        return OK
    shown = console.table("", "", one, other)
    for row in rows:
        shown.add_row(row.what, row.one or "-", row.other or "-")
    shown.add_row("files", "", ", ".join(f"{count:,} {word}" for word, count in files.items()))
    console.screen().print(shown)
    return OK


@releases.command("retract")
def releases_retract(
    name: Name,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; receivers will read it.")],
    adopt: Annotated[
        str, typer.Option(metavar="SHA256", help="Of an unsigned list that you have read, to be signed too.")
    ] = "",
    workspace: Place = None,
    as_json: AsJson = False,
) -> int:
    """Take a release back: it goes on a signed list, which `verify` heeds. Its files are not touched."""
    from phantomset.pipelines.places import existing
    from phantomset.pipelines.releases import release, retraction, signing

    place = existing(workspace)
    found = release.show(place, *_named(name))
    signer = signing.signer()
    shelf = place.root / "releases"
    entry = retraction.retract(shelf, found.name, found.version, reason, signer, adopt)
    if as_json:
        path = str(shelf / retraction.LIST)
        print_json(
            {"exit_code": OK, **_release(found), "day": entry.day, "list": path, "signed": bool(signer)}
        )
        return OK
    how = "signed" if signer else "not signed: there is no key (phantomset keys new)"
    typer.echo(f"{found.name} v{found.version}: retracted on {entry.day}; {shelf / retraction.LIST} is {how}")
    typer.echo("Hand the list to everyone who has the release.")
    return OK


@releases.command("concerning")
def releases_concerning(
    patient: Annotated[
        str | None,
        typer.Argument(
            metavar="[PSEUDONYM]",
            help="Without it the patient's own identifier is asked for, and not shown or kept.",
        ),
    ] = None,
    issuer: Annotated[
        str, typer.Option(metavar="TEXT", help="The identifier's issuer, where DICOM files name one.")
    ] = "",
    workspace: Place = None,
    as_json: AsJson = False,
) -> int:
    """List the releases that a patient stands behind, as when the patient withdraws."""
    from phantomset.data.deidentify import patient_key
    from phantomset.data.errors import InputError
    from phantomset.data.keys import pseudonym
    from phantomset.pipelines.places import existing
    from phantomset.pipelines.releases import trace

    place = existing(workspace)
    if patient is None:
        typed = str(typer.prompt("Patient identifier", hide_input=True, err=True))
        key = patient_key(typed, issuer)  # in the spelling that ingest gave it
        if key is None:
            raise InputError("releases concerning: an identifier of blanks is nobody's")
        patient = pseudonym("patient", key)
    found, failed = trace.concerned(place, patient), _failed_since()
    if as_json:
        rows = [
            {
                **{"name": one.name, "version": one.version, "part": part, "run": one.run},
                "failed_since": failed.get(one.set),
            }
            for one, part in found
        ]
        print_json({"exit_code": OK, "pseudonym": patient, "releases": rows})
        return OK
    for one, part in found:
        word = "learned from" if part == "train" else f"judged with ({part})"
        fallen = f"; FAIL since {failed[one.set]}" if one.set in failed else ""
        run = one.run or "not recorded"
        typer.echo(f"{one.name}/v{one.version}: {word}; run {run}, set {one.set[:12]}{fallen}")
    if not found:
        typer.echo("no release of this workspace was made from, or judged with, this patient")
    return OK


def _failed_since() -> dict[str, str]:
    """Return the day of the FAIL that sets which were let out stand under; a warning where nobody knows."""
    from phantomset.data.errors import WorkspaceError
    from phantomset.pipelines.judgement import judging

    try:
        return judging.failed_since()
    except WorkspaceError as error:
        typer.echo(f"phantomset: warning: {error}", err=True)
        return {}


def _folder(target: str, workspace: Path | None) -> Path:
    """Return the folder of a release: the one that is named, or the workspace's."""
    from phantomset.pipelines.places import existing
    from phantomset.pipelines.releases import release
    from phantomset.pipelines.releases.manifest import MANIFEST

    if (Path(target) / MANIFEST).is_file() or (Path(target).is_dir() and ("/" in target or "." in target)):
        return Path(target)
    return release.show(existing(workspace), *_named(target)).path


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
