"""Chosen once for a run and passed down: device, threads, and the environment that torch and Prefect read."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from phantomset.data.errors import InputError, ModelError

PLAINLY_SLOWER = 0.8
"""All threads on a quiet machine reach 1.3 times the speed of one; on a crowded one a tenth of it."""

DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a run computes.

    Attributes:
        device: "cpu" or "cuda".
        threads: CPU threads.
        is_fixed: the caller asked for that number; otherwise training may find that fewer are faster here.
        workers: what decodes the input: processes, "dask" or a scheduler's address; None: a process a CPU.
    """

    device: str
    threads: int
    is_fixed: bool = False
    workers: int | str | None = None


def choose(device: str = "auto", threads: int | None = None, workers: str | None = None) -> Machine:
    """Return the machine of this run, and tell torch.

    Raises:
        ModelError: the device is unknown or absent, or the threads are not between 1 and 1,024.
        InputError: ``workers`` is neither a number from 1 to 1,024, "dask", nor an address.
    """
    if device not in DEVICES:
        raise ModelError(f"device: {device!r} is unknown; choose one of {', '.join(DEVICES)}")
    if threads is not None and not 1 <= threads <= 1_024:
        raise ModelError(f"threads: between 1 and 1,024 expected, found {threads}")
    import torch

    has_cuda = torch.cuda.is_available()
    if device == "cuda" and not has_cuda:
        raise ModelError(
            "device: cuda was asked for, but torch sees no CUDA device here. "
            "Use --device cpu or auto, or install a CUDA build of torch and a driver (`phantomset doctor`)."
        )
    machine = Machine(
        "cuda" if device != "cpu" and has_cuda else "cpu",
        threads or default_threads(),
        threads is not None,
        decoders(workers),
    )
    torch.set_num_threads(machine.threads)
    return machine


def decoders(workers: str | None) -> int | str | None:
    """Return what decodes the input, as `phantomset.data.ingest` takes it.

    Raises:
        InputError: it is neither a number from 1 to 1,024, "dask", nor an address.
    """
    if workers is None or workers == "dask" or workers.startswith(("tcp://", "tls://")):
        return workers
    if workers.isdecimal() and 1 <= int(workers) <= 1_024:
        return int(workers)
    raise InputError(
        f"workers: {workers!r} is unknown; give a number of processes from 1 to 1,024, dask, or the address "
        "of a Dask scheduler, such as tcp://10.0.0.7:8786"
    )


def default_threads() -> int:
    """Return the cores that this process may use, at most 16: more do not help images of this size."""
    return max(1, min(16, len(os.sched_getaffinity(0))))


def steadier(machine: Machine, speed: Callable[[int], float]) -> int:
    """Return the number of threads to train with: all, unless others hold the cores so that one is faster.

    ``speed`` measures images a second with a number of threads. One thread is taken only where all of them
    are plainly slower, so that a quiet machine always gives the same answer, hence the same bits.
    """
    if machine.is_fixed or machine.threads == 1 or machine.device != "cpu":
        return machine.threads
    return machine.threads if speed(machine.threads) > PLAINLY_SLOWER * speed(1) else 1


def quiet_prefect(home: Path | None) -> None:
    """Set what Prefect reads on import: offline, without telemetry, quiet; a variable that is set is left.

    ``home`` becomes PREFECT_HOME, unless PREFECT_API_URL names a server that keeps the record itself; errors
    are then ours to tell, once, and Prefect is silent about them.
    """
    settings = {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_TELEMETRY_ENABLE_RESOURCE_METRICS": "false",
        "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
        "PREFECT_SERVER_UI_V2_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_SERVER_EPHEMERAL_ENABLED": "true",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "PREFECT_LOGGING_LEVEL": "WARNING" if home is None else "CRITICAL",
        "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
        # Log lines could carry what an exception said; ours go to runs/ after a filter.
        "PREFECT_LOGGING_TO_API_ENABLED": "false",
        "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
        "PREFECT_LOGGING_COLORS": "false",
        "PREFECT_CLI_COLORS": "false",
    }
    if home is not None and "PREFECT_API_URL" not in os.environ:
        settings["PREFECT_HOME"] = str(home)
    for name, value in settings.items():
        os.environ.setdefault(name, value)
