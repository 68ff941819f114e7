"""The list of a release's files with their SHA-256, and what no longer agrees with it."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from phantomset.data.digest import digest_of_file
from phantomset.data.workspace import write_atomically, write_json
from phantomset.pipelines.releases.attestation import FOLDER

MANIFEST, SUMS = "manifest.json", "SHA256SUMS"


def seal(
    folder: Path, described: dict[str, Any], attest: Callable[[str], Mapping[str, bytes]] = lambda _: {}
) -> dict[str, Any]:
    """Write ``manifest.json``, attestations and ``SHA256SUMS`` into a folder whose other files are written.

    The manifest lists every file but itself, the attestations and the sums, and every folder (an empty class
    keeps its own). The attestations are about the manifest. The sums are in the form of GNU coreutils and
    cover all of them: ``sha256sum -c SHA256SUMS``.

    Args:
        folder: the folder.
        described: what the manifest says besides.
        attest: makes the attestations, by their paths, from the SHA-256 of the manifest.

    Returns:
        The manifest: ``described`` with the entries ``files`` (path, sha256, bytes) and ``folders``.
    """
    files = [
        {"path": name, "sha256": digest_of_file(folder / name), "bytes": (folder / name).stat().st_size}
        for name in _files(folder)
    ]
    content = {**described, "files": files, "folders": _folders(folder)}
    write_json(folder / MANIFEST, content)
    for name, envelope in attest(digest_of_file(folder / MANIFEST)).items():
        (folder / name).parent.mkdir(exist_ok=True)
        write_atomically(folder / name, envelope)
    listed = {str(entry["path"]): str(entry["sha256"]) for entry in files}
    write_atomically(folder / SUMS, _sums(folder, listed, set(_files(folder))))
    return content


def problems(folder: Path) -> list[str]:
    """Return one sentence for each file or folder that is missing, changed or does not belong; none if all
    holds.

    The manifest answers for every file, the sums answer for manifest and attestations, and the sums must be,
    byte for byte, what these make of them. So any changed byte is found, in the lists as well. (Whoever
    rewrites the lists can forge them; only a signature stops that: `verification`.)
    """
    try:
        content: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        listed: dict[str, str] = {str(entry["path"]): str(entry["sha256"]) for entry in content["files"]}
        folders = set(map(str, content["folders"]))
        attested = set(map(str, content.get("attestations", ())))
        sums = (folder / SUMS).read_bytes()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return [f"{MANIFEST} or {SUMS}: missing or damaged; get the release again from where it came"]
    present = set(_files(folder))
    found = _disagreements(sums, _sums(folder, listed, attested & present), attested)
    for name in sorted({*listed, *present, *attested}):
        if name not in present:
            found.append(f"{name}: missing")
        elif name not in listed and name not in attested:
            found.append(f"{name}: does not belong to the release")
        elif not _is_plain_file(folder / name):
            found.append(f"{name}: is a link or a special file, not a file")
        elif name in listed and digest_of_file(folder / name) != listed[name]:
            found.append(f"{name}: changed")
    there = {name for name in _folders(folder) if name != FOLDER or not attested}
    found += [f"{name}/: missing folder" for name in sorted(folders - there)]
    found += [f"{name}/: folder does not belong to the release" for name in sorted(there - folders)]
    return found


def _disagreements(sums: bytes, expected: bytes, attested: set[str]) -> list[str]:
    """Say which line of the sums does not fit: an attestation was changed, or one of the two lists."""
    if sums == expected:
        return []
    lines = set(expected.decode().splitlines()) - set(sums.decode("utf-8", "replace").splitlines())
    changed = sorted(name for line in lines if (name := line.partition("  ")[2]) in attested)
    return [f"{name}: changed" for name in changed] or [
        f"{MANIFEST}: {SUMS} does not agree with it; one was changed"
    ]


def _sums(folder: Path, listed: Mapping[str, str], names: set[str]) -> bytes:
    """Return what ``SHA256SUMS`` must hold: the listed digests, and those of the manifest and of ``names``
    that
    are not listed, as they are now; sorted by name."""
    now = {name: digest_of_file(folder / name) for name in {*names, MANIFEST} - set(listed)}
    return "".join(f"{sha}  {name}\n" for name, sha in sorted({**listed, **now}.items())).encode()


def _is_plain_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _files(folder: Path) -> list[str]:
    """Return the sorted paths of all but folders and the two lists: special files are found too."""
    paths = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return sorted({path.relative_to(folder).as_posix() for path in paths} - {MANIFEST, SUMS})


def _folders(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_dir() and not path.is_symlink()
    )
