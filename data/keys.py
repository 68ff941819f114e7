"""The project key and the pseudonyms made with it. The key lies outside every workspace."""

import hashlib
import hmac
import os
import secrets
from functools import lru_cache
from pathlib import Path

from phantomset.data.errors import WorkspaceError

VARIABLE = "PHANTOMSET_KEY_FILE"
"""Environment variable that names another key file."""

_KEY_DIGITS = 64


def key_file() -> Path:
    """Return where the project key lies: $PHANTOMSET_KEY_FILE, else ~/.config/phantomset/key."""
    named = os.environ.get(VARIABLE)
    is_relative = named and not named.startswith("/")
    return _place(named, os.environ.get("HOME"), Path.cwd() if is_relative else None)


def hold_outside(root: Path) -> None:
    """Hold that the project key does not lie in a workspace: whoever copied its pseudonyms would have it too.

    Raises:
        WorkspaceError: it lies in the folder ``root``, or would be made there.
    """
    path = key_file()
    if path.resolve().is_relative_to(root.resolve()):
        raise WorkspaceError(
            f"key: {path} lies in the workspace {root}, and the key must lie outside every workspace. "
            f"Move it away and name its new place in {VARIABLE}."
        )


def key_folder() -> Path:
    """Return the folder of the project key; what must outlive a workspace lies there too.

    Raises:
        WorkspaceError: the key cannot be made or read.
    """
    _key()
    return key_file().parent


def keyed_hash(domain: str, text: str) -> str:
    """Return the HMAC-SHA-256 of a text under the project key, 64 hexadecimal digits.

    Without the key neither the text nor a guess at it can be confirmed, and none can be forged. ``domain``
    ("patient", "path", ...) keeps equal texts of different meaning apart.

    Raises:
        WorkspaceError: the key cannot be made or read.
    """
    message = f"{domain}\0{text}".encode("utf-8", "surrogateescape")
    return hmac.digest(_key(), message, "sha256").hex()


def pseudonym(domain: str, text: str) -> str:
    """Return a keyed name, 32 hexadecimal digits: the same text in the same domain has the same name.

    The first half of `keyed_hash`.

    Raises:
        WorkspaceError: the key cannot be made or read.
    """
    return keyed_hash(domain, text)[:32]


def key_name() -> str:
    """Return a public name of the key, 16 hexadecimal digits: another key makes other pseudonyms."""
    return pseudonym("key", "name")[:16]


@lru_cache(maxsize=8)
def _place(named: str | None, home: str | None, folder: Path | None) -> Path:
    """Make the path once for what decides it: each file of an input asks for it several times."""
    del home, folder
    return (Path(named) if named else Path.home() / ".config" / "phantomset" / "key").absolute()


def _key() -> bytes:
    path = key_file()
    try:
        try:
            status = path.stat()
        except FileNotFoundError:
            _make(path)
            status = path.stat()
        return _read(path, status.st_mtime_ns, status.st_ino, status.st_mode)
    except OSError as error:
        raise WorkspaceError(
            f"key: cannot make or read {path} ({error.strerror}). Name another file in {VARIABLE}."
        ) from None


def _make(path: Path) -> None:
    """Write a new key, complete before it has its name, so that two first runs end with one key."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as stream:
            stream.write(secrets.token_hex(_KEY_DIGITS // 2) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        # a link fails where a replace would overwrite the key of the run that came first
        path.hardlink_to(part)
    except FileExistsError:
        pass
    finally:
        part.unlink()


@lru_cache(maxsize=8)
def _read(path: Path, mtime_ns: int, inode: int, mode: int) -> bytes:
    """Read the key once per version of its file."""
    del mtime_ns, inode
    if mode & 0o077:
        raise WorkspaceError(
            f"key: {path} can be read by others (mode {mode & 0o777:o}). Run: chmod 600 {path}"
        )
    text = path.read_bytes()[:4096].strip()
    if len(text) < _KEY_DIGITS // 2:
        raise WorkspaceError(
            f"key: {path} holds {len(text)} characters; a key has {_KEY_DIGITS}. "
            "Restore it from your backup, or name another file in "
            f"{VARIABLE}: without it, pseudonyms of earlier runs cannot be made again."
        )
    return hashlib.sha256(text).digest()
