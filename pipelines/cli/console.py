"""What a person sees: progress while a run works, and what came of it. Progress goes to stderr."""

import contextlib
import time
from collections.abc import Generator
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from phantomset.pipelines.ledger import Entry
from phantomset.pipelines.stages import Watch

PLAIN_WIDTH = 120
"""Columns where no terminal says how wide it is, such as a log."""

SECONDS_BETWEEN_LINES = 10.0
"""In a log, progress is one line at most this often."""

COLOURS = {
    "PASS": "green",
    "FAIL": "red",
    "INCONCLUSIVE": "yellow",
    "NOT_EVALUATED": "dim",
    "REPORTED": "dim",
}


def screen(to_stderr: bool = False) -> Console:
    """Return a console for stdout or stderr: as wide as the terminal, or a fixed width in a log."""
    console = Console(stderr=to_stderr, highlight=False)
    return console if console.is_terminal else Console(stderr=to_stderr, highlight=False, width=PLAIN_WIDTH)


@contextlib.contextmanager
def watching(quiet: bool = False) -> Generator[Watch]:
    """Give a `Watch` that draws on stderr: a bar with time left on a terminal, plain lines elsewhere."""
    if quiet:
        yield Watch()
        return
    console = screen(to_stderr=True)
    if not console.is_terminal:
        yield _Lines(console).watch()
        return
    columns = (TextColumn("{task.description:<10}"), BarColumn(28), TextColumn("{task.fields[note]}"))
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        yield _Bars(progress).watch()


class _Lines:
    """Plain lines, each whole and with a stage's name, at a low rate."""

    def __init__(self, console: Console) -> None:
        self._console, self._last, self._stage = console, 0.0, ""

    def watch(self) -> Watch:
        return Watch(self._begin, self._files, self._training, self._say, self._end)

    def _print(self, text: str, always: bool = True) -> None:
        now = time.monotonic()
        if always or now - self._last >= SECONDS_BETWEEN_LINES:
            self._last = now
            self._console.print(Text(f"{self._stage:<9} {text}"), soft_wrap=True)

    def _begin(self, stage: str) -> None:
        self._stage, self._last = stage, time.monotonic()

    def _files(self, files: int) -> None:
        self._print(f"{files:,} files", always=False)

    def _training(self, progress: Any) -> None:
        for event in progress.events:
            self._print(event_note(event))
        self._print(training_note(progress), always=progress.done)

    def _say(self, text: str) -> None:
        self._print(text)

    def _end(self, entry: Entry) -> None:
        self._print(end_note(entry))


class _Bars:
    """One bar a stage, on a terminal."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None

    def watch(self) -> Watch:
        return Watch(self._begin, self._files, self._training, self._say, self._end)

    def _begin(self, stage: str) -> None:
        self._task = self._progress.add_task(stage, total=None, note="")

    def _update(self, **changes: Any) -> None:
        if self._task is not None:
            self._progress.update(self._task, **changes)

    def _files(self, files: int) -> None:
        self._update(note=f"{files:,} files")

    def _training(self, progress: Any) -> None:
        for event in progress.events:
            self._progress.console.print(Text(event_note(event), style="yellow"))
        self._update(
            total=progress.budget_images, completed=progress.images_seen, note=training_note(progress)
        )

    def _say(self, text: str) -> None:
        self._update(note=text[:70])

    def _end(self, entry: Entry) -> None:
        self._update(total=1, completed=1, note=end_note(entry))
        if self._task is not None:
            self._progress.stop_task(self._task)


def training_note(progress: Any) -> str:
    """Return where a training stands, in one line."""
    share = progress.images_seen / max(progress.budget_images, 1)
    return (
        f"{share:4.0%}  {progress.images_seen:,} of {progress.budget_images:,} images, "
        f"{progress.images_per_second:,.0f} images/s, {duration(progress.seconds_left)} left"
    )


def event_note(event: dict[str, Any]) -> str:
    """Return what happened in a training and what to do about it, in one line."""
    return f"{event['code']}: {event['message']}. {event['advice']}"


def end_note(entry: Entry) -> str:
    """Return what a stage did, in one line."""
    did = "made" if entry.made else "was there already"
    return f"{did} {entry.digest[:12]} in {duration(entry.seconds)}"


def duration(seconds: float) -> str:
    """Return a time as people say it.

    >>> duration(4.24), duration(75), duration(3725)
    ('4.2 s', '1:15 min', '1:02 h')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"
    return f"{int(seconds) // 3600}:{int(seconds) % 3600 // 60:02d} h"


def table(title: str, *columns: str) -> Table:
    """Return an empty table in the style of the house; a column that starts with ``>`` is right-aligned."""
    made = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        made.add_column(column.lstrip(">"), justify="right" if column.startswith(">") else "left")
    return made


def status(word: str) -> Text:
    """Return a status in its colour; the word says it without the colour too."""
    return Text(word.replace("_", " "), style=COLOURS.get(word, ""))
