"""Ingest: files a second against a plain pydicom loop, use of the cores, memory, and what a rerun decodes.

    python tests/benchmarks/ingest.py [--files 400] [--rounds 3] [--workers 2]
    python tests/benchmarks/ingest.py --files 0 [--memory 2000 20000] [--grow 10000 100] [--list 1000000]

Files are CT slices of 512 x 512, 16 bit, each its own, written in several transfer syntaxes. The plain loop
is what a script would do, in one process: `pydicom.dcmread`, `pixel_array`, rescaling and window, a small
picture as PNG, a line of a table. Beside it stands decoding alone, with nothing made of it. Where
pydicom has no decoder for the syntax (JPEG lossless) it needs python-gdcm, which is no dependency of ours:
install it into a throw-away environment, or that ratio is left out. Rounds take turns, so that a machine
that is busy elsewhere slows both. What follows decoding in a whole run (near-duplicates, the split, the
review page, the residual scan) is no part of these rates. Peak memory is that of the whole command,
`phantomset ingest --plain`: of the parent, and of it and its workers at once.
"""

import argparse
import contextlib
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import psutil
import pydicom
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.uid import JPEGLosslessSV1, RLELossless

from phantomset.data.decoding import workers as workers_module
from phantomset.data.decoding.one_file import Answer
from phantomset.data.deidentify import DeidentifySettings
from phantomset.data.ingest import ingest
from phantomset.data.phantoms.cohort import write_phantoms
from phantomset.data.pixels.canonical import ImageSettings
from phantomset.data.reading.tree import open_tree
from phantomset.data.source import Limits
from phantomset.data.sources.dicom import Settings
from phantomset.data.splitting.groups import DuplicateSettings
from phantomset.data.workspace import Workspace

PLUGINS = {"native": "", "rle": "pydicom", "jpeg-lossless": "gdcm"}
"""Transfer syntax to the plugin of the plain loop: pydicom's own, else the first that people install."""


IMAGES_A_PATIENT = 1.6
"""Of phantoms, for memory: slices that are shifts of each other would all pass for near-copies."""


SIZE_PX = 64


