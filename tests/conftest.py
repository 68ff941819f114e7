"""Fixtures that every room's tests share."""

import base64
import hashlib
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from phantomset.data import keys


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
        if os.environ.get("PHANTOMSET_NEEDS_DATASETS"):
            pytest.fail(f"real image sets are asked for and absent: {folder} is no folder")
        pytest.skip("real image sets are absent: set PHANTOMSET_DATASETS to their folder")
    return folder


@pytest.fixture(autouse=True)
def own_place(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test touches the user's key, ledger or workspace."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("PHANTOMSET_KEY_FILE", str(home / "config" / "key"))
    monkeypatch.setenv("PHANTOMSET_WORKSPACE", str(home / "workspace"))
    return home


@pytest.fixture
def key_forms() -> dict[str, bytes]:
    """The project key as it could have been written: as it stands in its file, or what is made of it.

    Base64 of a longer text shows one of three forms, by where the key stands in it.
    """
    keys.key_folder()  # made now, where it was not
    text = keys.key_file().read_text().strip()
    found = {"as it stands": text.encode()}
    secrets = {"the key": bytes.fromhex(text), "its text": text.encode()}
    secrets["the HMAC's"] = hashlib.sha256(text.encode()).digest()
    for name, secret in secrets.items():
        found[f"{name}, bytes"] = secret
        found[f"{name}, hex"] = secret.hex().encode()
        found[f"{name}, HEX"] = secret.hex().upper().encode()
        for shift, unsure in ((0, 0), (1, 2), (2, 3)):
            packed = base64.b64encode(bytes(shift) + secret)[unsure:-4]
            found[f"{name}, base64 after {shift}"] = packed
            found[f"{name}, base64 of addresses after {shift}"] = packed.translate(
                bytes.maketrans(b"+/", b"-_")
            )
    return found


@pytest.fixture
def key_in(key_forms: dict[str, bytes]) -> Callable[[Path | str], list[tuple[str, str]]]:
    """Return a search for the project key in a text, or in a folder's files and their names: form and place.

    A packed table is searched unpacked as well.
    """

    def seek(where: Path | str) -> list[tuple[str, str]]:
        texts = {"": where.encode()} if isinstance(where, str) else {}
        for path in where.rglob("*") if isinstance(where, Path) else ():
            content = path.read_bytes() if path.is_file() else b""
            if path.suffix == ".parquet":
                content += pd.read_parquet(path).to_csv().encode()
            texts[str(path)] = str(path).encode() + b"\n" + content
        return [
            (form, place) for place, text in texts.items() for form, key in key_forms.items() if key in text
        ]

    return seek


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
