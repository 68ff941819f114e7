"""People who let a set out: their sign-offs, signed and kept beside the judgement, in the restricted part."""

import json
from dataclasses import dataclass
from typing import Literal

from phantomset.data.errors import ReleaseError
from phantomset.data.workspace import Workspace, write_json
from phantomset.pipelines.releases import statements
from phantomset.pipelines.releases.signing import Signer
from phantomset.pipelines.releases.statements import Stated, Subject

KIND = "urn:phantomset:sign-off:v1"
NEEDED: dict[Literal["none", "one", "two"], int] = {"none": 0, "one": 1, "two": 2}
"""How many people each choice of ``gate.sign_off`` asks for."""

FOLDER, REQUEST = "sign-offs", "awaits-sign-off.json"


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

    def subject(self, workspace: Workspace, kind: str, folder: str) -> Subject:
        """Return what statements about this verdict are about, and where those of a kind lie."""
        place = workspace.restricted("findings", self.judgement, folder)
        return Subject(place, kind, self.judgement, self.verdict)


def ask(workspace: Workspace, request: Request, file: str = REQUEST) -> None:
    """Write down that a set waits, so that `asked` finds it."""
    content = {name: getattr(request, name) for name in Request.__slots__}
    write_json(workspace.restricted("findings", request.judgement, file), content, mode=0o600)


def asked(workspace: Workspace, file: str = REQUEST) -> list[Request]:
    """Return what was asked of people, by recipe."""
    places = workspace.restricted("findings").glob(f"*/{file}")
    found = [Request(**json.loads(path.read_bytes())) for path in places]
    return sorted(found, key=lambda request: (request.recipe, request.judgement))


def waiting(workspace: Workspace) -> list[Request]:
    """Return the sets that wait for a signature, by recipe."""
    return [one for one in asked(workspace) if len(given(workspace, one)) < one.needed]


def given(workspace: Workspace, request: Request) -> list[Stated]:
    """Return the sign-offs that hold for a request, one a person and one a key, by name."""
    found: list[Stated] = []
    for signed in statements.stated(request.subject(workspace, KIND, FOLDER)):
        if not any(_is_same(signed, other) for other in found):
            found.append(signed)
    return found


def sign(workspace: Workspace, request: Request, name: str, role: str, signer: Signer) -> Stated:
    """Record a person's sign-off and return it.

    Raises:
        ReleaseError: name or function is missing, or this person or this key has signed already.
    """
    name, role = statements.person(name, role)
    if has_signed(workspace, request, name, signer):
        raise ReleaseError(
            "sign-off: this person, or this key, has signed already; another person must, with another key"
        )
    subject = request.subject(workspace, KIND, FOLDER)
    return statements.state(subject, name, role, signer, {"recipe": request.recipe})


def has_signed(workspace: Workspace, request: Request, name: str, signer: Signer) -> bool:
    """Say whether a person, or a key, has signed a request already."""
    mine = Stated(" ".join(name.split()), "", "", signer.public.fingerprint, {})
    return any(_is_same(mine, other) for other in given(workspace, request))


def _is_same(one: Stated, other: Stated) -> bool:
    return one.name.casefold() == other.name.casefold() or one.fingerprint == other.fingerprint
