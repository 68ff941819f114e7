"""What named people state about a judgement, each signed with their own key and kept beside it."""

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from phantomset.data.errors import ReleaseError
from phantomset.data.workspace import write_atomically
from phantomset.pipelines.releases.attestation import statement
from phantomset.pipelines.releases.signing import Damaged, PublicKey, Signer, opened, sealed

_OWN = ("name", "role", "day", "key")


@dataclass(frozen=True, slots=True)
class Stated:
    """One person's statement: who, in which function, when, with which key, and what."""

    name: str
    role: str
    day: str
    fingerprint: str
    content: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Subject:
    """What statements of one kind are about.

    Attributes:
        folder: where they lie, in the restricted part.
        kind: a URN; a statement of another kind is not one of these.
        name: of the judgement's folder.
        digest: of what is stated about: this verdict on this set under this recipe.
    """

    folder: Path
    kind: str
    name: str
    digest: str


def today() -> str:
    """Return the day in UTC, as statements carry it."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def person(name: str, role: str) -> tuple[str, str]:
    """Return name and function, blanks tidied.

    Raises:
        ReleaseError: one is missing or too long.
    """
    name, role = (" ".join(text.split()) for text in (name, role))
    if not 2 <= len(name) <= 100 or not 2 <= len(role) <= 100:
        raise ReleaseError("give your name (--by) and your function (--role), 2 to 100 characters each")
    return name, role


def state(subject: Subject, name: str, role: str, signer: Signer, content: dict[str, Any]) -> Stated:
    """Sign a statement and keep it; the same key's earlier statement of this kind gives way to it.

    Raises:
        ReleaseError: name or function is missing.
    """
    name, role = person(name, role)
    made = Stated(name, role, today(), signer.public.fingerprint, content)
    predicate = {**content, "name": name, "role": role, "day": made.day, "key": signer.public.line}
    envelope = sealed(statement(subject.name, subject.digest, subject.kind, predicate), [signer])
    subject.folder.mkdir(mode=0o700, exist_ok=True)
    file = signer.public.fingerprint.removeprefix("SHA256:").replace("/", "_")
    write_atomically(subject.folder / f"{file}.json", envelope, mode=0o600)
    return made


def stated(subject: Subject) -> list[Stated]:
    """Return the statements that hold, by name; a changed one, or one about another verdict, does not."""
    found = (_read(path, subject) for path in sorted(subject.folder.glob("*.json")))
    return sorted((each for each in found if each), key=lambda each: (each.name, each.fingerprint))


def _read(path: Path, subject: Subject) -> Stated | None:
    """Return a statement whose signature holds under the key that it names, about this very verdict."""
    try:
        envelope = opened(path.read_bytes())
        predicate: dict[str, Any] = envelope.statement["predicate"]
        key = serialization.load_ssh_public_key(str(predicate["key"]).encode())
        about = envelope.statement["subject"][0]["digest"]["sha256"]
        if not isinstance(key, Ed25519PublicKey) or about != subject.digest:
            return None
        public = PublicKey(key)
        if envelope.statement["predicateType"] != subject.kind or not envelope.is_signed_by(public):
            return None
        content = {name: value for name, value in predicate.items() if name not in _OWN}
        name, role, day = (str(predicate[field]) for field in ("name", "role", "day"))
        return Stated(name, role, day, public.fingerprint, content)
    except (Damaged, OSError, ValueError, KeyError, TypeError, IndexError):
        return None
