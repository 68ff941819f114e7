"""What became of each file, so that a file seen before is not decoded again.

An SQLite file in the restricted part: keyed names of paths and of contents, digests, and what may stand in a
record; never a value of a header. A row is written only when all images of its file are safe on the disk, in
sealed packs or in the open one: a run that is killed at any moment goes on where it was last synced, and one
over an input that has grown decodes only what is new.
"""

import json
import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import fields, replace
from typing import Any

import numpy as np

from phantomset.data.decoding.one_file import FORMAT, Answer, Finished
from phantomset.data.decoding.workers import Job
from phantomset.data.dicom.decoders import decoder_versions
from phantomset.data.digest import digest_of
from phantomset.data.errors import WorkspaceError
from phantomset.data.file_source import Listed
from phantomset.data.keys import key_name, pseudonym
from phantomset.data.pixels.canonical import VERSION
from phantomset.data.records import RawImage, Rejected
from phantomset.data.store.archive import PackWriter
from phantomset.data.workspace import Workspace

_NO_PIXELS = np.zeros((0, 0), dtype=np.float32)
_NAMES = ("digest", "origin", "thumbnail_digest", "side_px")
_HELD = tuple(each.name for each in fields(RawImage) if each.name not in ("pixels", "stored"))
_REFUSED = tuple(each.name for each in fields(Rejected))
_TABLE = """CREATE TABLE IF NOT EXISTS files
(path TEXT, choices TEXT, content TEXT, found TEXT, PRIMARY KEY (path, choices)) WITHOUT ROWID"""


class Journal:
    """The rows of one input's choices. Made by `open_journal`."""

    def __init__(self, connection: sqlite3.Connection, choices: str, pack: PackWriter) -> None:
        self._connection, self._choices, self._pack = connection, choices, pack
        self._new: list[tuple[str, str, str, str]] = []
        ours = connection.execute("SELECT 1 FROM files WHERE choices = ? LIMIT 1", (choices,))
        self._is_new = ours.fetchone() is None

    def marked(self, listed: Listed) -> Listed:
        """Return the file with the content that it had when its images were stored, if they still are."""
        row = None if self._is_new else self._row(listed)
        if row is None:
            return listed
        images = [item for item in json.loads(row[1]) if "code" not in item]
        digests = [item[name] for item in images for name in ("digest", "thumbnail_digest")]
        return replace(listed, known=row[0]) if self._pack.has(digests) else listed

    def settled(self, listed: Listed, answer: Answer) -> list[Finished]:
        """Return what a file holds: as it was decoded now, or as it was found before."""
        if answer.finished is None:
            row = self._row(listed)
            return [_restored(item, listed) for item in json.loads(row[1])] if row else []
        if answer.content:
            found = json.dumps([_plain(each) for each in answer.finished])
            self._new.append((_name(listed), self._choices, answer.content, found))
        return [each.told(listed) for each in answer.finished]

    def keep(self) -> None:
        """Make the images survive a crash, then remember their files: in this order, and never the other."""
        self._pack.sync()
        self._connection.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", self._new)
        self._connection.commit()
        self._new.clear()

    def _row(self, listed: Listed) -> tuple[str, str] | None:
        asked = (_name(listed), self._choices)
        return self._connection.execute(
            "SELECT content, found FROM files WHERE path = ? AND choices = ?", asked
        ).fetchone()


@contextmanager
def open_journal(workspace: Workspace, job: Job, pack: PackWriter) -> Generator[Journal]:
    """Open the journal for one input: whatever decides its images decides which rows are its own.

    Raises:
        WorkspaceError: it is damaged or cannot be written.
    """
    path = workspace.restricted("cohorts", "journal.sqlite")
    screen = job.context.screen
    choices = digest_of(
        *(FORMAT, VERSION, key_name(), decoder_versions(), job.source.name, job.image),
        job.context.deidentify.rules,
        job.settings.model_dump(mode="json", exclude={"path"}),
        *(() if screen is None else (screen.name,)),
    )
    try:
        path.touch(mode=0o600)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(_TABLE)
            yield Journal(connection, choices, pack)
    except (NotADirectoryError, PermissionError):
        raise WorkspaceError(
            f"cohorts: cannot write to {path.parent}. Mend the permissions, or choose another --workspace."
        ) from None
    except sqlite3.Error as error:
        raise WorkspaceError(
            f"journal: {path} cannot be used ({type(error).__name__}). Move it away and run again: it only "
            "saves time."
        ) from None


def _name(listed: Listed) -> str:
    return pseudonym("path", listed.member.key)


def _plain(finished: Finished) -> dict[str, Any]:
    """What a row keeps of an image: all but its pixels; of its key the part alone."""
    item = finished.item
    if isinstance(item, Rejected):
        return {name: getattr(item, name) for name in _REFUSED}
    return {name: getattr(item, name) for name in _HELD} | {name: getattr(finished, name) for name in _NAMES}


def _restored(item: dict[str, Any], listed: Listed) -> Finished:
    if "code" in item:
        return Finished(Rejected(**item)).told(listed)
    names = {name: item.pop(name) for name in _NAMES}
    return Finished(RawImage(pixels=_NO_PIXELS, **item), **names).told(listed)
