"""What people saw who looked at the closest pairs: recorded with name and time beside the report.

A mark is a note, not a vote: it changes no verdict. Nothing overrides the gate.
"""

import json
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from phantomset.data.errors import InputError, WorkspaceError
from phantomset.data.workspace import Workspace, write_json
from phantomset.validators.finding import Finding

FILE, LIST = "marks.jsonl", "pairs.json"

Mark = Literal["copy", "different", "unsure"]
MARKS: tuple[Mark, ...] = get_args(Mark)

Place = tuple[int, int, float]
"""Position in T, position in the set, and the figure by which the pair was found."""

Pairs = dict[str, dict[str, Place]]
"""Pairs by their names, such as "hp-1", and these by attack."""


@dataclass(frozen=True, slots=True)
class Album:
    """The pairs of one report, and the file that holds what was seen of them."""

    pairs: tuple[str, ...]
    file: Path


def pairs(findings: Iterable[Finding]) -> Pairs:
    """Return the closest pairs that each attack on all patients names, by attack and name."""
    return _named((finding.group, finding.details) for finding in findings)


def of_judgement(workspace: Workspace, judgement: str) -> Album:
    """Return the pairs of a judgement of a workspace.

    Raises:
        InputError: there is no such judgement.
    """
    known = {
        path.parent.name: path.parent for path in workspace.restricted("findings").glob("*/verdict.json")
    }
    if judgement not in known:
        there = ", ".join(sorted(known)) or "none; run a recipe first"
        raise InputError(f"mark: no judgement {judgement[:40]!r} in this workspace; there is {there}.")
    content: dict[str, Any] = json.loads((known[judgement] / "verdict.json").read_bytes())
    named = _named((finding["group"], finding["details"]) for finding in content["findings"])
    return Album(_names(named), known[judgement] / FILE)


def keep(folder: Path, findings: Iterable[Finding], judgement: str) -> None:
    """Write the names of an audit's pairs beside its report, so that `of_audit` finds them. Restricted."""
    content = {"judgement": judgement, "pairs": _names(pairs(findings))}
    write_json(folder / LIST, content, mode=0o600)


def of_audit(folder: Path) -> Album | None:
    """Return the pairs of the audit whose report lies in a folder; None where there is none.

    Another audit into the same folder has other pairs under the same names; so each has marks of its own.

    Raises:
        InputError: the list of pairs is damaged.
    """
    try:
        content = json.loads((folder / LIST).read_bytes())
        return Album(tuple(content["pairs"]), folder / f"marks-{str(content['judgement'])[:12]}.jsonl")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"mark: {folder / LIST} cannot be read; audit again.") from None


def record(album: Album, pair: str, mark: str, by: str) -> dict[str, str]:
    """Append a mark and return it.

    Raises:
        InputError: there is no such pair, the mark is none of `MARKS`, or nobody is named.
        WorkspaceError: it cannot be written.
    """
    if pair not in album.pairs:
        there = ", ".join(album.pairs) or "none"
        raise InputError(f"mark {pair}: no pair of this judgement; there are {there}.")
    if mark not in MARKS:
        raise InputError(f"mark {pair}: {mark!r} is none of {', '.join(MARKS)}.")
    name = " ".join(by.split())
    if not name or len(name) > 100:
        raise InputError("mark: --by needs the name of the person who looked, 100 characters at most.")
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    line = {"pair": pair, "mark": mark, "by": name, "time": stamp}
    try:
        descriptor = os.open(album.file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")
    except OSError as error:
        raise WorkspaceError(f"mark: cannot write to {album.file} ({error.strerror}).") from None
    return line


def recorded(album: Album) -> list[dict[str, str]]:
    """Return the marks, in the order in which they were made."""
    if not album.file.exists():
        return []
    return [json.loads(line) for line in album.file.read_text("utf-8").splitlines()]


def _named(told: Iterable[tuple[str, dict[str, Any]]]) -> Pairs:
    """Return the pairs in findings' groups and details; those of subgroups or earlier sets are others."""
    found: Pairs = {}
    for group, details in told:
        for attack, listed in details.get("pairs", {}).items() if group == "all" else ():
            named = {f"{attack}-{n}": (int(a), int(b), float(q)) for n, (a, b, q) in enumerate(listed, 1)}
            found[attack] = named
    return found


def _names(found: Pairs) -> tuple[str, ...]:
    return tuple(name for named in found.values() for name in named)
