"""The two commands of the README at full length: one set leaves with evidence, the other is blocked."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pydicom
import pytest

pytestmark = pytest.mark.slow


def demo(place: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    """Run the command as a user does, in a workspace of its own."""
    tool = str(Path(sys.executable).parent / "phantomset")
    own = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    command = [tool, "demo", "--json", "--workspace", str(place), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=3_000, env=own)


def identities(incoming: Path) -> Iterator[bytes]:
    """Yield the name and the number of every hundredth patient, as the source files hold them."""
    for path in sorted(incoming.rglob("*.dcm"))[::100]:
        header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        yield from (str(header[tag].value).encode() for tag in ("PatientName", "PatientID") if tag in header)


def holders(root: Path, words: list[bytes]) -> list[Path]:
    """Return every file under a folder that holds one of the words."""
    files = (path for path in root.rglob("*") if path.is_file())
    return [path for path in files if any(word in path.read_bytes() for word in words)]


def test_the_demo_publishes_and_names_nobody(
    tmp_path: Path, key_in: Callable[[Path | str], list[tuple[str, str]]]
) -> None:
    """Exit 0 and a release that holds to its checksums; no patient is found outside the incoming files, and
    the project key nowhere.

    Looked through are the release, the runs, Prefect's database and all that is restricted.
    """
    done = demo(tmp_path / "workspace")
    answer = json.loads(done.stdout)
    assert done.returncode == 0, answer["reasons"]
    assert set(answer["axes"].values()) == {"PASS"}
    release = tmp_path / "workspace" / "releases" / "phantom" / "v1"
    subprocess.run(["sha256sum", "--check", "--quiet", "--strict", "SHA256SUMS"], cwd=release, check=True)
    assert len(list((release / "images").rglob("*.png"))) == 3_000
    incoming = tmp_path / "workspace" / "restricted" / "incoming"
    words = list(identities(incoming))
    assert len(words) > 60
    assert holders(incoming, words), "the search finds them where they are"
    shutil.rmtree(incoming)
    assert (tmp_path / "workspace" / "prefect" / "prefect.db").exists()
    assert holders(tmp_path / "workspace", words) == []
    assert key_in(tmp_path / "workspace") == key_in(done.stdout + done.stderr) == []


def test_the_leaky_demo_is_blocked(tmp_path: Path) -> None:
    """Exit 3: the same stages on few patients; the reasons name the attack, and no image leaves."""
    done = demo(tmp_path / "workspace", "--leaky", "--plain")
    answer = json.loads(done.stdout)
    assert done.returncode == 3, answer
    assert answer["axes"]["privacy"] == "FAIL"
    assert not list((tmp_path / "workspace" / "releases").glob("*/v*"))
    assert not list((tmp_path / "workspace" / "blocked").rglob("*.png"))
