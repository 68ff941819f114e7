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


def retract(releases: Path, name: str, version: int, reason: str, signer: Signer | None) -> Retraction:
    """Put a release on the list beside the releases, signed where there is a key, and return its entry.

    Raises:
        ReleaseError: it is on the list, the reason is missing, the list is not this signer's, or it cannot be
            written.
    """
    reason = " ".join(reason.split())
    if not 10 <= len(reason) <= 500:
        raise ReleaseError("retract: give a reason of 10 to 500 characters; receivers will read it")
    with shelf.held(releases, name):
        listed = read(releases / LIST, signer.public if signer else None)
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
        write_atomically(releases / LIST, sealed(_statement([*listed, entry]), [signer] if signer else []))
    return entry


def _statement(listed: list[Retraction]) -> dict[str, Any]:
    return {
        "_type": STATEMENT,
        "subject": [
            {"name": f"{item.name}/v{item.version}", "digest": {"sha256": item.manifest}} for item in listed
        ],
        "predicateType": KIND,
        "predicate": {"retractions": [asdict(item) for item in listed]},
    }
