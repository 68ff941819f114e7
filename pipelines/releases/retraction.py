"""The list of what was taken back: one signed file beside the releases, which themselves never change."""

import datetime
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from phantomset.data.digest import digest_of_file
from phantomset.data.errors import ReleaseError
from phantomset.data.workspace import write_atomically
from phantomset.pipelines.releases import shelf
from phantomset.pipelines.releases.attestation import STATEMENT
from phantomset.pipelines.releases.signing import Damaged, PublicKey, Signer, opened, sealed

LIST = "retracted.json"
KIND = "urn:phantomset:retractions:v1"


@dataclass(frozen=True, slots=True)
class Retraction:
    """One release that was taken back: by name, version and the SHA-256 of its manifest; when and why."""

    name: str
    version: int
    manifest: str
    day: str
    reason: str


def read(path: Path, public: PublicKey | None = None) -> list[Retraction]:
    """Return the list in a file; empty where there is none.

    Raises:
        ReleaseError: it is damaged, or a public key is given and it is not signed by that.
    """
    if not path.exists():
        return []
    try:
        envelope = opened(path.read_bytes())
        if envelope.statement["predicateType"] != KIND:
            raise Damaged("is about something else")
        found = [Retraction(**entry) for entry in envelope.statement["predicate"]["retractions"]]
    except (Damaged, OSError, KeyError, TypeError) as error:
        raise ReleaseError(f"{LIST}: is damaged ({error}); get it again from whoever published") from None
    if public and not envelope.is_signed_by(public):
        raise ReleaseError(
            f"{LIST}: is not signed by {public.fingerprint}; get it again from whoever published"
        )
    return found


def of(releases: Path, name: str, version: int) -> Retraction | None:
    """Return the retraction of a release by the list beside the releases, where there is one."""
    listed = read(releases / LIST)
    return next((item for item in listed if (item.name, item.version) == (name, version)), None)


def retract(
    releases: Path, name: str, version: int, reason: str, signer: Signer | None, adopt: str = ""
) -> Retraction:
    """Put a release on the list beside the releases, signed where there is a key, and return its entry.

    ``adopt`` is the SHA-256 of an unsigned list from before there was a key: its entries are signed with the
    new one, and the signed list says so. It is named by whoever has read it, because anybody who can write
    beside the releases could have put an unsigned list in the place of a signed one.

    Raises:
        ReleaseError: it is on the list, the reason is missing, the list is not this signer's, or it cannot be
            written.
    """
    reason = " ".join(reason.split())
    if not 10 <= len(reason) <= 500:
        raise ReleaseError("retract: give a reason of 10 to 500 characters; receivers will read it")
    with shelf.held(releases, name):
        unsigned = _unsigned(releases / LIST) if signer else ""
        if unsigned and unsigned != adopt:
            raise ReleaseError(_to_be_read(releases / LIST, unsigned))
        listed = read(releases / LIST, signer.public if signer and not unsigned else None)
        if listed and signer is None and opened((releases / LIST).read_bytes()).signatures:
            raise ReleaseError(
                f"{LIST}: is signed, and there is no key here: an unsigned list in its place would be "
                "refused by whoever has the public key. Name the key in PHANTOMSET_SIGNING_KEY"
            )
        if any((item.name, item.version) == (name, version) for item in listed):
            raise ReleaseError(f"release {name}: v{version} is on the list already")
        day = datetime.datetime.now(datetime.UTC).date().isoformat()
        digest = digest_of_file(releases / name / f"v{version}" / "manifest.json")
        entry = Retraction(name, version, digest, day, reason)
        adopted = {"sha256": unsigned, "retractions": len(listed)} if unsigned else _adopted(releases / LIST)
        statement = _statement([*listed, entry], adopted)
        write_atomically(releases / LIST, sealed(statement, [signer] if signer else []))
    return entry


def _unsigned(path: Path) -> str:
    """Return the SHA-256 of a list that nobody signed; "" where it is signed, or there is none."""
    if not read(path) or opened(path.read_bytes()).signatures:
        return ""
    return digest_of_file(path)


def _to_be_read(path: Path, sha256: str) -> str:
    entries = "; ".join(f"{item.name}/v{item.version} on {item.day}: {item.reason}" for item in read(path))
    return (
        f"{LIST}: is not signed, and there is a key now. It says: {entries}. If that is what was retracted "
        f"before there was a key, all of it, sign it together with this one: --adopt {sha256}"
    )


def _adopted(path: Path) -> dict[str, Any] | None:
    """Return what the list says of an unsigned one that it took over."""
    return opened(path.read_bytes()).statement["predicate"].get("adopted") if path.exists() else None


def _statement(listed: list[Retraction], adopted: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "_type": STATEMENT,
        "subject": [
            {"name": f"{item.name}/v{item.version}", "digest": {"sha256": item.manifest}} for item in listed
        ],
        "predicateType": KIND,
        "predicate": {"retractions": [asdict(item) for item in listed]}
        | ({"adopted": adopted} if adopted else {}),
    }
