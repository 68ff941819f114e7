"""Files decoded on a Dask cluster: the same cohort, also when a worker dies."""

import importlib
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from phantomset.data.decoding import cluster, workers
from phantomset.data.deidentify import DeidentifySettings
from phantomset.data.errors import InputError, SourceError, WorkspaceError
from phantomset.data.ingest import ingest
from phantomset.data.pixels.canonical import ImageSettings
from phantomset.data.records import Cohort
from phantomset.data.sources.dicom import Settings
from phantomset.data.workspace import Workspace

needs_dask = pytest.mark.skipif(util.find_spec("distributed") is None, reason=f"the extra: {cluster.INSTALL}")


@pytest.fixture
def folder(tmp_path: Path, make_dicom: Callable[..., bytes]) -> Path:
    """Eighty DICOM files of forty patients, and two broken ones."""
    place = tmp_path / "in"
    place.mkdir()
    for number in range(80):
        pixels = np.random.default_rng(number).integers(0, 4096, (8, 8), dtype=np.uint16)
        about = {"PatientID": f"P{number // 2}", "SOPInstanceUID": f"1.2.7.{number}"}
        (place / f"{number:03d}").write_bytes(make_dicom(pixels, **about))
    (place / "080").write_bytes(b"")
    (place / "081").write_bytes(b"no image at all" * 20)
    return place


def _ingest(folder: Path, place: Path, workers: Any, report: Callable[[int], None] | None = None) -> Cohort:
    settings, rules = Settings.model_validate({"path": folder}), DeidentifySettings()
    return ingest(settings, ImageSettings(size_px=8), rules, Workspace.open(place), report, workers)[0]


@pytest.fixture(scope="module")
def two_workers() -> Iterator[Any]:
    """A cluster of two workers in processes of their own, which may start processes."""
    dask, distributed = importlib.import_module("dask"), importlib.import_module("distributed")
    quiet = {"host": "127.0.0.1", "dashboard_address": None, "memory_limit": None, "silence_logs": 50}
    with (
        dask.config.set({"distributed.worker.daemon": False}),
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, **quiet) as running,
    ):
        yield running


@needs_dask
def test_a_cluster_gives_the_same_cohort_and_may_lose_a_worker(
    folder: Path, tmp_path: Path, two_workers: Any
) -> None:
    """Two workers, one killed by -9 at the first file: records and digest are those of one process."""
    killed: list[int] = []

    def kill(files: int) -> None:
        if files == 1:
            killed.append(two_workers.workers[0].pid)
            os.kill(killed[0], signal.SIGKILL)

    expected = _ingest(folder, tmp_path / "one", 0)
    assert len(expected.records) == 80
    assert _ingest(folder, tmp_path / "two", two_workers.scheduler_address, kill) == expected
    assert len(killed) == 1


@needs_dask
def test_the_word_dask_is_a_cluster_of_this_machine(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--workers dask` decodes on two processes of this machine: the same cohort, nothing that another
    machine could ask, and no process left.
    """
    monkeypatch.setattr(workers, "default_workers", lambda: 2)
    expected = _ingest(folder, tmp_path / "one", 0)
    before, during, hosts = _descendants(), set[psutil.Process](), set[str]()

    def look(_: int) -> None:
        during.update(_descendants())
        listening = [each for each in psutil.Process().net_connections("tcp") if each.status == "LISTEN"]
        hosts.update(each.laddr.ip for each in listening)

    assert _ingest(folder, tmp_path / "two", cluster.LOCAL, look) == expected
    assert hosts == {"127.0.0.1"}
    started = during - before
    assert len(started) >= 2
    _, alive = psutil.wait_procs(list(started | (_descendants() - before)), timeout=60)
    assert alive == []


def _descendants() -> set[psutil.Process]:
    """The processes that this one started, and theirs; Python's own tracker, one for all tests, aside."""
    found: set[psutil.Process] = set()
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if not any("resource_tracker" in word for word in process.cmdline()):
                found.add(process)
    return found


@needs_dask
def test_no_scheduler_is_an_input_error(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody listens there: said with what to do, exit code 2."""
    monkeypatch.setattr(cluster, "_PATIENCE", "1s")
    with pytest.raises(WorkspaceError, match=r"no Dask scheduler answers at tcp://127.0.0.1:9"):
        _ingest(folder, tmp_path / "none", "tcp://127.0.0.1:9")


def test_without_the_extra_the_command_is_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recipe runs on this machine all the same, once --workers is left out."""
    monkeypatch.setattr(cluster.util, "find_spec", lambda _: None)
    with pytest.raises(SourceError, match=r"pip install 'phantomset\[dask\]'") as caught:
        _ingest(folder, tmp_path / "absent", "dask")
    assert isinstance(caught.value, InputError)