def write_files(folder: Path, syntax: str, count: int, side: int = 512) -> None:
    """Write that many CT slices, a patient each, all different."""
    folder.mkdir(parents=True)
    sample = pydicom.dcmread(str(get_testdata_file("CT_small.dcm"))).pixel_array.astype(np.uint16)
    plane = np.kron(sample, np.ones((-(-side // 128), -(-side // 128)), dtype=np.uint16))[:side, :side]
    rng = np.random.default_rng(5)
    for number in range(count):
        data = pydicom.dcmread(str(get_testdata_file("CT_small.dcm")))
        stored = np.roll(plane, number * 7, axis=number % 2) + rng.integers(
            0, 9, plane.shape, dtype=np.uint16
        )
        data.Rows = data.Columns = side
        data.PixelRepresentation, data.PatientID = 0, f"P{number}"
        data.SOPInstanceUID, data.StudyInstanceUID = f"1.2.3.{number}.1", f"1.2.3.{number}"
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
        data.PixelData = stored.tobytes()
        if syntax == "rle":
            data.compress(RLELossless, encoding_plugin="pylibjpeg")
        elif syntax == "jpeg-lossless":
            data.PixelData = encapsulate([imagecodecs.jpeg8_encode(stored, lossless=True, bitspersample=16)])
            data["PixelData"].is_undefined_length = True
            data.file_meta.TransferSyntaxUID = JPEGLosslessSV1
        data.save_as(folder / f"{number:06d}.dcm")


def decode_loop(folder: Path, plugin: str) -> None:
    """Read and decode every file, and drop what was decoded."""
    for path in sorted(folder.iterdir()):
        data = pydicom.dcmread(path)
        data.pixel_array_options(decoding_plugin=plugin)
        assert data.pixel_array.size


def plain_loop(folder: Path, plugin: str) -> None:
    """Make a small picture of every file and a table beside them, as a script would, in one process."""
    with tempfile.TemporaryDirectory() as place, (Path(place) / "table.csv").open("w") as table:
        for path in sorted(folder.iterdir()):
            data = pydicom.dcmread(path)
            data.pixel_array_options(decoding_plugin=plugin)
            stored = apply_voi_lut(apply_modality_lut(data.pixel_array, data), data)
            grey = np.clip((stored - stored.min()) / max(float(np.ptp(stored)), 1.0) * 255, 0, 255)
            picture = Image.fromarray(grey.astype(np.uint8)).resize((SIZE_PX, SIZE_PX), Image.Resampling.BOX)
            picture.save(Path(place) / f"{path.stem}.png")
            name = hashlib.sha256(f"{data.PatientID}".encode()).hexdigest()
            table.write(f"{path.stem},{name},{data.Modality},{data.get('BodyPartExamined', '')}\n")


def ours(folder: Path, workers: int, near: str = "group") -> None:
    """Ingest every file into a fresh workspace."""
    with tempfile.TemporaryDirectory() as place:
        settings = Settings.model_validate({"format": "dicom", "path": folder})
        deidentify, image = DeidentifySettings(accept_faces=True), ImageSettings(size_px=SIZE_PX)
        workspace, duplicates = Workspace.open(Path(place)), DuplicateSettings.model_validate({"near": near})
        ingest(settings, image, deidentify, workspace, workers=workers, duplicates=duplicates)


def rate(work: Callable[[], None], count: int) -> tuple[float, float, float]:
    """Files a second by the clock; milliseconds of CPU a file, of all processes and of workers alone."""
    started, spent, own = time.perf_counter(), cpu_seconds(), time.process_time()
    work()
    wall, cpu = time.perf_counter() - started, cpu_seconds() - spent
    return count / wall, cpu / count * 1e3, (cpu - (time.process_time() - own)) / count * 1e3


def cpu_seconds() -> float:
    """What this process and its children have used, with those that ended."""
    this = psutil.Process()
    return sum(sum(each.cpu_times()[:4]) for each in (this, *this.children()))


def memory(count: int, workers: int) -> dict[str, int]:
    """Peak resident MiB over about that many phantom files: of the parent, and of all processes at once."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "in"
        folder.mkdir()
        write_phantoms(folder, round(count / IMAGES_A_PATIENT))
        command = [Path(sys.executable).with_name("phantomset"), "ingest", "phantom", "--plain"]
        command += ["--set", f"source.path={folder}", "--set", f"image.size_px={SIZE_PX}"]
        command += ["--workspace", f"{place}/workspace", "--workers", str(workers)]
        own_key = os.environ | {"PHANTOMSET_KEY_FILE": f"{place}/key"}
        parent = together = 0
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=own_key) as measured:
            while measured.poll() is None:
                process = psutil.Process(measured.pid)
                with contextlib.suppress(psutil.NoSuchProcess):
                    parent = max(parent, process.memory_info().rss)
                together = max(together, resident(process))
                time.sleep(0.1)
        assert measured.returncode == 0
        files = sum(1 for _ in folder.rglob("*.dcm"))
        return {"files": files, "parent_mib": parent >> 20, "together_mib": together >> 20}


def resident(process: psutil.Process) -> int:
    """Return the bytes that a process and its children hold now."""
    total = 0
    for each in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += each.memory_info().rss
    return total


def grown(count: int, more: int) -> dict[str, object]:
    """Ingest that many small files, then the same and some more; count what was decoded each time."""
    decoded: list[int] = []
    decode = workers_module.decode_file

    def counted(*given: Any) -> Answer:
        answer = decode(*given)
        decoded[-1] += answer.finished is not None
        return answer

    workers_module.decode_file = counted
    seconds: list[float] = []
    with tempfile.TemporaryDirectory() as place:
        folder, aside = Path(place) / "in", Path(place) / "aside"
        write_files(folder, "native", count + more, side=64)
        aside.mkdir()
        for path in sorted(folder.iterdir())[count:]:
            path.rename(aside / path.name)
        workspace = Workspace.open(Path(place) / "workspace")
        for _ in range(2):
            decoded.append(0)
            started = time.process_time()
            settings = Settings.model_validate({"format": "dicom", "path": folder})
            ingest(
                settings,
                ImageSettings(size_px=32),
                DeidentifySettings(accept_faces=True),
                workspace,
                workers=0,
            )
            seconds.append(round(time.process_time() - started, 1))
            for path in aside.iterdir():
                path.rename(folder / path.name)
    workers_module.decode_file = decode
    return {"files": count, "more": more, "decoded": decoded, "cpu_seconds": seconds}


def listed(count: int) -> dict[str, object]:
    """List a folder of that many empty files: CPU seconds, and the MiB by which this process grew."""
    with tempfile.TemporaryDirectory() as place:
        for number in range(count):
            (Path(place) / f"{number:07d}.dcm").touch()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.process_time()
        found = len(open_tree(Path(place), Limits()).members())
        spent = round(time.process_time() - started, 1)
        grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        return {"files": found, "cpu_seconds": spent, "mib": grown_kib >> 10}


def main() -> None:
    """Print one JSON object a measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--memory", type=int, nargs="*", default=[])
    parser.add_argument("--grow", type=int, nargs=2)
    parser.add_argument("--list", type=int, metavar="FILES")
    asked = parser.parse_args()
    for syntax in PLUGINS if asked.files else ():
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "in"
            write_files(folder, syntax, asked.files)
            print(json.dumps(compare(syntax, folder, asked.files, asked.rounds, asked.workers)))
    if asked.grow:
        print(json.dumps(grown(*asked.grow)))
    if asked.list:
        print(json.dumps(listed(asked.list)))
    for count in asked.memory:
        print(json.dumps(memory(count, asked.workers)))


def compare(syntax: str, folder: Path, files: int, rounds: int, workers: int) -> dict[str, object]:
    """Return the medians of rounds in turns, files a second.

    ``share`` is the speed-up over one worker, for each worker; ``busy`` the time that workers compute, of the
    time that there is on as many cores; ``ratio`` the speed over that of the loop that makes the same
    pictures; ``bound`` what the ratio would be if no core ever waited, from CPU times, which say more on a
    busy machine. Near-copies are not looked for: the slices are shifts of each other.
    """
    ways: dict[str, Callable[[], None]] = {
        "one worker": lambda: ours(folder, 1, "off"),
        f"{workers} workers": lambda: ours(folder, workers, "off"),
    }
    if not PLUGINS[syntax] or find_spec(PLUGINS[syntax]):
        ways["plain loop"] = lambda: plain_loop(folder, PLUGINS[syntax])
        ways["decoding alone"] = lambda: decode_loop(folder, PLUGINS[syntax])
    turns = [{way: rate(work, files) for way, work in ways.items()} for _ in range(rounds)]
    row, cpu_ms, worker_ms = (
        {way: round(float(np.median([turn[way][figure] for turn in turns])), 2) for way in ways}
        for figure in (0, 1, 2)
    )
    together = row[f"{workers} workers"]
    share = round(together / row["one worker"] / workers, 2)
    ratio = round(together / row["plain loop"], 2) if "plain loop" in row else None
    bound = ratio and round(workers * cpu_ms["plain loop"] / cpu_ms[f"{workers} workers"], 2)
    return {
        "syntax": syntax,
        "files": files,
        **row,
        "share": share,
        "busy": round(together * worker_ms[f"{workers} workers"] / 1e3 / workers, 2),
        "ratio": ratio,
        "bound": bound,
        "cpu_ms": cpu_ms,
    }


if __name__ == "__main__":
    main()
