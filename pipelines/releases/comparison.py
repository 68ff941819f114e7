"""What differs between two releases, from their own files: no image is decoded."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from phantomset.data.errors import ReleaseError
from phantomset.pipelines.releases.attestation import PROVENANCE
from phantomset.pipelines.releases.manifest import MANIFEST
from phantomset.pipelines.releases.signing import Damaged, opened

SHOWN = (
    "name",
    "version",
    "semver",
    "created",
    "set",
    "images",
    "classes",
    "image",
    "formats",
    "licence",
    "suite",
)
VERDICT = ("status", "rules", "patients", "k95_band", "not_evaluated")


@dataclass(frozen=True, slots=True)
class Difference:
    """What differs, in one release and in the other; "" where it is not there."""

    what: str
    one: str
    other: str


def differences(one: Path, other: Path) -> tuple[list[Difference], dict[str, int]]:
    """Return what differs between the releases in two folders, and counts of files.

    Facts, classes, versions of packages, verdict and recipe are compared key by key; files by their digests:
    "same", "changed" (same path), "added" and "removed".

    Raises:
        ReleaseError: a folder holds no release.
    """
    facts = [_facts(folder) for folder in (one, other)]
    keys = [*facts[0], *(key for key in facts[1] if key not in facts[0])]
    rows = [
        Difference(key, facts[0].get(key, ""), facts[1].get(key, ""))
        for key in keys
        if facts[0].get(key) != facts[1].get(key)
    ]
    files = [
        {str(entry["path"]): str(entry["sha256"]) for entry in _json(folder / MANIFEST).get("files", ())}
        for folder in (one, other)
    ]
    shared = files[0].keys() & files[1].keys()
    same = sum(files[0][path] == files[1][path] for path in shared)
    return rows, {
        "same": same,
        "changed": len(shared) - same,
        "added": len(files[1].keys() - shared),
        "removed": len(files[0].keys() - shared),
    }


def _facts(folder: Path) -> dict[str, str]:
    """Return everything that is compared as rows of dotted key and text."""
    manifest, verdict = _json(folder / MANIFEST), _json(folder / "verdict.json")
    whole = {key: manifest.get(key) for key in SHOWN}
    whole |= {"versions": manifest.get("versions", {})}
    whole |= {"verdict": {key: verdict.get(key) for key in VERDICT}}
    whole |= {"recipe": _recipe(folder)}
    figures = verdict.get("fidelity", ())
    whole |= {
        "figures": {f"{item.get('metric')} ({item.get('group')})": item.get("value") for item in figures}
    }
    return dict(_rows(whole))


def _recipe(folder: Path) -> dict[str, Any]:
    """Return the public recipe by the provenance; nothing where that is missing or damaged."""
    try:
        statement = opened((folder / PROVENANCE).read_bytes()).statement
        return statement["predicate"]["buildDefinition"]["externalParameters"]["recipe"]
    except (OSError, Damaged, KeyError, TypeError):
        return {}


def _rows(value: Any, before: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, item in cast("dict[str, Any]", value).items():
            yield from _rows(item, f"{before}.{key}".lstrip("."))
    else:
        yield before, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise ReleaseError(f"release: {path.parent} holds no {path.name} that can be read")
    return cast("dict[str, Any]", content)
