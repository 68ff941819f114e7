"""Files decoded on a Dask cluster: the extra ``[dask]``.

A task is a handful of files. The worker that gets it decodes them as one machine does (`workers.decode_all`,
one process): the same limits hold, and a decoder that dies costs one file. A task whose worker died is given
to another. Answers are taken in the order of the files, so the cohort does not depend on who made them.

Every machine sees the input and the key file at the same paths. What travels is paths, pixels and keyed
names; what tables and paths say of patients stays here.
"""

import importlib
import itertools
import logging
import multiprocessing
import secrets
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from importlib import util
from typing import Any

from phantomset.data.decoding import workers
from phantomset.data.decoding.one_file import Answer
from phantomset.data.decoding.workers import Bounds, Job
from phantomset.data.errors import SourceError, WorkspaceError
from phantomset.data.file_source import Listed

INSTALL = "python -m pip install 'phantomset[dask]'"
"""The command that brings the extra."""

LOCAL = "dask"
"""Instead of a scheduler's address: a cluster on this machine, for as long as the run."""

_FILES_A_TASK = 16
_TASKS_A_WORKER = 3
"""Tasks under way: a worker is never idle, and memory holds few answers."""

_PATIENCE = "60s"
_DAEMONS = (
    "workers: the Dask workers may start no processes, so a decoder could not be held within its limits. "
    "Start them with DASK_DISTRIBUTED__WORKER__DAEMON=False in their environment, or with --no-nanny."
)


def decode_all(
    job: Job, files: Iterable[Listed], where: str, bounds: Bounds | None = None
) -> Iterator[tuple[Listed, Answer]]:
    """Yield every file with what it holds, in the given order, whoever decoded it.

    Args:
        job: what to decode, and how.
        files: read lazily: no more than a few tasks a worker are under way.
        where: `LOCAL`, or the address of a scheduler, such as "tcp://10.0.0.7:8786".
        bounds: of each decoding process.

    Raises:
        SourceError: the extra is missing, or an image's sides do not fit the recipe.
        WorkspaceError: no scheduler answers, or the cluster gave a task up.
    """
    with _client(where) as client:
        run, numbers = secrets.token_hex(8), itertools.count()
        tasks = _handfuls(files)
        waiting: deque[tuple[list[Listed], Any]] = deque()
        while True:
            room = max(1, len(client.scheduler_info()["workers"])) * _TASKS_A_WORKER - len(waiting)
            for handful in itertools.islice(tasks, max(0, room)):
                key = f"decode-{run}-{next(numbers)}"  # a key stands in Dask's logs: no name of a file in it
                told = [
                    Listed(each.member, waived=each.waived, known=each.known, code=each.code)
                    for each in handful
                ]
                waiting.append((handful, client.submit(_decode, job, told, bounds, key=key, pure=False)))
            if not waiting:
                return
            handful, task = waiting.popleft()
            yield from zip(handful, _answers(task, where), strict=True)


def _decode(job: Job, handful: list[Listed], bounds: Bounds | None) -> list[Answer] | str:
    """One task, on a worker. It raises nothing: Dask would log its arguments, and they name files."""
    if multiprocessing.current_process().daemon:
        return _DAEMONS
    try:
        return [answer for _, answer in workers.decode_all(job, handful, 1, bounds)]
    except SourceError as error:
        return str(error)
    except Exception as error:
        return (
            f"workers: {type(error).__name__} on a Dask worker. It needs the same phantomset as this machine."
        )


def _answers(task: Any, where: str) -> list[Answer]:
    try:
        found: list[Answer] | str = task.result()
    except Exception as error:  # of many kinds: the scheduler is gone, a worker died over it again and again
        raise WorkspaceError(
            f"workers: the Dask cluster at {where} gave up ({type(error).__name__}). Mend it, or leave "
            "--workers out: then this machine decodes."
        ) from None
    if isinstance(found, str):
        raise SourceError(found)
    return found


def _handfuls(files: Iterable[Listed]) -> Iterator[list[Listed]]:
    left = iter(files)
    while handful := list(itertools.islice(left, _FILES_A_TASK)):
        yield handful


@contextmanager
def _client(where: str) -> Generator[Any]:
    """A client of the scheduler there; of a cluster of this machine, which is taken down at the end."""
    if util.find_spec("distributed") is None:
        raise SourceError(
            f"workers: {where} needs the extra [dask], which is not installed. Install it ({INSTALL}), or "
            "give a number of processes."
        )
    dask: Any = importlib.import_module("dask")  # an extra: absent where this is type-checked
    distributed: Any = importlib.import_module("distributed")
    if where != LOCAL:
        try:
            client = distributed.Client(where, timeout=_PATIENCE)
        except (OSError, ValueError) as error:
            raise WorkspaceError(
                f"workers: no Dask scheduler answers at {where} ({type(error).__name__}). Start it with "
                "`dask scheduler`, or mend the address."
            ) from None
        with client:
            yield client
        return
    settings: dict[str, Any] = {
        "distributed.worker.daemon": False,
        # Dask serves pages about its work, on port 8787 where that is free, whatever is said of the dashboard
        "distributed.scheduler.http.routes": [],
        "distributed.worker.http.routes": [],
    }
    options = {
        "n_workers": workers.default_workers(),
        "threads_per_worker": 1,
        "host": "127.0.0.1",
        "dashboard_address": None,
        "scheduler_kwargs": {"dashboard_address": "127.0.0.1:0"},
        "memory_limit": None,  # with a limit, Dask would write answers to disk outside the workspace
        "silence_logs": logging.CRITICAL,
    }
    with (
        dask.config.set(settings),
        distributed.LocalCluster(**options) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client
