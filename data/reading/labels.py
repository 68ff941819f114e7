"""Label tables: which file belongs to which class."""

import csv
import io
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from phantomset.data.deidentify import label_value
from phantomset.data.errors import SourceError
from phantomset.data.quarantine.ledger import Unfit
from phantomset.data.reading.tree import Member, Tree, open_tree, read_file
from phantomset.data.source import Limits

_CELL = 4096
_DECIMAL = re.compile(r"-?[0-9]{1,9}(\.[0-9]{1,9})?")


class TableLabels(BaseModel):
    """Where a label stands: a CSV file with a column that names the file and one that names its class.

    Attributes:
        table: the CSV file: relative to the input's folder, or absolute. Comma, semicolon or tab; UTF-8.
        key: the column that holds the file's path relative to the input, or its name, or that without suffix.
        column: the column that holds the class.
        classes: the classes to take in, in their order; files of others are left out. None: all, sorted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    table: Path
    key: str
    column: str
    classes: tuple[str, ...] | None = None


class LabelTable:
    """The rows of a label table, by file. Only declared columns are kept."""

    def __init__(self, rows: dict[str, dict[str, str]], conflicts: frozenset[str]) -> None:
        self._rows, self._conflicts = rows, conflicts
        self._shared: frozenset[str] = frozenset()
        self.unused = 0

    @classmethod
    def read(cls, content: bytes, key: str, columns: Sequence[str]) -> "LabelTable":
        """Parse a CSV file.

        Raises:
            SourceError: it is not UTF-8 text, has no rows, or lacks a column.
        """
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise SourceError("source.labels.table: is not UTF-8 text. Save it as CSV in UTF-8.") from None
        if "\0" in text:
            raise SourceError("source.labels.table: holds NUL characters. Save it as CSV in UTF-8.")
        first = text.partition("\n")[0]
        delimiter = max(",;\t", key=first.count)
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restval="")
        try:
            found = list(reader.fieldnames or ())
            lacking = [column for column in dict.fromkeys((key, *columns)) if column not in found]
            if lacking:
                raise SourceError(
                    f"source.labels.table: no column {', '.join(map(repr, lacking))}; found "
                    f"{', '.join(name[:40] for name in found[:20]) or 'no columns'}. "
                    "Mend source.labels or the table."
                )
            return cls._from(reader, key, columns)
        except csv.Error as error:
            raise SourceError(
                f"source.labels.table: line {reader.line_num}: {error}. Save it as plain CSV."
            ) from None

    @classmethod
    def _from(cls, reader: "csv.DictReader[str]", key: str, columns: Sequence[str]) -> "LabelTable":
        rows: dict[str, dict[str, str]] = {}
        conflicts: set[str] = set()
        for line in reader:
            name = (line[key] or "").strip().replace("\\", "/").removeprefix("./")
            row = {column: (line[column] or "").strip()[:_CELL] for column in columns}
            if rows.setdefault(name, row) != row:
                conflicts.add(name)
        rows.pop("", None)
        if not rows:
            raise SourceError("source.labels.table: holds no rows. Fill it, one row a file.")
        return cls(rows, frozenset(conflicts))

    def fit(self, keys: Iterable[str]) -> None:
        """Hold the table against the files of the input.

        Raises:
            SourceError: most files have no row.
        """
        names = list(keys)
        used = Counter(match for match in map(self._match, names) if match is not None)
        fitting = sum(used.values())
        if names and (fitting * 2 < len(names) or not fitting):
            raise SourceError(
                f"source.labels.table: does not fit the files: of {len(names):,} files, {fitting:,} have "
                f"one of the {len(self._rows):,} rows. The key column should hold each file's path relative "
                "to source.path, its name, or its name without suffix; mend source.labels.key or the table."
            )
        # a bare name that stands for two files says nothing about either
        self._shared = frozenset(name for name, count in used.items() if count > 1)
        self.unused = len(self._rows) - len(used)

    def cut(self, column: str, edges: Sequence[int]) -> None:
        """Put a band in the place of each number of a column; cells that are empty stay so.

        Args:
            column: one that was read.
            edges: where bands begin, rising: 18 and 40 make "under 18", "18-39" and "40+".

        Raises:
            SourceError: a cell holds something else than a number. The message has no cell's text.
        """
        numbers = {name: _number(row[column]) for name, row in self._rows.items() if row[column]}
        wrong = [name for name, number in numbers.items() if number is None]
        if wrong:
            raise SourceError(
                f"source.bands.{column}: {len(wrong):,} of {len(numbers):,} filled cells are no numbers such "
                "as 58 or 0.5, without a unit. Mend the table, empty the cells, or leave the column out of "
                "source.bands."
            )
        for name, number in numbers.items():
            if number is not None:
                self._rows[name] = {**self._rows[name], column: _band(number, edges)}

    def row(self, key: str) -> dict[str, str]:
        """Return the declared cells of a file's row.

        Raises:
            Unfit: NO_LABEL or LABEL_CONFLICT.
        """
        match = self._match(key)
        if match is None:
            raise Unfit("NO_LABEL")
        if match in self._conflicts or match in self._shared:
            raise Unfit("LABEL_CONFLICT")
        return self._rows[match]

    def _match(self, key: str) -> str | None:
        name = key.rpartition("/")[2]
        return next((form for form in (key, name, name.rpartition(".")[0]) if form in self._rows), None)


def _number(text: str) -> float | None:
    """Return the number that a cell is in plain decimals; float() would take "1_0", "nan" and "1e9" too."""
    return float(text) if _DECIMAL.fullmatch(text) else None


def _band(number: float, edges: Sequence[int]) -> str:
    """Return the name of the band that a number lies in; a band holds its lower edge."""
    place = bisect_right(edges, number)
    if not place:
        return f"under {edges[0]}"
    low = edges[place - 1]
    if place == len(edges):
        return f"{low}+"
    return f"{low}-{edges[place] - 1}" if edges[place] - 1 > low else str(low)


def label_of(text: str, classes: tuple[str, ...] | None) -> str:
    """Return the label that a cell or a folder names.

    Raises:
        Unfit: NO_LABEL, LABEL_UNKNOWN, or NOT_SELECTED where the class is not among the declared ones.
    """
    if not text.strip():
        raise Unfit("NO_LABEL")
    label = label_value(text)
    if label is None:
        raise Unfit("LABEL_UNKNOWN")
    if classes is not None and label not in classes:
        raise Unfit("NOT_SELECTED")
    return label


def open_table(table: Path, tree: Tree, root: Path, limits: Limits) -> tuple[bytes, frozenset[str]]:
    """Return a label table's bytes, and its key among the input's files, so that it is not taken for one.

    Args:
        table: as the recipe names it: a path inside the input, else an absolute one, else relative to the
            input's folder.
        tree: the input, opened.
        root: where the input lies.
        limits: of sizes.

    Raises:
        SourceError: it is missing, unreadable or too large.
    """
    inside = {member.key: member for member in tree.members()}
    place = root / table if root.is_dir() else root.parent / table
    key = table.as_posix()
    if root.is_dir() and place.is_relative_to(root):
        key = place.relative_to(root).as_posix()
    try:
        content = tree.read(inside[key]) if key in inside else read_file(place.resolve(), limits)
    except Unfit as unfit:
        found = f"cannot be read ({unfit.code})" if place.exists() or key in inside else "does not exist"
        raise SourceError(f"source.labels.table: {table} {found}. Mend source.labels.table.") from None
    if len(content) > limits.table_bytes:
        raise SourceError(
            f"source.labels.table: {table} has {len(content):,} bytes; the limit is {limits.table_bytes:,}."
        )
    return content, frozenset({key}) & inside.keys()


def open_labelled(
    path: Path, labels: object, columns: Sequence[str], limits: Limits
) -> tuple[Tree, LabelTable | None, list[Member]]:
    """Return an input, its label table if ``labels`` names one, and its files without the table.

    Raises:
        SourceError: as `open_tree`, `open_table` and `LabelTable.read`.
    """
    tree = _open_with_table(path, labels, limits)
    if not isinstance(labels, TableLabels) or tree.table is None:
        return tree, None, tree.members()
    table = LabelTable.read(tree.table, labels.key, columns)
    return tree, table, [member for member in tree.members() if member.key not in tree.apart]


def labelled_fingerprint(path: Path, labels: object) -> str:
    """Return the digest of all files of an input and of the label table that ``labels`` names, if any."""
    return _open_with_table(path, labels, Limits()).fingerprint()


def _open_with_table(path: Path, labels: object, limits: Limits) -> Tree:
    tree = open_tree(path, limits)
    if isinstance(labels, TableLabels):
        tree.table, tree.apart = open_table(labels.table, tree, path, limits)
    return tree
