"""The input of one run, and the key under which its cohort is known."""

from collections.abc import Callable

from phantomset.data import catalogue, cohorts
from phantomset.data.file_source import FileSource
from phantomset.data.keys import pseudonym
from phantomset.data.reading.tree import Tree
from phantomset.data.records import Cohort
from phantomset.data.source import ReadContext, Source, SourceSettings
from phantomset.data.store.archive import Store
from phantomset.data.workspace import Workspace


def source_of(settings: SourceSettings) -> Source | FileSource:
    """Return the input format that a recipe's section ``source`` names."""
    return catalogue.load("phantomset.data.sources", settings.format)


def require(settings: SourceSettings) -> None:
    """Hold that an input is there and begins as its format says: its files are listed and none is read.

    Raises:
        SourceError: it is missing, empty or unreadable, or does not fit its labels.
    """
    source = source_of(settings)
    if isinstance(source, FileSource):
        source.files(settings, ReadContext())
    else:
        next(source.read(settings, ReadContext()), None)


class Input:
    """The input of one run, and the key under which its cohort is known.

    The key needs the digest of every file. Where no input before had files of these names and sizes, none can
    be known: then the workers, who read the files anyway, hash them, and the key is made at the end, from the
    bytes that were decoded.

    Attributes:
        source, settings, context: as in `ingest`.
        files: of a source of files, where they are and which.
        listing: keyed name of their names and sizes; empty where the key is not made of their contents.
        read: by path, what the workers read.
    """

    def __init__(
        self,
        source: Source | FileSource,
        settings: SourceSettings,
        context: ReadContext,
        name: Callable[[str], str],
    ) -> None:
        self.source, self.settings, self.context, self._name = source, settings, context, name
        self.files = source.files(settings, context) if isinstance(source, FileSource) else None
        self._tree = self.files[0] if self.files and isinstance(self.files[0], Tree) else None
        listing = self._tree and self._tree.listing()
        self.listing = pseudonym("listing", listing) if listing else ""
        self.read: dict[str, bytes] = {}
        self._key = ""

    def known(self, workspace: Workspace) -> Cohort | None:
        """Return its cohort, if it was ingested before and its images are still there."""
        if self.listing and not cohorts.may_hold(workspace, self.listing):
            return None
        self._key = self._named()
        known = cohorts.find(workspace, self._key)
        is_there = known and Store(workspace).has([record.digest for record in known.records])
        return known if is_there else None

    def key(self) -> str:
        """Return the key of what was read, or of what was known."""
        return self._named() if self.read or not self._key else self._key

    def _named(self) -> str:
        if self._tree is None:
            return self._name(self.source.fingerprint(self.settings))
        return self._name(self._tree.fingerprint(self.read))
