"""A run that is stopped resumes by the same command, to the same bits."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

RECIPE = {
    "name": "stopped",
    "source": {"format": "digits"},
    "image": {"size_px": 8},
    "model": {"budget": {"images": 8_000}, "batch_size": 40, "settings": {"latent": 4, "widths": [16]}},
    "generate": {"count": 20},
    "publish": {"source_owner": "nobody", "source_terms": "CC0"},
}


def heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Runs:
    """The command, its key, and the digests of a run that was never stopped."""

    def __init__(self, root: Path) -> None:
        self.environment = os.environ | {"PHANTOMSET_KEY_FILE": str(root / "config" / "key")}
        (root / "r.yaml").write_text(yaml.safe_dump(RECIPE))
        tool = str(Path(sys.executable).parent / "phantomset")
        self.command = [tool, "generate", str(root / "r.yaml"), "--plain", "--threads", "1", "--json"]
        self.straight = self.digests(root / "straight")

    def start(self, place: Path) -> "subprocess.Popen[str]":
        command = [*self.command, "--workspace", str(place)]
        pipe = subprocess.PIPE
        # A suite that was started in the background hands down an ignored Ctrl-C.
        return subprocess.Popen(
            command,
            stdout=pipe,
            stderr=pipe,
            text=True,
            env=self.environment,
            preexec_fn=heed_interrupts,  # noqa: PLW1509
        )

    def digests(self, place: Path) -> list[str]:
        out, err = self.start(place).communicate(timeout=240)
        assert out, err
        return [stage["digest"] for stage in json.loads(out)["stages"]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("runs"))


def wait_for_training(process: "subprocess.Popen[str]", place: Path) -> None:
    """Return when a few checkpoints were written and the training goes on."""
    limit = time.monotonic() + 240
    while time.monotonic() < limit and process.poll() is None:
        names = sorted(path.name for path in place.glob("restricted/checkpoints/*/checkpoint-*"))
        if names and names[-1] > "checkpoint-00000025":
            return
        time.sleep(0.02)
    raise AssertionError(f"training was not seen at work: {process.communicate()[1][-500:]}")


SIGNALS = [
    signal.SIGKILL,
    *(pytest.param(each, marks=pytest.mark.slow) for each in (signal.SIGINT, signal.SIGTERM)),
]


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_stopped_training_resumes_to_the_same_set(
    runs: Runs, tmp_path: Path, number: signal.Signals
) -> None:
    """Killed, interrupted or terminated: the same command ends with the digests of a straight run.

    Ctrl-C and SIGTERM save first and end with 130; SIGKILL leaves the last checkpoint.
    """
    place = tmp_path / "stopped"
    process = runs.start(place)
    wait_for_training(process, place)
    os.kill(process.pid, number)
    out, err = process.communicate(timeout=60)
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert (process.returncode, json.loads(out)["exit_code"]) == (130, 130), err
        assert "Traceback" not in err
    reached = max(path.name for path in place.glob("restricted/checkpoints/*/checkpoint-*"))
    assert reached < "checkpoint-00000200"
    assert runs.digests(place) == runs.straight
