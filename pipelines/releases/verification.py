"""What a receiver asks of a release: is it whole, whose is it, and was it taken back? Works offline."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from phantomset.data.digest import digest_of_file
from phantomset.data.errors import ReleaseError
from phantomset.pipelines.draft import WAIVABLE
from phantomset.pipelines.releases import manifest, retraction, statements
from phantomset.pipelines.releases.signing import Damaged, PublicKey, opened
from phantomset.validators.notebook import shown

Signature = Literal["valid", "not checked", "unsigned", "invalid"]


@dataclass(frozen=True, slots=True)
class Verification:
    """The answer.

    Attributes:
        problems: one sentence for each thing that is wrong; none where the release holds.
        signature: "valid" by the key that was given; "not checked" where none was; "unsigned"; "invalid".
        signer: fingerprint of the key that the release names; "" where it is unsigned.
        files: how many files the manifest lists.
        set: digest of the synthetic set; "" where the manifest cannot be read.
        named: the release by its manifest, ``NAME/vN``.
        warnings: what a receiver should know of a release that holds, such as a waiver that has ended.
    """

    problems: tuple[str, ...]
    signature: Signature
    signer: str
    files: int
    set: str = ""
    named: str = ""
    warnings: tuple[str, ...] = ()

    def sentence(self) -> str:
        """Return in words whose the release is."""
        return {
            "valid": f"signed by {self.signer}",
            "not checked": f"signed by {self.signer}, not checked: give its public key with --key",
            "unsigned": "not signed: whoever can write here can have changed it together with its checksums",
            "invalid": "the signature does not hold",
        }[self.signature]

    def _repr_html_(self) -> str:
        """Return the answer as a notebook shows it: whole or not, by whom, and each problem and warning."""
        facts = {"files": f"{self.files:,}", "signature": self.sentence()}
        title = "Not as published" if self.problems else "All as published"
        return shown(title, facts, [*self.problems, *self.warnings])


def verify(folder: Path, public: PublicKey | None = None, retractions: Path | None = None) -> Verification:
    """Return what is wrong with the release in a folder.

    With the public key of its publisher any changed, missing or added byte is found, whoever changed it.
    Without
    one, or where the release is unsigned, whoever rewrote files and checksums together is not.

    Args:
        folder: the release.
        public: the publisher's key, from elsewhere than the release.
        retractions: the publisher's list; None: the one beside the releases, where there is one.

    Raises:
        ReleaseError: the list of retractions is named and missing, damaged, or not signed by the key.
    """
    if retractions is not None and not retractions.exists():
        raise ReleaseError(f"{retraction.LIST}: there is no list at {retractions}; name the publisher's")
    problems = manifest.problems(folder)
    content = _manifest(folder)
    signer = str(content.get("signer", ""))
    wrong = _attested(folder, content, public)
    listed = retraction.read(retractions or folder.resolve().parent.parent / retraction.LIST, public)
    digest = digest_of_file(folder / manifest.MANIFEST) if content else ""
    taken = [item for item in listed if item.manifest == digest]
    problems += [problem for problem in wrong if problem not in problems]
    problems += [f"retracted on {item.day}: {item.reason}" for item in taken]
    signature: Signature = "not checked" if signer else "unsigned"
    if public:
        signature = "invalid" if wrong else "valid"
    files, named = len(content.get("files", ())), f"{content.get('name')}/v{content.get('version')}"
    made, warnings = str(content.get("set", "")), tuple(_ended(content))
    return Verification(tuple(problems), signature, signer, files, made, named, warnings)


def _ended(content: dict[str, Any]) -> Iterator[str]:
    """Yield a sentence where a waiver let the release out and its last day is past."""
    waiver: Any = content.get("waiver")
    until = str(cast("dict[str, Any]", waiver).get("until", "")) if isinstance(waiver, dict) else ""
    if until and until < statements.today():
        yield (
            f"it did not pass in {WAIVABLE}, and the waiver that let it out ended on {until}: "
            "use a later version, or ask the publisher"
        )


def _attested(folder: Path, content: dict[str, Any], public: PublicKey | None) -> list[str]:
    """Return what is wrong with the attestations: each is whole, about this manifest, signed by the key."""
    names = content.get("attestations", [])
    if public and not names:
        return ["attestations: there are none, so nothing is signed"]
    found: list[str] = []
    for name in names:
        try:
            envelope = opened((folder / name).read_bytes())
            subjects = [entry["digest"]["sha256"] for entry in envelope.statement["subject"]]
        except OSError:
            found.append(f"{name}: missing")
            continue
        except (Damaged, KeyError, TypeError):
            found.append(f"{name}: changed")
            continue
        if subjects != [digest_of_file(folder / manifest.MANIFEST)]:
            found.append(f"{name}: is about another {manifest.MANIFEST}")
        elif public and not envelope.is_signed_by(public):
            found.append(f"{name}: is not signed by {public.fingerprint}")
    return found


def _manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest; nothing where it is missing, or has not the form of one."""
    try:
        content: Any = json.loads((folder / manifest.MANIFEST).read_bytes())
        lists: list[Any] = [content.get("files", []), content.get("attestations", [])]
    except (OSError, ValueError, RecursionError, AttributeError):
        return {}
    has_form = all(isinstance(each, list) for each in lists) and all(
        isinstance(each, str) for each in lists[1]
    )
    return content if has_form else {}
