"""Files decoded over processes: in their order, within limits; a decoder that dies costs one file.

A worker takes files one by one through a pipe and answers in the same order. It has a limit of address space
and, for each file, of CPU time: an alarm ends it whatever its C code does, and outlives the parent. A worker
that dies is replaced; the file it died over is tried once more, then it has a reason code.
"""

import multiprocessing
import os
import resource
import signal
import sys
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from phantomset.data import keys
from phantomset.data.allocator import keep_freed
from phantomset.data.decoding.one_file import Answer, Finished, decode_file
from phantomset.data.errors import SourceError
from phantomset.data.file_source import FileSource, Listed, Readable
from phantomset.data.pixels.canonical import ImageSettings
from phantomset.data.records import Rejected
from phantomset.data.source import ReadContext, SourceSettings

PATIENCE = 20
"""How many seconds by the clock a worker has for each of CPU: a decoder that sleeps ends as well."""

_LATE = (-signal.SIGPROF, -signal.SIGALRM)
_AHEAD = 4
"""Files that wait in a worker's pipe: it is never idle, and little is lost with it."""

_FILES_A_PROCESS = 1000
"""A worker is replaced after so many files: what its decoders leak goes with it."""

_PRELOAD = [
    *(__name__, "phantomset.data.sources.dicom", "phantomset.data.dicom.pixels"),
    *("phantomset.data.pixels.pictures", "imagecodecs"),
]
"""Loaded once by the server that workers are forked from; it has no threads of ours and no secrets."""

_KEPT_BYTES = 32 << 20
"""Freed memory that a worker does not give back: a third of a file's time went into asking for it again."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a worker may take.

    Attributes:
        seconds: of CPU for a file, and one more for each MiB of it; by the clock `PATIENCE` times as many, so
            that a busy machine costs no file.
        address_bytes: address space, on top of what an idle worker has.
    """

    seconds: float = 60
    address_bytes: int = 4 << 30


@dataclass(frozen=True, slots=True)
class Job:
    """What every worker of a run is told at its start."""

    source: FileSource
    tree: Readable
    settings: SourceSettings
    image: ImageSettings
    context: ReadContext
    key_file: str = field(default_factory=lambda: str(keys.key_file()))


@dataclass(slots=True)
class _Worker:
    process: BaseProcess
    pipe: Connection
    waiting: deque[int] = field(default_factory=deque[int])
    taken: int = 0


def default_workers() -> int:
    """Return how many processes decode unless the caller says otherwise: the CPUs that may be used."""
    return len(os.sched_getaffinity(0))


def decode_all(
    job: Job, files: Iterable[Listed], workers: int | None = None, bounds: Bounds | None = None
) -> Iterator[tuple[Listed, Answer]]:
    """Yield every file with what it holds, in the given order, whoever decoded it.

    Args:
        job: what to decode, and how.
        files: read lazily: no more than a few a worker are under way.
        workers: processes; 0 decodes here, without limits.
        bounds: of each worker.

    Raises:
        SourceError: an image's sides do not fit the recipe.
    """
    if workers == 0:
        for listed in files:
            yield listed, decode_file(job.source, job.tree, listed, job.settings, job.image, job.context)
        return
    pool = _Pool(job, workers or default_workers(), bounds or Bounds())
    try:
        yield from pool.run(files)
    finally:
        pool.stop()


