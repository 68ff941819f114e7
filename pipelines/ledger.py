"""What ran: ``runs/<time>-<recipe>/``, ours, not the orchestrator's. It carries no identifier and no path."""

import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from phantomset.data.workspace import Workspace, write_atomically
from phantomset.pipelines.recipe import Recipe

HEADER = "# The recipe of this run with every default filled in. Paths of the source are kept back.\n"


@dataclass(frozen=True, slots=True)
class Entry:
    """One stage of a run: what it made or found again, and what that took."""

    stage: str
    digest: str
    made: bool
    seconds: float
    cpu_seconds: float


class RunLedger:
    """The folder of one run; it appears with the first stage that ends, so a refused run leaves none."""

    def __init__(self, workspace: Workspace, recipe: Recipe, overridden: Iterable[str] = ()) -> None:
        self._workspace, self._recipe, self._overridden = workspace, recipe, tuple(overridden)
        self.folder: Path | None = None
        self.entries: list[Entry] = []

    def add(self, entry: Entry) -> None:
        """Write one stage down."""
        self.entries.append(entry)
        _append(self._open() / "ledger.jsonl", asdict(entry))

    def log(self, event: str, **details: str | int | float) -> None:
        """Write an event down; details are codes, digests, counts and our own words, never the source's."""
        if self.folder is not None:
            _append(self.folder / "log.jsonl", {"time": _now(), "event": event} | details)

    def keep_training(self, statistics: Path) -> None:
        """Copy the training's statistics, ``train.jsonl``: losses and counts."""
        if statistics.is_file():
            write_atomically(self._open() / "train.jsonl", statistics.read_bytes())

    def _open(self) -> Path:
        if self.folder is None:
            self.folder = self._make_folder()
            text = yaml.safe_dump(self._recipe.public(), sort_keys=False, allow_unicode=True)
            write_atomically(self.folder / "recipe.yaml", (HEADER + text).encode())
            self.log("begin", recipe=self._recipe.digest, overridden=" ".join(self._overridden))
        return self.folder

    def _make_folder(self) -> Path:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        for number in range(1_000):  # two runs within one second have different numbers
            suffix = f"-{number}" if number else ""
            folder = self._workspace.root / "runs" / f"{stamp}{suffix}-{self._recipe.name}"
            try:
                folder.mkdir()
            except FileExistsError:
                continue
            return folder
        raise FileExistsError("a thousand runs within one second")


def _append(path: Path, line: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(line, sort_keys=True) + "\n")


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
