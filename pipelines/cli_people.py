"""Commands for people: the keys that they sign with."""

from pathlib import Path
from typing import Annotated

import typer

from phantomset.data.errors import BAD_INPUT, OK
from phantomset.pipelines.cli_look import AsJson, print_json

keys = typer.Typer(name="keys", help="The key that releases are signed with.", no_args_is_help=True)

KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--file", metavar="FILE", help="Default: $PHANTOMSET_SIGNING_KEY, or beside the project key."
    ),
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
    from phantomset.pipelines import signing

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
    from phantomset.pipelines import signing

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
