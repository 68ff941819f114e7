"""What `--dry-run` says a training takes, beside what it then takes: time, memory, disk.

    python tests/benchmarks/estimate.py pneumoniamnist --set source.path=pneumoniamnist.npz

Time is that of the training alone, from its first image to its last; memory is the peak of the whole process,
to which the estimate adds the cohort's pixels; disk is by how much the workspace grows at most, from the
ingested cohort to the end of the whole run, whatever its verdict. Aim: each within 30%.
"""

import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

VERDICTS = (0, 3, 4)
"""Exit codes of a run that came to its end: PASS, FAIL, INCONCLUSIVE."""


def number(text: str, unit: str) -> float:
    """Return the number before a unit, such as 1234 in ``about 1,234 MB``."""
    found = re.search(rf"([\d,.]+) ?{unit}", text)
    if found is None:
        raise ValueError(f"no {unit} in {text!r}")
    return float(found[1].replace(",", ""))


def size(folder: Path) -> int:
    """Return the bytes in a folder, files that go away meanwhile left out."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total


def main() -> None:
    """Ask, then train, then compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE")
    parser.add_argument("--threads", default="2")
    options = parser.parse_args()
    command = [str(Path(sys.executable).with_name("phantomset"))]
    more = [part for each in options.set for part in ("--set", each)]
    more += ["--threads", options.threads, "--json"]
    with tempfile.TemporaryDirectory() as place:
        more += ["--workspace", place]
        dry = [*command, "run", options.recipe, "--dry-run", *more]
        told = json.loads(subprocess.run(dry, check=True, capture_output=True).stdout)
        subprocess.run(
            [*command, "ingest", options.recipe, "--plain", *more], check=True, capture_output=True
        )
        cohort = largest = size(Path(place))
        done = threading.Event()

        def watch() -> None:
            nonlocal largest
            while not done.wait(0.2):
                largest = max(largest, size(Path(place)))

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        begun = time.monotonic()
        train = [*command, "train", options.recipe, "--plain", *more]
        answer = json.loads(subprocess.run(train, check=True, capture_output=True).stdout)
        whole = time.monotonic() - begun
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6
        run = subprocess.run([*command, "run", options.recipe, "--plain", *more], capture_output=True)
        done.set()
        watcher.join()
    if run.returncode not in VERDICTS:
        sys.exit(run.stderr.decode())
    stage = next(each for each in answer["stages"] if each["stage"] == "train")
    print(
        json.dumps(
            {
                "told": told,
                "command_seconds": round(whole, 1),
                "train_stage": stage,
                "peak_mb": round(peak),
                "told_mb": number(told["memory"], "MB"),
                "disk_mb": round((largest - cohort) / 1e6, 1),
                "told_disk_mb": number(told["disk"], "MB"),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
