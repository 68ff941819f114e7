"""Commands for people: the keys that they sign with, their sign-off, and a waiver of fidelity."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phantomset.data.errors import BAD_INPUT, OK
from phantomset.pipelines.cli.look import AsJson, Place, print_json

if TYPE_CHECKING:
    from phantomset.pipelines.releases.signing import Signer
    from phantomset.pipelines.releases.signoff import Request

keys = typer.Typer(name="keys", help="The key that releases are signed with.", no_args_is_help=True)

KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--file", metavar="FILE", help="Default: $PHANTOMSET_SIGNING_KEY, or beside the project key."
    ),
]

Which = Annotated[
    str,
    typer.Option("--judgement", metavar="FOLDER", help="Which set, if several wait: its report's folder."),
]


@keys.command("new")
def keys_new(
    name: Annotated[
        str, typer.Option(metavar="TEXT", help="Who signs; it stands in the public key.")
    ] = "phantomset",
    file: KeyFile = None,
    as_json: AsJson = False,
) -> int:
    """Make an Ed25519 key pair: FILE (private, 0600) and FILE.pub, which is handed to receivers."""
    from phantomset.pipelines.releases import signing

    path = file or signing.key_path()
    public = signing.new_key(path, name)
    if as_json:
        print_json(
            {"exit_code": OK, "file": str(path), "public": public.line, "fingerprint": public.fingerprint}
        )
        return OK
    typer.echo(f"private key  {path} (back it up; nobody else may have it)")
    typer.echo(
        f"public key   {signing.public_path(path)} (hand it to receivers, by another way than the releases)"
    )
    typer.echo(f"fingerprint  {public.fingerprint}")
    return OK


@keys.command("show")
def keys_show(file: KeyFile = None, as_json: AsJson = False) -> int:
    """Print the public key, as a receiver needs it."""
    from phantomset.pipelines.releases import signing

    signer = signing.signer(file)
    if as_json:
        public = signer.public if signer else None
        answer = {"public": public.line, "fingerprint": public.fingerprint} if public else {}
        print_json({"exit_code": OK if signer else BAD_INPUT, **answer})
    elif signer:
        typer.echo(signer.public.line)
        typer.echo(signer.public.fingerprint, err=True)
    else:
        typer.echo("there is no key, so releases are not signed; make one: phantomset keys new", err=True)
    return OK if signer else BAD_INPUT


def sign_off(
    recipe: Annotated[
        str | None,
        typer.Argument(metavar="[RECIPE]", help="Name of the recipe; without it, what waits is listed."),
    ] = None,
    by: Annotated[str, typer.Option(metavar="NAME", help="Who signs.")] = "",
    role: Annotated[str, typer.Option(metavar="FUNCTION", help="Such as data protection officer.")] = "",
    judgement: Which = "",
    key: KeyFile = None,
    workspace: Place = None,
    as_json: AsJson = False,
) -> int:
    """Let a set out that passed and waits for people: by name and function, signed with one's own key."""
    from phantomset.pipelines.places import existing
    from phantomset.pipelines.releases import signoff

    place = existing(workspace)
    waiting = signoff.waiting(place)
    if recipe is None:
        rows = [[one.recipe, one.needed, one.report, one.judgement] for one in waiting]
        given = [f"{len(signoff.given(place, one))} of {one.needed} signed" for one in waiting]
        lines = [
            f"{one.recipe} {one.judgement}: {signed}; read {one.report}"
            for one, signed in zip(waiting, given, strict=True)
        ]
        return _list("waiting", rows, lines or ["nothing waits for a sign-off in this workspace"], as_json)
    mine, signer = _to_sign("sign-off", recipe, waiting, "does not wait for one; what waits: {}", key)
    # One that they have signed, and that waits for others, does not keep them from signing the next.
    new = [one for one in mine if not signoff.has_signed(place, one, by, signer)]
    one = _meant("sign-off", mine if judgement or not new else new, judgement)
    signed = signoff.sign(place, one, by, role, signer)
    left = one.needed - len(signoff.given(place, one))
    if as_json:
        about = {"name": signed.name, "role": signed.role, "day": signed.day, "judgement": one.judgement}
        print_json({"exit_code": OK, **about, "still_needed": left})
    elif left:
        typer.echo(f"signed by {signed.name}; {left} more must sign, with another key")
    else:
        typer.echo(f"signed by {signed.name}; now run the recipe again, or resume the run in Prefect")
    return OK


