"""What people saw who looked at the closest pairs: recorded with name and time beside the judgement.

A mark is a note, not a vote: it changes no verdict. Nothing overrides the gate.
"""

import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, get_args

from phantomset.data.errors import InputError
from phantomset.data.workspace import Workspace
from phantomset.validators.finding import Finding

FILE = "marks.jsonl"

Mark = Literal["copy", "different", "unsure"]
MARKS: tuple[Mark, ...] = get_args(Mark)

Place = tuple[int, int, float]
"""Position in T, position in the set, calibrated distance."""


def pairs(findings: Iterable[Finding]) -> dict[str, dict[str, Place]]:
    """Return the closest pairs of the copy scan by representation and name, such as "hp-1"."""
    found: dict[str, dict[str, Place]] = {}
    for finding in findings:
        if finding.check == "copies" and finding.group == "all":
            for space, listed in finding.details.get("pairs", {}).items():
                named = {f"{space}-{n}": (int(a), int(b), float(q)) for n, (a, b, q) in enumerate(listed, 1)}
                found[space] = named
    return found


def record(workspace: Workspace, judgement: str, pair: str, mark: str, by: str) -> dict[str, str]:
    """Append a mark and return it.

    Raises:
        InputError: there is no such judgement or pair, the mark is none of `MARKS`, or nobody is named.
    """
    folder = _folder(workspace, judgement)
    known = _known(folder)
    if pair not in known:
        raise InputError(f"mark {pair}: no pair of this judgement; there are {', '.join(known) or 'none'}.")
    if mark not in MARKS:
        raise InputError(f"mark {pair}: {mark!r} is none of {', '.join(MARKS)}.")
    name = " ".join(by.split())
    if not name or len(name) > 100:
        raise InputError("mark: --by needs the name of the person who looked, 100 characters at most.")
    line = {
        "pair": pair,
        "mark": mark,
        "by": name,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    descriptor = os.open(folder / FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "a", encoding="utf-8") as stream:
        stream.write(json.dumps(line, ensure_ascii=False) + "\n")
    return line


def recorded(workspace: Workspace, judgement: str) -> list[dict[str, str]]:
    """Return the marks of a judgement, in the order in which they were made.

    Raises:
        InputError: there is no such judgement.
    """
    path = _folder(workspace, judgement) / FILE
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def _folder(workspace: Workspace, judgement: str) -> Path:
    known = {
        path.parent.name: path.parent for path in workspace.restricted("findings").glob("*/verdict.json")
    }
    if judgement not in known:
        there = ", ".join(sorted(known)) or "none; run a recipe first"
        raise InputError(f"mark: no judgement {judgement[:40]!r} in this workspace; there is {there}.")
    return known[judgement]


def _known(folder: Path) -> list[str]:
    """Return the names of a stored judgement's pairs."""
    content: dict[str, Any] = json.loads((folder / "verdict.json").read_bytes())
    for finding in content["findings"]:
        if finding["check"] == "copies" and finding["group"] == "all":
            listed: dict[str, list[Any]] = finding["details"].get("pairs", {})
            return [f"{space}-{n}" for space, found in listed.items() for n in range(1, len(found) + 1)]
    return []