class _Pool:
    """The workers of one run. The parent alone hands out, keeps order and replaces the dead."""

    def __init__(self, job: Job, count: int, bounds: Bounds) -> None:
        self._start = multiprocessing.get_context("forkserver")
        self._start.set_forkserver_preload(_PRELOAD)
        self._job, self._bounds, self._count = job, bounds, count
        self._workers: list[_Worker] = []
        self._listed: dict[int, Listed] = {}
        self._again: deque[int] = deque()
        self._deaths: dict[int, int] = {}
        self._answers: dict[int, Answer] = {}

    def run(self, files: Iterable[Listed]) -> Iterator[tuple[Listed, Answer]]:
        """Yield files with their answers, in order."""
        numbered = enumerate(files)
        due, is_read = 0, False
        while True:
            while not is_read and len(self._listed) < self._count * _AHEAD * 2:
                following = next(numbered, None)
                if following is None:
                    is_read = True
                    break
                self._listed[following[0]] = following[1]
                self._again.append(following[0])
            if not self._listed:
                return
            self._hand_out()
            self._collect()
            while due in self._answers:
                yield self._listed.pop(due), self._answers.pop(due)
                due += 1

    def stop(self) -> None:
        """End all workers; one that sits in a decoder is not waited for."""
        for worker in self._workers:
            worker.pipe.close()
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join()
        self._workers.clear()

    def _hand_out(self) -> None:
        while self._again:
            worker = self._free()
            if worker is None:
                return
            index = self._again.popleft()
            try:
                worker.pipe.send(self._listed[index])
            except OSError:  # it died while idle: that is no file's fault
                self._again.appendleft(index)
                self._bury(worker)
                continue
            worker.waiting.append(index)
            worker.taken += 1

    def _free(self) -> _Worker | None:
        """The least busy worker; a new one while there are too few; None while all have enough."""
        if len(self._workers) < self._count:
            ours, theirs = self._start.Pipe()
            process = self._start.Process(target=_work, args=(theirs, self._job, self._bounds), daemon=True)
            with _no_program():
                process.start()
            theirs.close()
            self._workers.append(_Worker(cast(BaseProcess, process), ours))
        fresh = [worker for worker in self._workers if worker.taken < _FILES_A_PROCESS]
        least = min(fresh, key=lambda worker: len(worker.waiting), default=None)
        return least if least is not None and len(least.waiting) < _AHEAD else None

    def _collect(self) -> None:
        """Wait for one answer at least, and take all that are there."""
        by_pipe = {worker.pipe: worker for worker in self._workers if worker.waiting}
        for ready in wait(list(by_pipe)):
            worker = by_pipe[cast(Connection, ready)]
            try:
                answer: Answer | str = worker.pipe.recv()
            except (EOFError, OSError):
                self._blame(worker)
                continue
            if isinstance(answer, str):
                raise SourceError(answer)
            self._answers[worker.waiting.popleft()] = answer
            if not worker.waiting and worker.taken >= _FILES_A_PROCESS:
                self._bury(worker)

    def _blame(self, worker: _Worker) -> None:
        """A worker died: the file at the head of its queue did it, the others wait for another worker."""
        index, *others = worker.waiting
        self._bury(worker)
        self._again.extendleft(reversed(others))
        is_late = worker.process.exitcode in _LATE
        self._deaths[index] = self._deaths.get(index, 0) + 1
        if is_late or self._deaths[index] > 1:
            code = "DECODE_TIMEOUT" if is_late else "DECODER_CRASH"
            self._answers[index] = Answer([Finished(Rejected("", code))])
        else:
            self._again.appendleft(index)

    def _bury(self, worker: _Worker) -> None:
        worker.pipe.close()
        worker.process.join()
        self._workers.remove(worker)


@contextmanager
def _no_program() -> Generator[None]:
    """Let a process start without the program that runs here: it would import all of it, and needs none."""
    program = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = program


def _work(pipe: Connection, job: Job, bounds: Bounds) -> None:
    """A worker's life: ends with its pipe, or by one of its bounds."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops it in good order
    for alarm in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(alarm, signal.SIG_DFL)
    os.environ[keys.VARIABLE] = job.key_file
    silence = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # decoders print what they think of a file, with its values
        os.dup2(silence, stream)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + bounds.address_bytes
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    keep_freed(_KEPT_BYTES)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a dump would hold pixels and headers
    while True:
        try:
            listed: Listed = pipe.recv()
        except (EOFError, OSError):
            return
        seconds = bounds.seconds + listed.member.size_bytes / (1 << 20)
        signal.setitimer(signal.ITIMER_PROF, seconds)
        signal.setitimer(signal.ITIMER_REAL, seconds * PATIENCE)
        answer: Any
        try:
            answer = decode_file(job.source, job.tree, listed, job.settings, job.image, job.context)
        except SourceError as error:
            answer = str(error)
        for timer in (signal.ITIMER_PROF, signal.ITIMER_REAL):
            signal.setitimer(timer, 0)
        try:
            pipe.send(answer)
        except OSError:
            return
