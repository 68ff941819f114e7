"""Where restricted and public things lie, with the right modes, and who may write there now."""

import contextlib
import fcntl
import json
import os
import re
import shutil
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from phantomset.data.errors import InputError, WorkspaceError
from phantomset.data.keys import hold_outside

RESTRICTED_KINDS = (
    "objects",
    "cache",
    "cohorts",
    "splits",
    "checkpoints",
    "synthetic",
    "findings",
    "incoming",
    "review",
    "released",
    "translations",
    "pictures",
)

_HALF_WRITTEN = re.compile(r"\..+\.(\d{1,9})\.part|[a-z]+-(\d{1,9})-[0-9a-f]{8}")
"""Names of what is written beside its place and then moved there, with the number of the process."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """A folder with `restricted/` (0700), `runs/`, `blocked/`, `releases/` and `prefect/` (0700)."""

    root: Path

    @classmethod
    def open(cls, root: Path | None = None) -> "Workspace":
        """Return the workspace at ``root``, PHANTOMSET_WORKSPACE or ./phantomset-workspace; made if missing.

        Raises:
            WorkspaceError: it cannot be made or written, or the project key would lie in it.
        """
        path = (root or Path(os.environ.get("PHANTOMSET_WORKSPACE", "phantomset-workspace"))).absolute()
        hold_outside(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            for private in ("restricted", "prefect"):
                (path / private).mkdir(mode=0o700, exist_ok=True)
                (path / private).chmod(0o700)
            for kind in RESTRICTED_KINDS:
                (path / "restricted" / kind).mkdir(mode=0o700, exist_ok=True)
            for public in ("runs", "blocked", "releases"):
                (path / public).mkdir(exist_ok=True)
            if not (path / ".gitignore").exists():
                write_atomically(path / ".gitignore", b"*\n")
        except OSError as error:
            raise WorkspaceError(
                f"workspace: cannot write to {path} ({error.strerror}). "
                "Choose another with --workspace or PHANTOMSET_WORKSPACE."
            ) from None
        return cls(path)

    def restricted(self, kind: str, *parts: str) -> Path:
        """Return a path in the restricted part, such as ``restricted("cohorts", digest)``."""
        if kind not in RESTRICTED_KINDS:
            raise ValueError(f"restricted: no kind {kind!r}")
        return self.root.joinpath("restricted", kind, *parts)

    @contextlib.contextmanager
    def lock(self) -> Generator[None]:
        """Hold the workspace for one run; what killed runs left half-written is taken away first.

        Raises:
            WorkspaceError: another run holds it; the message says which process.
        """
        path = self.root / ".lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
                raise WorkspaceError(
                    f"workspace: {self.root} is in use by process {holder}. "
                    "Wait for it to end, or choose another with --workspace."
                ) from None
            os.ftruncate(descriptor, 0)
            os.write(descriptor, str(os.getpid()).encode())
            self._clear()
            yield
        finally:
            os.close(descriptor)

    def _clear(self) -> None:
        """Take away half-written files and folders of processes that are gone: no residual scan sees them."""
        for part in ("restricted", "runs"):
            for path in [*(self.root / part).rglob("*")]:
                found = _HALF_WRITTEN.fullmatch(path.name)
                if found and _is_gone(int(found[1] or found[2])):
                    _take_away(path)

    @contextlib.contextmanager
    def nothing_left_behind(self, keep: Path | None = None) -> Generator[None]:
        """Take away what was newly written into the restricted part, if the input turns out to be wrong.

        The caller holds the workspace's lock, so everything that is new is this run's. ``keep`` stays: what
        the data office is to read about a hit of the residual scan.
        """
        restricted = self.root / "restricted"
        before = set(restricted.rglob("*"))
        try:
            yield
        except InputError:
            for path in sorted(set(restricted.rglob("*")) - before, reverse=True):
                if path != keep:
                    _take_away(path)
            raise


def _take_away(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _is_gone(process: int) -> bool:
    """Return whether a process ended; one of our own number did, for we have written nothing yet."""
    try:
        os.kill(process, 0)
    except OSError as error:
        return isinstance(error, ProcessLookupError)
    return process == os.getpid()  # in a container each run may have the same number


def write_atomically(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, content: object, mode: int = 0o644) -> None:
    """Write JSON atomically, keys sorted, so that equal content is equal bytes."""
    write_atomically(path, (json.dumps(content, indent=2, sort_keys=True) + "\n").encode(), mode)
