"""People who let a set out: their sign-offs, signed and kept beside the judgement, in the restricted part."""

import datetime
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from phantomset.data.errors import ReleaseError
from phantomset.data.workspace import Workspace, write_atomically, write_json
from phantomset.pipelines.releases.attestation import statement
from phantomset.pipelines.releases.signing import Damaged, PublicKey, Signer, opened, sealed

KIND = "urn:phantomset:sign-off:v1"
NEEDED: dict[Literal["none", "one", "two"], int] = {"none": 0, "one": 1, "two": 2}
"""How many people each choice of ``gate.sign_off`` asks for."""

FOLDER, REQUEST = "sign-offs", "awaits-sign-off.json"


@dataclass(frozen=True, slots=True)
class SignOff:
    """One person's yes: who, in which function, when, and with which key."""

    name: str
    role: str
    day: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Request:
    """A set that passed and waits.

    Attributes:
        recipe: name of the recipe, and of the release to be.
        judgement: name of the judgement's folder.
        verdict: digest of what is signed: the verdict on this set under this recipe.
        needed: how many people must sign.
        report: the report that they are asked to read.
    """

    recipe: str
    judgement: str
    verdict: str
    needed: int
    report: str


def ask(workspace: Workspace, request: Request) -> None:
    """Write down that a set waits, so that `waiting` finds it."""
    content = {name: getattr(request, name) for name in Request.__slots__}
    write_json(workspace.restricted("findings", request.judgement, REQUEST), content, mode=0o600)


def waiting(workspace: Workspace) -> list[Request]:
    """Return the sets that wait for a signature, by recipe."""
    found = [
        Request(**json.loads(path.read_bytes()))
        for path in workspace.restricted("findings").glob(f"*/{REQUEST}")
    ]
    return sorted(
        (request for request in found if len(given(workspace, request)) < request.needed),
        key=lambda request: (request.recipe, request.judgement),
    )


def given(workspace: Workspace, request: Request) -> list[SignOff]:
    """Return the sign-offs that hold for a request, one a person and one a key, by name.

    One that was changed, or is about another verdict, does not count.
    """
    found: dict[str, SignOff] = {}
    for path in sorted(_folder(workspace, request).glob("*.json")):
        signed = _read(path, request)
        if signed and not any(_is_same(signed, other) for other in found.values()):
            found[signed.name] = signed
    return [found[name] for name in sorted(found)]


def sign(workspace: Workspace, request: Request, name: str, role: str, signer: Signer) -> SignOff:
    """Record a person's sign-off and return it.

    Raises:
        ReleaseError: name or function is missing, or this person or this key has signed already.
    """
    name, role = (" ".join(text.split()) for text in (name, role))
    if not 2 <= len(name) <= 100 or not 2 <= len(role) <= 100:
        raise ReleaseError(
            "sign-off: give your name (--by) and your function (--role), 2 to 100 characters each"
        )
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    signed = SignOff(name, role, day, signer.public.fingerprint)
    if any(_is_same(signed, other) for other in given(workspace, request)):
        raise ReleaseError(
            "sign-off: this person, or this key, has signed already; another person must, with another key"
        )
    predicate = {"name": name, "role": role, "day": day, "recipe": request.recipe, "key": signer.public.line}
    stated = statement(request.judgement, request.verdict, KIND, predicate)
    folder = _folder(workspace, request)
    folder.mkdir(mode=0o700, exist_ok=True)
    file = signer.public.fingerprint.removeprefix("SHA256:").replace("/", "_")
    write_atomically(folder / f"{file}.json", sealed(stated, [signer]), mode=0o600)
    return signed


def _read(path: Path, request: Request) -> SignOff | None:
    """Return a sign-off whose signature holds under the key that it names, about this very verdict."""
    try:
        envelope = opened(path.read_bytes())
        predicate: dict[str, Any] = envelope.statement["predicate"]
        key = serialization.load_ssh_public_key(str(predicate["key"]).encode())
        about = envelope.statement["subject"][0]["digest"]["sha256"]
        if not isinstance(key, Ed25519PublicKey) or about != request.verdict:
            return None
        public = PublicKey(key)
        if envelope.statement["predicateType"] != KIND or not envelope.is_signed_by(public):
            return None
        return SignOff(
            str(predicate["name"]), str(predicate["role"]), str(predicate["day"]), public.fingerprint
        )
    except (Damaged, OSError, ValueError, KeyError, TypeError, IndexError):
        return None


def _is_same(one: SignOff, other: SignOff) -> bool:
    return one.name.casefold() == other.name.casefold() or one.fingerprint == other.fingerprint


def _folder(workspace: Workspace, request: Request) -> Path:
    return workspace.restricted("findings", request.judgement, FOLDER)
