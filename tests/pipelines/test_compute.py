"""Device, threads and environment are chosen once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from phantomset.data.errors import InputError, ModelError
from phantomset.pipelines import compute
from phantomset.pipelines.compute import Machine, steadier


@pytest.fixture(autouse=True)
def restore_threads() -> None:
    """Leave torch's threads as they were."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_the_cpu_with_the_threads_that_were_asked_for() -> None:
    """torch is told; the number counts as fixed."""
    assert compute.choose("cpu", 1) == Machine("cpu", 1, True)
    assert torch.get_num_threads() == 1


def test_auto_is_the_cpu_where_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """And cuda is an error with advice, never a silent fall-back."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert compute.choose("auto", 1).device == "cpu"
    with pytest.raises(ModelError, match="sees no CUDA device here"):
        compute.choose("cuda")


@pytest.mark.parametrize(
    ("given", "expected"),
    [(None, None), ("2", 2), ("dask", "dask"), ("tcp://10.0.0.7:8786", "tcp://10.0.0.7:8786")],
)
def test_what_decodes(given: str | None, expected: int | str | None) -> None:
    """A number of processes, Dask on this machine, or a scheduler elsewhere."""
    assert compute.choose("cpu", 1, given).workers == expected


@pytest.mark.parametrize("given", ["0", "two", "http://10.0.0.7", "5000", "-1"])
def test_what_decodes_nothing(given: str) -> None:
    """Anything else is refused with what is expected."""
    with pytest.raises(InputError, match="number of processes from 1 to 1,024, dask, or the address"):
        compute.choose("cpu", 1, given)


@pytest.mark.parametrize(("device", "threads"), [("tpu", None), ("cpu", 0), ("cpu", 5000)])
def test_what_is_no_machine(device: str, threads: int | None) -> None:
    """Unknown devices and absurd numbers of threads are refused with what is expected."""
    with pytest.raises(ModelError, match=r"choose one of|between 1 and"):
        compute.choose(device, threads)


@pytest.mark.parametrize(
    ("speeds", "taken"),
    [({1: 600, 4: 800}, 4), ({1: 600, 4: 500}, 4), ({1: 600, 4: 60}, 1), ({1: 600, 4: 470}, 1)],
)
def test_one_thread_is_taken_only_where_all_are_plainly_slower(speeds: dict[int, int], taken: int) -> None:
    """A quiet machine always answers "all", so its digests repeat; a crowded one is not stalled."""
    assert steadier(Machine("cpu", 4), speeds.__getitem__) == taken


def test_a_fixed_number_of_threads_is_never_probed() -> None:
    """Nor is a single one, nor the GPU: there is nothing to choose."""

    def never(threads: int) -> float:
        raise AssertionError(threads)

    assert steadier(Machine("cpu", 4, True), never) == 4
    assert steadier(Machine("cpu", 1), never) == 1
    assert steadier(Machine("cuda", 4), never) == 4


def test_prefect_is_quiet_offline_and_at_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Telemetry off, its home in the workspace; what a user set is left; with a server, no home is needed."""
    for name in [name for name in os.environ if name.startswith(("PREFECT", "DO_NOT"))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(os, "environ", dict(os.environ) | {"PREFECT_LOGGING_LEVEL": "DEBUG"})
    compute.quiet_prefect(tmp_path)
    assert os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert os.environ["DO_NOT_TRACK"] == "1"
    assert os.environ["PREFECT_LOGGING_TO_API_ENABLED"] == "false"
    assert os.environ["PREFECT_LOGGING_LEVEL"] == "DEBUG"
    assert os.environ["PREFECT_HOME"] == str(tmp_path)
    del os.environ["PREFECT_HOME"]
    os.environ["PREFECT_API_URL"] = "http://127.0.0.1:4200/api"
    compute.quiet_prefect(tmp_path)
    assert "PREFECT_HOME" not in os.environ


def test_openmp_is_told_to_wait_quietly_before_torch_is_imported() -> None:
    """Reading a recipe imports torch; by then the variable stands."""
    code = (
        "import os, sys; os.environ.pop('OMP_WAIT_POLICY', None); import phantomset.pipelines;"
        "assert 'torch' not in sys.modules; print(os.environ['OMP_WAIT_POLICY'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "PASSIVE"
