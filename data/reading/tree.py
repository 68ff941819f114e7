"""The way into a folder or an archive: regular files only, read once, bounded, in an order of its own."""

import errno
import hashlib
import itertools
import lzma
import os
import stat
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from phantomset.data.digest import digest_of, digest_of_file
from phantomset.data.errors import SourceError
from phantomset.data.quarantine.ledger import Unfit
from phantomset.data.source import Limits

HASHED_BYTES = 2 << 30
"""Up to this total a folder's fingerprint hashes every byte; beyond, names, sizes and times stand for it. A
copy of such a folder is another input, whose files are read and known."""

_DEPTH = 32
"""Folders within folders."""

ZIP_ERRORS = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, OSError, ValueError, RuntimeError),
)
"""What `zipfile` raises over a broken archive: a directory that points before the file's first byte, for one,
ends as an OSError."""

_GZIP = b"\x1f\x8b"
_CLUTTER = frozenset({"thumbs.db", "desktop.ini", "__macosx", "@eadir"})
_NOTHING_READ: Mapping[str, bytes] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Member:
    """A file of the input: its path relative to the root, with ``/``; ``code`` where it may not be opened."""

    key: str
    size_bytes: int
    code: str | None = None


class Tree:
    """A folder as an input: its files as they were listed when they were first asked for.

    Attributes:
        root, limits: where it lies, and what none of its files may exceed.
        table: the label table as it was read, part of the input wherever it lies; None without one.
        apart: the key of the table among the files, where it is one of them.
    """

    def __init__(self, root: Path, limits: Limits) -> None:
        self.root, self.limits = root, limits
        self.table: bytes | None = None
        self.apart: frozenset[str] = frozenset()
        self._members: list[Member] | None = None

    def members(self) -> list[Member]:
        """Return the files below the root, sorted by the bytes of their paths; one over the limit at most.

        System clutter (names that start with a dot, Thumbs.db, __MACOSX) is no part of the input.
        """
        if self._members is None:
            walk = self._walk(self.root, "")
            self._members = list(itertools.islice(walk, self.limits.members + 1))
        return self._members

    def read(self, member: Member) -> bytes:
        """Return a member's bytes.

        Raises:
            Unfit: it is a link, a special file, too large, unreadable, or changed meanwhile.
        """
        if member.code:
            raise Unfit(member.code)
        return read_file(self.root / member.key, self.limits, self.root)

    def listing(self) -> str | None:
        """Return the digest of all paths and sizes: inputs that differ in it have no common fingerprint.

        None where a fingerprint is not made of the contents of files, one by one.
        """
        if not self._is_hashed():
            return None
        sha = hashlib.sha256()
        for member in self._counted():
            sha.update(os.fsencode(f"{member.key}\0{member.size_bytes}\0{member.code}\0"))
        return sha.hexdigest()

    def fingerprint(self, read: Mapping[str, bytes] = _NOTHING_READ) -> str:
        """Return the digest of all paths and contents, or of what stands for contents, and of the table.

        Args:
            read: by key, the `content_name` of files that were read since they were listed; the others are
                read now.
        """
        own = self._fingerprint(read)
        return own if self.table is None else digest_of(own, self.table)

    def _fingerprint(self, read: Mapping[str, bytes]) -> str:
        is_hashed = self._is_hashed()
        sha = hashlib.sha256()
        for member in self._counted():
            sha.update(digest_of(os.fsencode(member.key), member.size_bytes, member.code).encode())
            if member.code:
                continue
            if is_hashed:
                sha.update(read.get(member.key) or self._content_name(member))
            else:
                status = (self.root / member.key).lstat()
                # the time of the last change of the inode betrays a file that was replaced under its old time
                sha.update(f"{status.st_mtime_ns} {status.st_ctime_ns}".encode())
        return sha.hexdigest()

    def _counted(self) -> Iterator[Member]:
        return (member for member in self.members() if member.key not in self.apart)

    def _is_hashed(self) -> bool:
        return sum(member.size_bytes for member in self._counted()) <= HASHED_BYTES

    def _content_name(self, member: Member) -> bytes:
        try:
            return content_name(self.read(member))
        except Unfit as unfit:
            return unfit.code.encode()

    def __reduce__(self) -> tuple[type["Tree"], tuple[Path, Limits]]:
        """Go to a worker process as a place; what is open is opened anew there."""
        return type(self), (self.root, self.limits)

    def _walk(self, folder: Path, prefix: str) -> Iterator[Member]:
        """Yield the files below a folder; only the names of one folder at each depth wait to be sorted."""
        try:
            with os.scandir(folder) as entries:
                found = [member for entry in entries if (member := _listed(entry, prefix)) is not None]
        except OSError:
            yield Member(prefix.rstrip("/"), 0, "READ_DENIED")
            return
        # with its slash a folder sorts among files as the paths below it do
        found.sort(key=lambda member: os.fsencode(member.key))
        for member in found:
            if member.key.endswith("/"):
                yield from self._walk(self.root / member.key, member.key)
            else:
                yield member


