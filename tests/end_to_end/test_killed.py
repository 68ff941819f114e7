"""`phantomset ingest`, killed by -9 from outside at twenty random moments: it goes on to the same end."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import yaml
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from phantomset.data.store.archive import SYNC_BYTES, Store
from phantomset.data.workspace import Workspace

FILES, SIDE = 220, 200
"""Together more noise than `SYNC_BYTES`: what was decoded first is safe before the rest is."""

TOOL = str(Path(sys.executable).parent / "phantomset")
RECIPE = {
    "name": "killed",
    "source": {
        "format": "dicom",
        "path": "ward",
        "labels": {"table": "labels.csv", "key": "file", "column": "finding"},
        "patient": {"tag": "PatientID"},
    },
    "image": {"size_px": SIDE},
    "publish": {"source_owner": "nobody", "source_terms": "CC0"},
}
STEPS = {
    "decoding and sealing": 7,
    "settling duplicates": 3,
    "saving the cohort": 3,
    "the split and the review page": 2,
    "the residual scan": 5,
}
"""The steps of an ingest, and how often it is killed in each."""


def _radiograph(path: Path, number: int) -> None:
    """Write a radiograph of noise; every patient has two."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    meta.MediaStorageSOPInstanceUID = f"1.2.7.{number}"
    made = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID, made.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    made.Modality, made.ImageType = "DX", ["ORIGINAL", "PRIMARY"]
    made.PatientName, made.PatientID = f"Quorndale{number // 2}^Ada", f"Q{number // 2:04d}"
    pixels = np.random.default_rng(number).integers(0, 4096, (SIDE, SIDE), dtype=np.uint16)
    made.Rows, made.Columns, made.PixelData = SIDE, SIDE, pixels.tobytes()
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 12, 11, 0
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.save_as(path, enforce_file_format=True)


class Run:
    """The command at work in a process group of its own, and how far it is, seen from outside."""

    def __init__(self, recipe: Path, place: Path) -> None:
        self._place, self._begun, self._has_journal = place, time.time_ns(), False
        command = [TOOL, "ingest", str(recipe), "--workspace", str(place), "--plain", "--json"]
        more = ["--workers", "2", "--threads", "1"]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            [*command, *more], stdout=pipe, stderr=pipe, text=True, start_new_session=True
        )

    @property
    def step(self) -> int:
        """The number of the step that it is in; -1 before it holds its workspace."""
        restricted, pid = self._place / "restricted", self.process.pid
        if self._is_new("review/*.html"):
            return 4
        if self._is_new("cohorts/inputs/*/ingest.json"):
            return 3
        if any(restricted.glob(f"incoming/cohort-{pid}-*")):
            return 2
        # SQLite keeps this file as long as the journal is open, and a killed run leaves it.
        is_open, lock = (restricted / "cohorts" / "journal.sqlite-wal").exists(), self._place / ".lock"
        is_held = lock.exists() and lock.read_text() == str(pid)
        self._has_journal |= is_held and is_open and self._is_new("cohorts/journal.sqlite-shm")
        return int(self._has_journal and not is_open) if is_held else -1

    def _is_new(self, pattern: str) -> bool:
        files = (self._place / "restricted").glob(pattern)
        return any(path.stat().st_mtime_ns > self._begun for path in files)

    def comes_to(self, step: int) -> bool:
        """Wait for a step, or a later one; return False where it ends before."""
        while self.process.poll() is None:
            if self.step >= step:
                return True
            time.sleep(0.003)
        return False

    def is_killed_after(self, seconds: float) -> bool:
        """Kill all its processes by -9 after some time; return False where it ends before."""
        time.sleep(seconds)  # `wait` looks up only every fiftieth of a second
        if self.process.poll() is not None:
            return False
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()
        return True

    def digest(self) -> str:
        """Wait for its end, which must be a good one, and return the digest of its cohort."""
        out, err = self.process.communicate(timeout=240)
        assert self.process.returncode == 0, err[-500:]
        (stage,) = json.loads(out)["stages"]
        return str(stage["digest"])


