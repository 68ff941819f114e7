"""A shelf of numbered folders that are whole or not there: written beside their place, moved in one step."""

import contextlib
import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Generator
from pathlib import Path

from phantomset.data.errors import ReleaseError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")
_PART = ".part-"


def numbers(folder: Path, prefix: str) -> list[int]:
    """Return the numbers that are taken in a folder, such as 1 and 2 for v1 and v2, ascending."""
    if not folder.is_dir():
        return []
    taken = (re.fullmatch(rf"{prefix}(\d+)", item.name) for item in folder.iterdir())
    return sorted(int(match[1]) for match in taken if match)


@contextlib.contextmanager
def held(shelf: Path, name: str) -> Generator[None]:
    """Hold the shelf for one writer; what a killed one left half-written is swept away first.

    Raises:
        ReleaseError: ``name`` cannot be a folder, or the file system refuses.
    """
    if _NAME.fullmatch(name) is None or len(name) > 100:
        raise ReleaseError(
            f"release: {name[:100]!r} cannot be a folder name. "
            "Use letters, digits, dots, dashes and underscores, 100 at most."
        )
    with _told(shelf):
        shelf.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(shelf / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # freed by the kernel when its holder dies
            for left in shelf.glob(f"{_PART}*"):
                shutil.rmtree(left, ignore_errors=True)
            yield
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def beside(shelf: Path) -> Generator[Path]:
    """Give a folder that is gone afterwards unless it was moved to its place."""
    folder = shelf / f"{_PART}{secrets.token_hex(8)}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def move(folder: Path, place: Path) -> None:
    """Make the files read-only and put the folder where others look, in one step."""
    for item in folder.rglob("*"):
        if item.is_file():
            item.chmod(0o444)
    os.sync()  # the name must not reach the disk before the bytes do
    place.parent.mkdir(exist_ok=True)
    folder.rename(place)


@contextlib.contextmanager
def _told(shelf: Path) -> Generator[None]:
    """Turn what the file system refuses into a message."""
    try:
        yield
    except OSError as error:
        advice = {
            errno.ENOSPC: "The disk is full: free some space and run the same command again.",
            errno.EDQUOT: "The quota is used up: free some space and run the same command again.",
        }.get(error.errno or 0, "Check its rights, or choose another place with --workspace.")
        raise ReleaseError(f"release: cannot write to {shelf} ({error.strerror}). {advice}") from None
