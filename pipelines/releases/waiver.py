"""A waiver: a named person lets a set out that failed in fidelity alone, for a reason, until a day.

It changes no verdict, and there is none for privacy, for the controls or for utility: see `draft.waivable`.
"""

import datetime
from typing import Any

from phantomset.data.errors import ReleaseError
from phantomset.data.workspace import Workspace
from phantomset.pipelines.draft import WAIVABLE, Draft, Waiver, is_let_out
from phantomset.pipelines.releases import signoff, statements
from phantomset.pipelines.releases.signing import Signer
from phantomset.pipelines.releases.signoff import Request

KIND = "urn:phantomset:waiver:v1"
FOLDER, REQUEST = "waivers", "could-be-waived.json"

MOST_DAYS = 180
"""A waiver ends after half a year at the latest: by then the set is better, or is not needed."""


def offer(workspace: Workspace, request: Request) -> None:
    """Write down that a set could be waived, so that `open_ones` finds it."""
    signoff.ask(workspace, request, REQUEST)


def open_ones(workspace: Workspace) -> list[Request]:
    """Return the sets that a waiver could let out, by recipe."""
    return signoff.asked(workspace, REQUEST)


def sign(
    workspace: Workspace, request: Request, who: tuple[str, str], text: str, until: str, signer: Signer
) -> Waiver:
    """Record a waiver and return it.

    Args:
        workspace: of the judgement.
        request: what could be waived, from `open_ones`.
        who: name and function of the person who answers for it.
        text: why; receivers will read it.
        until: the last day on which it holds, ISO.
        signer: the person's own key.

    Raises:
        ReleaseError: name, function or reason is missing, or the day is none, past or too far off.
    """
    reason = " ".join(text.split())
    if not 10 <= len(reason) <= 500:
        raise ReleaseError("waive: give a reason (--reason) of 10 to 500 characters; receivers will read it")
    last = _day(until)
    now = datetime.date.fromisoformat(statements.today())
    if not now <= last <= now + datetime.timedelta(days=MOST_DAYS):
        raise ReleaseError(
            f"waive: --until {until} must lie between today and {now + datetime.timedelta(days=MOST_DAYS)}: "
            f"a waiver ends after {MOST_DAYS} days at the latest"
        )
    content: dict[str, Any] = {"axis": WAIVABLE, "reason": reason, "until": last.isoformat()}
    made = statements.state(request.subject(workspace, KIND, FOLDER), *who, signer, content)
    return _waiver(made)


def held(workspace: Workspace, request: Request) -> Waiver | None:
    """Return the waiver that holds today for this verdict; of several, the one that holds longest."""
    found = [_waiver(each) for each in statements.stated(request.subject(workspace, KIND, FOLDER))]
    alive = [each for each in found if each.until >= statements.today()]
    return max(alive, key=lambda each: each.until, default=None)


def require(draft: Draft) -> None:
    """Hold that a draft may be published: it passed, or fidelity alone is waived and the day is not past.

    Raises:
        ReleaseError: it may not.
    """
    if not is_let_out(draft):
        raise ReleaseError(
            f"release {draft.name}: the verdict is {draft.verdict.status}, and only a PASS is published. "
            "Read the report for the reasons; nothing overrides the gate."
        )
    if draft.waiver and draft.waiver.until < statements.today():
        raise ReleaseError(f"release {draft.name}: its waiver ended on {draft.waiver.until}")


def _waiver(stated: statements.Stated) -> Waiver:
    return Waiver(
        stated.name, stated.role, stated.day, str(stated.content["until"]), str(stated.content["reason"])
    )


def _day(text: str) -> datetime.date:
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        raise ReleaseError(f"waive: --until {text!r} is no day; write YYYY-MM-DD") from None