def timed(run: Run) -> list[float]:
    """Let a run go through and return how many seconds it spends in each step."""
    begun: list[float] = []
    for step in range(len(STEPS)):
        assert run.comes_to(step)
        begun.append(time.monotonic())
    run.process.wait(240)
    return np.diff([*begun, time.monotonic()]).tolist()


def held(place: Path) -> tuple[dict[str, bytes], list[str], list[tuple[str, ...]]]:
    """Return all that a workspace holds: files of the restricted part, the store's images, journal's rows.

    Packs differ by how often an open one was sealed; what lies in them does not.
    """
    restricted = place / "restricted"
    files = {
        path.relative_to(restricted).as_posix(): path.read_bytes() if path.is_file() else b""
        for path in restricted.rglob("*")
        if path.parent.name != "objects" and not path.name.startswith("journal.sqlite")
    }
    with closing(sqlite3.connect(restricted / "cohorts" / "journal.sqlite")) as connection:
        rows = connection.execute("SELECT * FROM files ORDER BY path").fetchall()
    return files, Store(Workspace(place)).digests(), rows


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe over radiographs of 110 patients, one of them twice, and a broken file."""
    ward = tmp_path / "ward"
    ward.mkdir()
    for number in range(FILES):
        _radiograph(ward / f"{number:03d}.dcm", number)
    (ward / "copy.dcm").write_bytes((ward / "000.dcm").read_bytes())
    (ward / "broken.dcm").write_bytes((ward / "001.dcm").read_bytes()[:3000])
    rows = [f"{number:03d}.dcm,{'ab'[number // 2 % 2]}" for number in range(FILES)]
    (ward / "labels.csv").write_text("\n".join(["file,finding", *rows, "copy.dcm,a", "broken.dcm,a"]))
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(RECIPE))
    return path


@pytest.mark.slow
def test_killed_at_twenty_moments(recipe: Path, tmp_path: Path) -> None:
    """Killed by -9 with all its workers at twenty moments, the same command ends as if it never had been.

    An undisturbed run says how long each step takes. A moment is a random share of that time after the step
    was seen to begin, so that short steps are hit too, and on one workspace one kill follows the other, from
    step to step. A run that ended, or was killed in a later step, before its moment came goes through to its
    end; then that step is taken to last half as long and the next run begins in a new workspace. At each end
    the cohort, the split, the review page and the journal are equal to the bit to the undisturbed run's, the
    store holds the same images and is sound, and no file is there, half-written or other, that the
    undisturbed run did not leave.
    """
    assert FILES * SIDE**2 > SYNC_BYTES
    undisturbed = Run(recipe, tmp_path / "undisturbed")
    seconds = timed(undisturbed)
    digest, expected = undisturbed.digest(), held(tmp_path / "undisturbed")
    chance = np.random.default_rng(7)
    moments = [(step, chance.random()) for step, kills in enumerate(STEPS.values()) for _ in range(kills)]
    hits: Counter[str] = Counter()
    place, ends = tmp_path / "killed-0", 0
    while moments:
        run, (step, share) = Run(recipe, place), moments[0]
        is_killed = run.comes_to(step) and run.is_killed_after(share * seconds[step])
        if is_killed:
            hits[list(STEPS)[run.step]] += 1
        if is_killed and run.step == step:
            moments.pop(0)
            continue
        _hold_equal(Run(recipe, place) if is_killed else run, place, digest, expected)
        ends, seconds[step] = ends + 1, seconds[step] / 2  # the machine has more time now than it had
        assert ends < 30
        place = tmp_path / f"killed-{ends}"
    _hold_equal(Run(recipe, place), place, digest, expected)
    print(f"killed in {dict(hits)}, {ends + 1} workspaces")
    assert all(hits[name] >= kills for name, kills in STEPS.items())


def _hold_equal(run: Run, place: Path, digest: str, expected: object) -> None:
    """Hold that a run ends well, and that its workspace is as one that nobody disturbed."""
    assert run.digest() == digest
    assert held(place) == expected
    assert not [*place.rglob("*.part")]
    doctor = [TOOL, "doctor", "--workspace", str(place), "--verify-store"]
    assert subprocess.run(doctor, capture_output=True).returncode == 0
