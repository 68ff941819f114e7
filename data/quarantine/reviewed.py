"""The reviewed list: files that a person looked at and releases from the quarantine."""

import csv
import io
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from phantomset.data.errors import SourceError
from phantomset.data.keys import pseudonym
from phantomset.data.quarantine.reasons import REASONS

COLUMNS = ("path", "code", "reviewer")
_MOST_BYTES = 64 << 20


class Reviewed:
    """What may come in although its header, its class or the reader of texts speaks against it."""

    def __init__(self, rows: Mapping[tuple[str, str], str] | None = None) -> None:
        self.rows = dict(rows or {})
        self._codes: defaultdict[str, set[str]] = defaultdict(set)
        for path, code in self.rows:
            self._codes[path].add(code)

    @classmethod
    def read(cls, table: Path | None) -> "Reviewed":
        """Read the list: a CSV file with the columns path, code, reviewer.

        ``path`` is the keyed name of a file, as the ledger holds it; further columns are for people.

        Raises:
            SourceError: it is missing, unreadable, lacks a column or a reviewer, or names a code that no
                person can overrule.
        """
        if table is None:
            return cls()
        try:
            content = table.read_bytes()[: _MOST_BYTES + 1]
            text = content.decode("utf-8-sig")
            lines = list(csv.DictReader(io.StringIO(text, newline="")))
        except (OSError, ValueError, csv.Error):
            raise SourceError(f"deidentify.reviewed: {table} is missing or no CSV file in UTF-8.") from None
        if len(content) > _MOST_BYTES or any(column not in line for line in lines for column in COLUMNS):
            raise SourceError(f"deidentify.reviewed: {table} needs the columns {', '.join(COLUMNS)}.")
        rows: dict[tuple[str, str], str] = {}
        for number, line in enumerate(lines, start=2):
            path, code, reviewer = ((line[column] or "").strip() for column in COLUMNS)
            if code not in REASONS or not REASONS[code].may_be_released:
                allowed = ", ".join(name for name, reason in REASONS.items() if reason.may_be_released)
                raise SourceError(
                    f"deidentify.reviewed: line {number}: a person can release from {allowed}, and from "
                    "nothing else. Mend the line."
                )
            if not reviewer or len(reviewer) > 100 or not path:
                raise SourceError(f"deidentify.reviewed: line {number}: say which path, and who looked.")
            rows[path, code] = reviewer
        return cls(rows)

    def codes(self, key: str) -> frozenset[str]:
        """Return the codes that the file with this key was released from."""
        return frozenset(self._codes.get(pseudonym("path", key), ())) if self._codes else frozenset()