class Archive(Tree):
    """A ZIP file as an input. Members are read as streams and never extracted."""

    def __init__(self, root: Path, limits: Limits) -> None:
        super().__init__(root, limits)
        try:
            self._zip = zipfile.ZipFile(root)
        except ZIP_ERRORS:
            raise SourceError(
                f"source.path: {root} is no sound ZIP file. Make it again, or give the folder itself."
            ) from None
        infos = [info for info in self._zip.infolist() if not info.is_dir()]
        if _overlaps(infos):
            raise SourceError(
                f"source.path: {root} has members that overlap: it is refused as a decompression bomb. "
                "Make it again with an ordinary ZIP program."
            )
        self._seen = Counter(info.filename for info in infos)
        # two names that differ in the case of letters are one on some disks: which is meant is not guessed
        self._folded = Counter(info.filename.casefold() for info in infos)
        self._infos = {info.filename: info for info in infos}

    def members(self) -> list[Member]:
        """Return the files, sorted by the bytes of their names; two of one name, in any case, are refused."""
        found = [
            Member(name, info.file_size, self._refusal(info))
            for name, info in self._infos.items()
            if not _is_clutter(name)
            for _ in range(self._seen[name])
        ]
        return sorted(found, key=lambda member: member.key.encode("utf-8", "surrogatepass"))

    def read(self, member: Member) -> bytes:
        """Return a member's bytes, its checksum held.

        Raises:
            Unfit: its name leaves the archive, it is encrypted, damaged, too large or a bomb.
        """
        if member.code:
            raise Unfit(member.code)
        try:
            with self._zip.open(self._infos[member.key]) as stream:
                content = stream.read(member.size_bytes + 1)
        except (zipfile.BadZipFile, zlib.error, EOFError):
            raise Unfit("CHECKSUM_MISMATCH") from None
        except ZIP_ERRORS:
            raise Unfit("PARSE_ERROR") from None
        if len(content) != member.size_bytes:
            raise Unfit("FRAME_MISMATCH")
        return content

    def listing(self) -> None:
        """None: the archive is hashed as it is."""

    def _fingerprint(self, read: Mapping[str, bytes]) -> str:
        del read
        return digest_of_file(self.root)

    def _refusal(self, info: zipfile.ZipInfo) -> str | None:
        name = info.orig_filename
        parts = name.replace("\\", "/").split("/")
        if name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0] or any(ord(c) < 32 for c in name):
            return "PATH_ESCAPE"
        if stat.S_ISLNK(info.external_attr >> 16):
            return "LINK_REFUSED"
        if self._folded[info.filename.casefold()] > 1:
            return "NAME_COLLISION"
        if info.flag_bits & 0x1:
            return "ENCRYPTED"
        if info.file_size > self.limits.file_bytes:
            return "TOO_LARGE_FILE"
        free = info.file_size <= self.limits.expansion_free_bytes
        if not free and info.file_size > self.limits.expansion * max(1, info.compress_size):
            return "BOMB_RATIO"
        return None


def _listed(entry: os.DirEntry[str], prefix: str) -> Member | None:
    """Return what a name in a folder stands for: a file, or a folder with ``/`` at its end; None: clutter."""
    if entry.name.startswith(".") or entry.name.lower() in _CLUTTER:
        return None
    key = prefix + entry.name
    if entry.is_symlink():
        return Member(key, 0, "LINK_REFUSED")
    if entry.is_dir(follow_symlinks=False):
        return Member(key, 0, "TOO_DEEP") if key.count("/") >= _DEPTH else Member(key + "/", 0)
    if not entry.is_file(follow_symlinks=False):
        return Member(key, 0, "SPECIAL_FILE")
    status = entry.stat(follow_symlinks=False)
    # a second name may lie anywhere on the disk, in a place that is no part of this input
    return Member(key, status.st_size, "LINK_REFUSED" if status.st_nlink > 1 else None)


def content_name(content: bytes) -> bytes:
    """Return what stands for a file's bytes in a fingerprint: their SHA-256."""
    return hashlib.sha256(content).digest()


