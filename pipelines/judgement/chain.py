"""A file of JSON lines that only grows, each line bound to the one before it under the project key.

A line's hash is an HMAC of its content and of the hash before it: without the key no line can be written or
rewritten. That the end was cut off does not show in a chain; so a small file beside it, the head, names the
number of lines and the last one. It is written after each line. A crash between the two leaves the head one
line behind, and the next reader brings it up. Lines of earlier versions, whose hash needs no key, are read
where they stand first; none is believed after a keyed line.

What this does not hold: whoever may write in the folder can take away both files, and whoever holds the key
can write them anew. The lines' hashes that a workspace keeps are what remembers then.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

from phantomset.data.errors import WorkspaceError
from phantomset.data.keys import keyed_hash
from phantomset.data.workspace import write_json

FIRST = "0" * 64
"""What the first line names as the hash before it."""

Line = dict[str, Any]


class Broken(Exception):  # noqa: N818 - a state of the record, answered by INCONCLUSIVE
    """The record cannot be trusted; the text says why."""


class Chain:
    """The chained file at one path, with its head and its lock beside it (``.head``, ``.lock``)."""

    def __init__(self, path: Path) -> None:
        self.path, self.head = path, path.with_suffix(".head")

    @contextlib.contextmanager
    def locked(self) -> Generator[None]:
        """Let one process at a time read and append; a `WorkspaceError` where the file system refuses."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield
            finally:
                os.close(descriptor)
        except OSError as error:
            raise WorkspaceError(
                f"ledger of judgements: cannot read or write {self.path} ({error.strerror}). What cannot be "
                "written down is not judged: make the key's folder writable, or free some space there."
            ) from None

    def read(self) -> list[Line]:
        """Return the lines in order; an unterminated last line is an append that a crash cut off.

        Raises:
            Broken: a line was altered or taken out, or the head names another end.
        """
        raw = self.path.read_bytes() if self.path.exists() else b""
        whole, _, torn = raw.rpartition(b"\n")
        lines: list[Line] = []
        unkeyed = 0
        for number, text in enumerate(whole.split(b"\n") if whole else [], 1):
            line = _parsed(text)
            if line is None or line["previous"] != _last(lines):
                raise Broken(f"its line {number} was altered, or a line before it was taken out")
            if unkeyed == len(lines) and line["hash"] == _hash_of_earlier_versions(line):
                unkeyed += 1
            elif line["hash"] != _hash(line):
                raise Broken(f"its line {number} was altered, or written under another project key")
            lines.append(line)
        self._hold_end(lines, unkeyed)
        if torn:
            os.truncate(self.path, len(raw) - len(torn))
        return lines

    def append(self, lines: list[Line], **content: Any) -> str:
        """Write one line after those that were read, add it to them, and return its hash."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line: Line = {"previous": _last(lines), "time": stamp, **content}
        line["hash"] = _hash(line)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            text = (json.dumps(line, sort_keys=True) + "\n").encode()
            if os.write(descriptor, text) < len(text):  # the next reader takes the part away
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        lines.append(line)
        self._write_head(lines)
        return str(line["hash"])

    def _hold_end(self, lines: list[Line], unkeyed: int) -> None:
        """Hold the lines against the head; one line more than it names is an append that a crash cut off."""
        named = self._read_head()
        # Earlier versions wrote no head: it appears with the first keyed line.
        count, last = named or (unkeyed, _last(lines[:unkeyed]))
        if len(lines) - count not in (0, 1) or _last(lines[:count]) != last:
            found = f"it has {len(lines):,} lines, and "
            if named is None:
                raise Broken(f"{found}its head ({self.head.name}) is missing")
            raise Broken(f"{found}its head ({self.head.name}) names another end, after {count:,}")
        if len(lines) > count:
            self._write_head(lines)

    def _read_head(self) -> tuple[int, str] | None:
        """Return the number of lines and the hash of the last one; None where there is no head."""
        try:
            content = json.loads(self.head.read_bytes())
            count, last = int(content["lines"]), str(content["last"])
            is_sound = content["hash"] == _hash_of_head(count, last)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            is_sound, count, last = False, 0, ""
        if not is_sound:
            raise Broken(f"its head ({self.head.name}) was altered, or written under another project key")
        return count, last

    def _write_head(self, lines: list[Line]) -> None:
        count, last = len(lines), _last(lines)
        content = {"lines": count, "last": last, "hash": _hash_of_head(count, last)}
        write_json(self.head, content, mode=0o600)


def _last(lines: list[Line]) -> str:
    return str(lines[-1]["hash"]) if lines else FIRST


def _parsed(text: bytes) -> Line | None:
    """Return a line that names its own hash and the one before it, or None."""
    try:
        line: Line = json.loads(text)
        return line if isinstance(line["hash"], str) and isinstance(line["previous"], str) else None
    except (ValueError, KeyError, TypeError):
        return None


def _content(line: Line) -> str:
    return json.dumps({name: value for name, value in line.items() if name != "hash"}, sort_keys=True)


def _hash(line: Line) -> str:
    return keyed_hash("ledger line", _content(line))


def _hash_of_earlier_versions(line: Line) -> str:
    return hashlib.sha256(_content(line).encode()).hexdigest()


def _hash_of_head(count: int, last: str) -> str:
    return keyed_hash("ledger head", f"{count}:{last}")
