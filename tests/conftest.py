"""Fixtures that every room's tests share."""

import os
import socket
from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--device``: the same tests on another device."""
    parser.addoption(
        "--device", default="cpu", choices=("cpu", "cuda"), help="device for the `device` fixture"
    )


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> str:
    """The device under test; CUDA is asked for with ``make test-gpu``."""
    chosen = request.config.getoption("--device")
    if chosen == "cuda":
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no CUDA device here")
    return chosen


@pytest.fixture(scope="session")
def datasets() -> Path:
    """The folder of real image sets: PHANTOMSET_DATASETS, or the one that lies beside the repository."""
    beside = Path(__file__).parents[2] / "shared" / "datasets"
    folder = Path(os.environ.get("PHANTOMSET_DATASETS", beside))
    if not folder.is_dir():
        pytest.skip("real image sets are absent: set PHANTOMSET_DATASETS to their folder")
    return folder


@pytest.fixture(autouse=True)
def own_place(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test touches the user's key, ledger or workspace."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("PHANTOMSET_KEY_FILE", str(home / "config" / "key"))
    monkeypatch.setenv("PHANTOMSET_WORKSPACE", str(home / "workspace"))
    return home


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is downloaded: a connection to anything but loopback is an error."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else ""
        if self.family != socket.AF_UNIX and str(host) not in ("127.0.0.1", "::1", "localhost"):
            raise PermissionError(f"a test tried to reach the network ({host})")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