def open_tree(path: Path, limits: Limits, archives: bool = True) -> Tree:
    """Return the folder, or the ZIP file, at ``path``.

    Raises:
        SourceError: it is missing, unreadable, empty, over the limit of files, or neither a folder nor a
            ZIP file.
    """
    wanted = "a folder or a ZIP file" if archives else "a folder"
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            with os.scandir(path):
                pass
            tree = Tree(path, limits)
        elif archives and stat.S_ISREG(status.st_mode):
            with path.open("rb"):
                pass
            tree = Archive(path, limits)
        else:
            raise SourceError(f"source.path: {path} is not {wanted}. Give {wanted}.")
    except OSError as error:
        raise missing(path, wanted, error) from None
    members = len(tree.members())
    if not members:
        raise SourceError(
            f"source.path: {path} is empty; expected {wanted} with images. Put the images there."
        )
    if members > limits.members:
        raise SourceError(
            f"source.path: {path} has more than {limits.members:,} files, the limit (TOO_MANY_MEMBERS). "
            "Take it in by parts."
        )
    return tree


def read_file(path: Path, limits: Limits, root: Path | None = None) -> bytes:
    """Return the bytes of a regular file, read once; one below ``root`` over no folder that is a link.

    Raises:
        Unfit: it is a link, a special file, too large, unreadable, or changed meanwhile.
    """
    try:
        descriptor = _open(path, root or path.parent)
    except OSError as error:
        is_link = error.errno in (errno.ELOOP, errno.ENOTDIR)
        raise Unfit("LINK_REFUSED" if is_link else "READ_DENIED") from error
    with os.fdopen(descriptor, "rb", buffering=0) as stream:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise Unfit("SPECIAL_FILE")
        if before.st_size > limits.file_bytes:
            raise Unfit("TOO_LARGE_FILE")
        try:
            content = _read_all(stream.fileno(), before.st_size)
        except OSError:
            raise Unfit("READ_DENIED") from None
        after = os.fstat(descriptor)
    if len(content) != before.st_size or after.st_mtime_ns != before.st_mtime_ns:
        raise Unfit("CHANGED_DURING_READ")
    return content


def unpacked(content: bytes, limits: Limits) -> bytes:
    """Return what a gzip stream holds, read to its end so that its checksum is held; other bytes as they are.

    The names and times that gzip stores are never looked at.

    Raises:
        Unfit: BOMB_RATIO, TOO_LARGE_FILE, CHECKSUM_MISMATCH, TRUNCATED or TRAILING_DATA.
    """
    if not content.startswith(_GZIP):
        return content
    cap = min(max(limits.expansion_free_bytes, limits.expansion * len(content)), limits.file_bytes)
    parts: list[bytes] = []
    total, left = 0, content
    while left.startswith(_GZIP):
        machine = zlib.decompressobj(wbits=31)
        while not machine.eof:
            try:
                parts.append(machine.decompress(left, 1 << 24))
            except zlib.error:
                raise Unfit("CHECKSUM_MISMATCH") from None
            total += len(parts[-1])
            if total > cap:
                raise Unfit("BOMB_RATIO" if cap < limits.file_bytes else "TOO_LARGE_FILE")
            if not machine.eof and not machine.unconsumed_tail and not parts[-1]:
                raise Unfit("TRUNCATED")
            left = machine.unconsumed_tail if not machine.eof else machine.unused_data
    if left.strip(b"\0"):
        raise Unfit("TRAILING_DATA")
    return b"".join(parts)


def missing(path: Path, wanted: str, error: OSError) -> SourceError:
    """Return the error for an input that is not there or cannot be read."""
    found = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
    return SourceError(f"source.path: {path} {found}; expected {wanted}. Mend the recipe's source.path.")


def _open(path: Path, root: Path) -> int:
    """Open a file folder by folder: one that became a link since the listing leads nowhere."""
    *folders, name = path.relative_to(root).parts
    at = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for folder in folders:
            below = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
            os.close(at)
            at = below
        # O_NONBLOCK: a pipe that took the file's place must not hang the run
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=at)
    finally:
        os.close(at)


def _read_all(descriptor: int, size: int) -> bytes:
    """Read ``size`` bytes and one more, so that growth shows; a single read may return less."""
    chunks: list[bytes] = []
    wanted = size + 1
    while wanted > 0:
        chunk = os.read(descriptor, wanted)
        if not chunk:
            break
        chunks.append(chunk)
        wanted -= len(chunk)
    return b"".join(chunks)


def _is_clutter(name: str) -> bool:
    parts = name.split("/")
    return any((part.startswith(".") and part != "..") or part.lower() in _CLUTTER for part in parts)


def _overlaps(infos: list[zipfile.ZipInfo]) -> bool:
    """True where two members share bytes, as the densest bombs do. 30 bytes: a local header, without name."""
    spans = sorted((info.header_offset, info.header_offset + 30 + info.compress_size) for info in infos)
    return any(end > start for (_, end), (start, _) in itertools.pairwise(spans))