def waive(
    recipe: Annotated[
        str | None,
        typer.Argument(metavar="[RECIPE]", help="Name of the recipe; without it, what could be is listed."),
    ] = None,
    by: Annotated[str, typer.Option(metavar="NAME", help="Who answers for it; receivers will read it.")] = "",
    role: Annotated[str, typer.Option(metavar="FUNCTION", help="Such as head of research.")] = "",
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; receivers will read it.")] = "",
    until: Annotated[str, typer.Option(metavar="YYYY-MM-DD", help="The last day on which it holds.")] = "",
    judgement: Which = "",
    key: KeyFile = None,
    workspace: Place = None,
    as_json: AsJson = False,
) -> int:
    """Let a set out that failed in fidelity alone, for a reason, until a day. For privacy there is none."""
    from dataclasses import asdict

    from phantomset.pipelines.places import existing
    from phantomset.pipelines.releases import waiver

    place = existing(workspace)
    known = waiver.open_ones(place)
    if recipe is None:
        rows = [[one.recipe, one.report, one.judgement] for one in known]
        lines = [
            f"{one.recipe} {one.judgement}: failed in fidelity alone; read {one.report}" for one in known
        ]
        return _list(
            "waivable", rows, lines or ["no set of this workspace failed in fidelity alone"], as_json
        )
    refused = (
        "no set of it failed in fidelity alone; what did: {}. Privacy, controls and utility cannot be waived."
    )
    mine, signer = _to_sign("waive", recipe, known, refused, key)
    made = waiver.sign(place, _meant("waive", mine, judgement), (by, role), reason, until, signer)
    if as_json:
        print_json({"exit_code": OK, **asdict(made)})
    else:
        typer.echo(f"waived by {made.name} until {made.until}; now run the recipe again")
    return OK


def _list(name: str, rows: Sequence[Sequence[Any]], lines: Sequence[str], as_json: bool) -> int:
    """Print what could be signed: as JSON under a name, or in words."""
    if as_json:
        print_json({"exit_code": OK, name: rows})
        return OK
    for line in lines:
        typer.echo(line)
    return OK


def _meant(command: str, requests: "Sequence[Request]", judgement: str) -> "Request":
    """Return the one set that a person means: nobody signs what they have not read.

    Raises:
        ReleaseError: several could be meant, or the named one is none of them.
    """
    from phantomset.data.errors import ReleaseError

    found = [one for one in requests if judgement in ("", one.judgement)]
    if len(found) == 1:
        return found[0]
    listed = "; ".join(f"{one.judgement}, read {one.report}" for one in requests)
    there = f"{judgement} is none of these" if judgement else f"there are {len(found)} sets"
    raise ReleaseError(f"{command}: {there}; name the one that you have read (--judgement): {listed}")


def _to_sign(
    command: str, recipe: str, requests: "Sequence[Request]", refused: str, key: Path | None
) -> "tuple[list[Request], Signer]":
    """Return a recipe's requests, and the person's own key.

    Raises:
        ReleaseError: nothing of this recipe is asked for (told by ``refused``), or there is no key.
    """
    from phantomset.data.errors import ReleaseError
    from phantomset.pipelines.releases import signing

    mine = [one for one in requests if one.recipe == recipe]
    if not mine:
        there = ", ".join(sorted({one.recipe for one in requests})) or "nothing"
        raise ReleaseError(f"{command} {recipe}: {refused.format(there)}")
    signer = signing.signer(key)
    if signer is None:
        raise ReleaseError(
            f"{command}: needs a key of yours. Make one: phantomset keys new --name 'YOUR NAME'"
        )
    return mine, signer
