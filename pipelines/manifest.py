"""The list of a release's files with their SHA-256, and what no longer agrees with it."""

import json
from pathlib import Path
from typing import Any

from phantomset.data.digest import digest_of_file
from phantomset.data.workspace import write_atomically, write_json

MANIFEST, SUMS = "manifest.json", "SHA256SUMS"


def seal(folder: Path, described: dict[str, Any]) -> dict[str, Any]:
    """Write ``manifest.json`` and ``SHA256SUMS`` into a folder whose other files are all written.

    The manifest lists every file but itself and the sums, and every folder (an empty class keeps its own).
    The sums are in the form of GNU coreutils and cover the manifest too: ``sha256sum -c SHA256SUMS``.

    Returns:
        The manifest: ``described`` with the entries ``files`` (path, sha256, bytes) and ``folders``.
    """
    files = [
        {"path": name, "sha256": digest_of_file(folder / name), "bytes": (folder / name).stat().st_size}
        for name in _files(folder)
    ]
    content = {**described, "files": files, "folders": _folders(folder)}
    write_json(folder / MANIFEST, content)
    write_atomically(
        folder / SUMS, _sums(folder, {str(entry["path"]): str(entry["sha256"]) for entry in files})
    )
    return content


def problems(folder: Path) -> list[str]:
    """Return one sentence for each file or folder that is missing, changed or does not belong; none if all
    holds.

    The manifest answers for every file, the sums answer for the manifest, and the sums must be, byte for
    byte, what the manifest makes of them. So any changed byte is found, in the two lists as well. (Whoever
    rewrites both lists can forge both; only a signature stops that.)
    """
    try:
        content: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        listed: dict[str, str] = {str(entry["path"]): str(entry["sha256"]) for entry in content["files"]}
        folders = set(map(str, content["folders"]))
        sums = (folder / SUMS).read_bytes()
    except (OSError, ValueError, KeyError, TypeError):
        return [f"{MANIFEST} or {SUMS}: missing or damaged; get the release again from where it came"]
    agree = sums == _sums(folder, listed)
    found = [] if agree else [f"{MANIFEST}: {SUMS} does not agree with it; one was changed"]
    present = set(_files(folder))
    for name in sorted({*listed, *present}):
        if name not in present:
            found.append(f"{name}: missing")
        elif name not in listed:
            found.append(f"{name}: does not belong to the release")
        elif not _is_plain_file(folder / name):
            found.append(f"{name}: is a link or a special file, not a file")
        elif digest_of_file(folder / name) != listed[name]:
            found.append(f"{name}: changed")
    found += [f"{name}/: missing folder" for name in sorted(folders - set(_folders(folder)))]
    found += [
        f"{name}/: folder does not belong to the release" for name in sorted(set(_folders(folder)) - folders)
    ]
    return found


def _sums(folder: Path, listed: dict[str, str]) -> bytes:
    """Return what ``SHA256SUMS`` must hold: the listed files and the manifest as it is, sorted by name."""
    entries = {**listed, MANIFEST: digest_of_file(folder / MANIFEST)}
    return "".join(f"{sha}  {name}\n" for name, sha in sorted(entries.items())).encode()


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
