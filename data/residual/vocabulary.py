"""Words that may be found in what was written, since the program itself writes them.

Not every word of the source code: comments, docstrings and citations hold names of people, and are written
nowhere.
"""

import ast
import functools
import importlib.util
import re
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

_STATES = (
    "completed pending running scheduled cancelled cancelling crashed failed paused cached retrying late"
)
_FORMATS = (
    "pandas numpy pyarrow arrow parquet schema metadata unicode object string int64 float64 columns column "
    "column_indexes index_columns partition_columns index field_name name pandas_type numpy_type creator "
    "attributes library version pandas_version created parquet-cpp-arrow build sqlite format table"
)
"""What Parquet and SQLite write into every file of their own accord."""

_KEY = re.compile(r"[\w.:/-]+")
_HUMP = re.compile(r"[A-Z]+(?![a-z])|[A-Z][a-z]+|[a-z]+")
_WRITERS = ("data", "pipelines")
"""Rooms whose texts are written within a run's first stage: notes, reasons, messages."""

_KEYED = ("ganmodels", "validators")
"""Rooms of which only names of settings and measures are: in recipes and logs."""

_INVENTED = ("phantoms", "residual")
"""Folders whose texts are no writing: invented patients, canaries."""

_DESCRIBED = frozenset({"flows.py"})
"""Modules whose docstrings are written too: Prefect keeps those of flows and tasks."""

_CHECKS = "checks"
"""The folder whose questions and figures stand in Prefect's artifacts, once an earlier set was judged."""

_KEPT_BACK = frozenset({"source", "advice"})
"""What of a check stands in no artifact: whom it follows, and what the data office should do."""

_PREFECT = (
    *("client/schemas/objects.py", "server/schemas/core.py", "server/schemas/states.py"),
    *("server/models/events.py", "serializers.py"),
)
"""Modules of Prefect whose names of fields and keys its server writes with every state and event."""

_PREFECT_MESSAGES = "states.py"
"""The module whose sentences it writes as well."""


def words_of(texts: Iterable[str]) -> frozenset[str]:
    """Return the words of some texts, in lower case, at least `SHORTEST` characters."""
    return frozenset(word for text in texts for word in re.findall(r"[^\W_]{4,}", text.lower()))


def program_words() -> frozenset[str]:
    """Return the words of `program_texts`; of compound names the parts too, as "value" of "KeptValue"."""
    humps = (hump for text in program_texts() if _KEY.fullmatch(text) for hump in _HUMP.findall(text))
    return words_of([*program_texts(), *humps])


@functools.cache
def program_texts() -> tuple[str, ...]:
    """Return the texts that this program can write: constants and names of fields, and its page templates."""
    rooms = Path(__file__).parents[2]
    found = [_STATES, _FORMATS]
    for room in (*_WRITERS, *_KEYED):
        for path in sorted((rooms / room).rglob("*")):
            if path.suffix == ".py" and path.parent.name not in _INVENTED:
                tree, is_check = ast.parse(path.read_bytes()), path.parent.name == _CHECKS
                texts = _texts(tree, path.name in _DESCRIBED, _KEPT_BACK if is_check else frozenset())
                found += texts if is_check or room in _WRITERS else filter(_KEY.fullmatch, texts)
            elif path.suffix in (".html", ".css") and room in _WRITERS:
                found.append(path.read_text(encoding="utf-8"))
    return tuple(dict.fromkeys(found))


def _texts(tree: ast.Module, with_docstrings: bool, but: frozenset[str] = frozenset()) -> Iterator[str]:
    """Every text in a module but docstrings, and the names that become keys, columns and names of tasks.

    Texts that are given to arguments of the names ``but`` are left out.
    """
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    silent: set[int] = set()
    for node in ast.walk(tree):  # parents before children
        if isinstance(node, owners) and not with_docstrings:
            # also the texts below constants and fields, which nothing reads
            silent |= {id(line.value) for line in node.body if isinstance(line, ast.Expr)}
        if isinstance(node, ast.keyword) and node.arg in but:
            silent |= {id(each) for each in ast.walk(node.value)}
        if isinstance(node, ast.Constant):
            if isinstance(node.value, str) and id(node) not in silent:
                yield node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id
        elif isinstance(node, ast.keyword) and node.arg:
            yield node.arg


def prefect_words(root: Path) -> list[str]:
    """Return the words that Prefect's own tables hold, and the names that it draws for its runs."""
    path = root / "prefect" / "prefect.db"
    if not path.exists():
        return []
    found = [*_prefect_texts()]
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
            connection.text_factory = functools.partial(str, encoding="utf-8", errors="replace")
            tables = [str(row[0]) for row in connection.execute("select name from sqlite_master")]
            found += [
                str(row[0]) for row in connection.execute("select coalesce(sql, '') from sqlite_master")
            ]
            for table in tables:
                if table.startswith(("block_", "configuration", "alembic")) and '"' not in table:
                    rows: Iterable[Any] = connection.execute(f'select * from "{table}"')  # noqa: S608 - its own table
                    found += [str(value) for row in rows for value in row if isinstance(value, str)]
            drawn = [str(row[0]) for row in connection.execute("select name from flow_run")]
        found += [name for name in drawn if re.fullmatch(r"[a-z]+-[a-z]+", name)]
    except sqlite3.Error:
        return found
    return found


@functools.cache
def _prefect_texts() -> tuple[str, ...]:
    """Return what Prefect's package brings: texts that its server copies into every new database, names of
    fields and keys, and the messages of its states.
    """
    package = importlib.util.find_spec("prefect")
    found: list[str] = []
    for folder in map(Path, (package and package.submodule_search_locations) or ()):
        copied = [
            path for path in (folder / "server").rglob("*.json") if "ui" not in path.relative_to(folder).parts
        ]
        found += [path.read_text(encoding="utf-8", errors="ignore") for path in copied]
        for name in _PREFECT:
            found += filter(_KEY.fullmatch, _texts(ast.parse((folder / name).read_bytes()), False))
        found += _texts(ast.parse((folder / _PREFECT_MESSAGES).read_bytes()), False)
    return tuple(dict.fromkeys(found))
