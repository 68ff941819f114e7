"""Keys and signatures: Ed25519 in the files of OpenSSH, statements in DSSE envelopes.

``ssh-keygen -lf`` reads a public key and prints the same fingerprint. Sources: DSSE protocol v1.0.0; in-toto
Statement v1; RFC 8032 (Ed25519).
"""

import base64
import binascii
import hashlib
import json
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from phantomset.data.errors import ReleaseError
from phantomset.data.keys import key_folder

VARIABLE = "PHANTOMSET_SIGNING_KEY"
"""Environment variable that names another private key."""

PAYLOAD_TYPE = "application/vnd.in-toto+json"


class Damaged(Exception):  # noqa: N818 - a state of an envelope; the text says what is wrong
    """An envelope that was not written by `sealed`, or was changed since."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key and how people name it: ``SHA256:...`` as OpenSSH prints it."""

    key: Ed25519PublicKey
    comment: str = ""

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the key in OpenSSH's wire form."""
        wire = base64.b64decode(self._openssh().split(b" ")[1])
        return "SHA256:" + base64.b64encode(hashlib.sha256(wire).digest()).decode().rstrip("=")

    @property
    def line(self) -> str:
        """The key as one line of OpenSSH: what a receiver is given."""
        return f"{self._openssh().decode()} {self.comment}".strip()

    def _openssh(self) -> bytes:
        return self.key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)


@dataclass(frozen=True, slots=True)
class Signer:
    """A private key, in memory."""

    key: Ed25519PrivateKey
    comment: str = ""

    @property
    def public(self) -> PublicKey:
        """The other half."""
        return PublicKey(self.key.public_key(), self.comment)


@dataclass(frozen=True, slots=True)
class Envelope:
    """An opened envelope: the statement, the bytes that were signed, signatures by fingerprint."""

    statement: dict[str, Any]
    signed: bytes
    signatures: dict[str, bytes]

    def is_signed_by(self, public: PublicKey) -> bool:
        """Say whether a signature of this key is on it, and holds."""
        signature = self.signatures.get(public.fingerprint)
        if signature is None:
            return False
        try:
            public.key.verify(signature, self.signed)
        except InvalidSignature:
            return False
        return True


def key_path() -> Path:
    """Return the key's place: $PHANTOMSET_SIGNING_KEY, else ``signing.key`` beside the project key."""
    named = os.environ.get(VARIABLE)
    return Path(named).absolute() if named else key_folder() / "signing.key"


def new_key(path: Path, comment: str) -> PublicKey:
    """Write a new key pair, ``path`` (0600) and ``path.pub``, and return the public half.

    Raises:
        ReleaseError: there is a key already, or the place cannot be written.
    """
    if "\n" in comment or len(comment) > 200:
        raise ReleaseError("keys: a comment is one line of at most 200 characters")
    for half in (path, public_path(path)):
        if half.exists():
            raise ReleaseError(
                f"keys: {half} is there already. Name another file with --file; a key is never replaced."
            )
    signer = Signer(Ed25519PrivateKey.generate(), comment)
    private = signer.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_new(path, private, 0o600)
        _write_new(public_path(path), (signer.public.line + "\n").encode(), 0o644)
    except OSError as error:
        raise ReleaseError(
            f"keys: cannot write {path} ({error.strerror}). Name another file with --file."
        ) from None
    return signer.public


def public_path(path: Path) -> Path:
    """Return where the public half of a private key lies."""
    return path.with_name(path.name + ".pub")


def signer(path: Path | None = None) -> Signer | None:
    """Return the private key at ``path``, or at its usual place; None where that has none.

    Raises:
        ReleaseError: the named key is missing, open to others, under a passphrase, or no Ed25519 key.
    """
    is_named = path is not None or VARIABLE in os.environ
    path = path or key_path()
    if not path.exists():
        if is_named:
            raise ReleaseError(
                f"keys: there is no key at {path}. Make one: phantomset keys new --file {path}"
            )
        return None
    try:
        if path.stat().st_mode & 0o077:
            raise ReleaseError(f"keys: {path} can be read by others. Run: chmod 600 {path}")
        key = serialization.load_ssh_private_key(path.read_bytes()[:10_000], None)
        comment = (
            public_path(path).read_text("utf-8").strip().split(" ", 2)[2:]
            if public_path(path).exists()
            else []
        )
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm):
        raise ReleaseError(f"keys: {path} cannot be read as an OpenSSH key without a passphrase.") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ReleaseError(f"keys: {path} is no Ed25519 key. Make one: phantomset keys new --file FILE")
    return Signer(key, comment[0] if comment else "")


def public_key(path: Path) -> PublicKey:
    """Return a public key from its line in a file.

    Raises:
        ReleaseError: it is missing, or no Ed25519 key in OpenSSH's form.
    """
    try:
        line = path.read_bytes()[:10_000].strip().split(b"\n")[0]
        key = serialization.load_ssh_public_key(line)
        comment = line.decode("utf-8", "replace").split(" ", 2)[2:]
    except (OSError, ValueError, UnsupportedAlgorithm):
        raise ReleaseError(
            f"keys: {path} is no public key. It holds one line, ssh-ed25519 AAAA... NAME."
        ) from None
    if not isinstance(key, Ed25519PublicKey):
        raise ReleaseError(f"keys: {path} is no Ed25519 key; expected a line that begins with ssh-ed25519")
    return PublicKey(key, comment[0] if comment else "")


def sealed(statement: dict[str, Any], signers: Sequence[Signer] = ()) -> bytes:
    """Return a statement in a DSSE envelope, as the only bytes that `opened` accepts for it.

    Without a signer the list of signatures is empty: the envelope then says what was stated, and not by whom.
    """
    payload = json.dumps(statement, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
    signed = _to_sign(payload)
    return _written(payload, {each.public.fingerprint: each.key.sign(signed) for each in signers})


def opened(content: bytes) -> Envelope:
    """Return what an envelope holds. Any byte that differs from what `sealed` writes is refused.

    Raises:
        Damaged: it is not such an envelope.
    """
    try:
        envelope: dict[str, Any] = json.loads(content)
        payload = base64.b64decode(envelope["payload"], validate=True)
        signatures = {
            str(entry["keyid"]): base64.b64decode(entry["sig"], validate=True)
            for entry in envelope["signatures"]
        }
        statement: dict[str, Any] = json.loads(payload)
        is_whole = content == _written(payload, signatures) and bool(statement.get("predicateType"))
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error, RecursionError):
        raise Damaged("is no envelope with a statement") from None
    if not is_whole:
        raise Damaged("was changed after it was written")
    return Envelope(statement, _to_sign(payload), signatures)


def _written(payload: bytes, signatures: dict[str, bytes]) -> bytes:
    content = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [
            {"keyid": keyid, "sig": base64.b64encode(signature).decode()}
            for keyid, signature in sorted(signatures.items())
        ],
    }
    return (json.dumps(content, indent=2) + "\n").encode()


def _to_sign(payload: bytes) -> bytes:
    """Return DSSE's pre-authentication encoding: lengths in bytes, so that no two pairs have one encoding."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def _write_new(path: Path, content: bytes, mode: int) -> None:
    """Write a file complete before it has its name; a file that is there already is left as it is."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        path.hardlink_to(part)
    finally:
        part.unlink()
