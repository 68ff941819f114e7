"""Whose the real images are, under which terms, and whether these let a synthetic set out.

No legal advice: these rules stop what the source's own words forbid, and nothing is read into them.
"""

import re
from collections.abc import Mapping
from typing import Any

from phantomset.data.errors import ReleaseError

FORBIDDING: tuple[tuple[str, str], ...] = (
    (r"(?<![A-Za-z0-9])ND(?![A-Za-z])|\bno[- ]?deriv", "they forbid derived works (ND)"),
    (
        r"\b(may|must|shall|do|is|are|can)\s?not (to )?be "
        r"(shared|redistributed|published|disclosed|passed on)"
        r"|\bnot (to be|for) (sharing|redistribution|publication)"
        r"|\bno (sharing|redistribution|publication)\b",
        "they forbid sharing",
    ),
    (r"\bcredentialed\b", "they bind each user personally (credentialed access)"),
    (r"\bconfidential\b", "they call the images confidential"),
)
"""Patterns in the source's terms that forbid a release, and what they say."""

NON_COMMERCIAL = r"(?<![A-Za-z0-9])NC(?![A-Za-z])|\bnon-?commercial\b|\bresearch[- ](use[- ])?only\b"
SHARE_ALIKE = r"(?<![A-Za-z0-9])SA(?![A-Za-z])|\bshare-?alike\b"


def require(publish: Mapping[str, Any]) -> None:
    """Hold that a recipe's section ``publish`` says whose the source is, and that its terms let a set out.

    Raises:
        ReleaseError: owner or terms are missing, the terms forbid it, or the licence drops a condition.
    """
    owner, terms = (str(publish.get(key) or "").strip() for key in ("source_owner", "source_terms"))
    licence = str(publish.get("licence") or "").strip()
    missing = [key for key, text in (("source_owner", owner), ("source_terms", terms)) if not text]
    if missing:
        raise ReleaseError(
            f"publish.{missing[0]}: is missing. Say in the recipe whose the real images are (source_owner) "
            "and under which terms you hold them (source_terms): nothing is published without."
        )
    for pattern, says in FORBIDDING:
        if re.search(pattern, terms, re.IGNORECASE):
            raise ReleaseError(
                f"publish.source_terms: {says}, so a set made from these images is not published. If the "
                "owner has permitted it, write that permission, with its date, in place of the terms."
            )
    for pattern, says in ((NON_COMMERCIAL, "non-commercial use only"), (SHARE_ALIKE, "share alike")):
        if re.search(pattern, terms, re.IGNORECASE) and not re.search(pattern, licence, re.IGNORECASE):
            raise ReleaseError(
                f"publish.licence: the source's terms say {says}, and {licence or 'no licence'} does not. "
                "Choose a licence that keeps this condition."
            )
