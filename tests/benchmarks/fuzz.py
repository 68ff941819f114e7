"""Feed the readers with broken inputs: `python tests/benchmarks/fuzz.py --count 21000`.

Real inputs of every format are changed at random (`broken.py`). Files are decoded in worker processes under
their limits; arrays, archives and label tables are read to their end under the same limits, and one in fifty
of them goes through a whole ingest, in a fresh workspace. Wanted, each time: images or reason codes, or a
SourceError (exit code 2) where the input as a whole is refused. What ends otherwise is a defect, and its
number is printed. Outcomes lie in --folder, one line an input, and the same command goes on after the last.
"""

import argparse
import json
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from broken import FILES, TABLE, WHOLE, Broken, Files, broken, specimens

from phantomset.data import catalogue, keys
from phantomset.data.decoding.one_file import Finished, decode_file, finish
from phantomset.data.decoding.workers import PATIENCE, Bounds, Job, decode_all
from phantomset.data.deidentify import DeidentifySettings
from phantomset.data.errors import SourceError
from phantomset.data.file_source import FileSource, Listed
from phantomset.data.ingest import ingest
from phantomset.data.inputs import source_of
from phantomset.data.pixels.canonical import ImageSettings
from phantomset.data.reading.tree import Member
from phantomset.data.records import RawImage, Rejected
from phantomset.data.source import ReadContext, Source, SourceSettings
from phantomset.data.workspace import Workspace

DATASETS = Path(__file__).parents[3] / "shared" / "datasets"
RELEASED = frozenset({"BURNED_IN_RISK"})
"""As a reviewed list would: secondary captures must reach their decoder."""

UNWANTED = ("INTERNAL_ERROR", "DECODER_CRASH", "DECODE_TIMEOUT")
IMAGE = ImageSettings(size_px=16, fit="pad")
BOUNDS = Bounds(seconds=20)
INGESTED_EVERY = 50
SETTINGS: dict[str, dict[str, Any]] = {
    "medmnist": {"format": "medmnist"},
    "idx": {"format": "idx"},
    "zip": {"format": "folder", "labels": {"from": "folder"}},
    "table": {
        "format": "folder",
        "labels": {"table": TABLE, "key": "file", "column": "label"},
        "patient": {"column": "lesion_id"},
        "attributes": ["age", "sex", "localization"],
        "bands": {"age": [18, 40, 65]},
    },
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one input.

    Attributes:
        images: how many came out of it.
        codes: how often each reason code was given.
        refused: the class of the error that ended it; empty where none did.
    """

    images: int = 0
    codes: dict[str, int] = field(default_factory=dict[str, int])
    refused: str = ""

    @property
    def is_wanted(self) -> bool:
        """True for images, codes that are none of ours, and a SourceError."""
        said = self.images or self.codes or self.refused
        return bool(said) and self.refused in ("", "SourceError") and not self.codes.keys() & set(UNWANTED)


def outcomes(
    kind: str, datasets: Path, numbers: Iterable[int], seed: int, every: int = INGESTED_EVERY
) -> Iterator[tuple[int, Outcome]]:
    """Yield numbers of broken inputs, in order, with what became of them.

    ``every``: of those that are read as a whole, the share that is ingested, one in so many.
    """
    sound = specimens(kind, datasets)
    return (
        _decoded(kind, sound, numbers, seed) if kind in FILES else _whole(kind, sound, numbers, seed, every)
    )


def _decoded(
    kind: str, sound: list[Files], numbers: Iterable[int], seed: int
) -> Iterator[tuple[int, Outcome]]:
    source: FileSource = catalogue.load("phantomset.data.sources", kind)
    settings = source.Settings.model_validate({"format": kind, "path": "."})
    context = ReadContext(DeidentifySettings(accept_faces=True))
    job = Job(source, Broken(kind, sound, seed), settings, IMAGE, context)
    files = (Listed(Member(str(number), 0), waived=RELEASED) for number in numbers)
    for listed, answer in decode_all(job, files, 1, BOUNDS):
        yield int(listed.member.key), _counted(each.item for each in answer.finished or ())


def _whole(
    kind: str, sound: list[Files], numbers: Iterable[int], seed: int, every: int
) -> Iterator[tuple[int, Outcome]]:
    """Each in a process that is replaced when it dies."""
    pool = None
    try:
        for number in numbers:
            pool = pool or _guarded()
            try:
                files = broken(kind, sound, seed, number)
                yield number, pool.submit(_read, kind, files, number % every == 0).result()
            except BrokenProcessPool:
                pool.shutdown()
                pool = None
                yield number, Outcome(refused="died")
    finally:
        if pool is not None:
            pool.shutdown()


def _guarded() -> ProcessPoolExecutor:
    way = multiprocessing.get_context("forkserver")
    return ProcessPoolExecutor(1, way, initializer=_bind, initargs=(str(keys.key_file()),))


def _bind(key_file: str) -> None:
    """Set the limits that a worker has, and silence what decoders print."""
    os.environ[keys.VARIABLE] = key_file
    silence = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(silence, stream)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + BOUNDS.address_bytes
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _read(kind: str, files: Files, is_ingested: bool) -> Outcome:
    signal.setitimer(signal.ITIMER_PROF, BOUNDS.seconds)  # unhandled, it ends the process
    signal.setitimer(signal.ITIMER_REAL, BOUNDS.seconds * PATIENCE)
    with tempfile.TemporaryDirectory() as folder:
        return outcome_of(kind, files, Path(folder), is_ingested)


def outcome_of(kind: str, files: Files, folder: Path, is_ingested: bool) -> Outcome:
    """Write the files of an input into a folder, and read them to their end or ingest them there."""
    for name, content in files.items():
        (folder / "input" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "input" / name).write_bytes(content)
    place = folder / "input" / "file" if kind in ("medmnist", "zip") else folder / "input"
    given = SETTINGS[kind] | {"path": place}
    settings = catalogue.load("phantomset.data.sources", given["format"]).Settings.model_validate(given)
    try:
        if not is_ingested:
            return _counted(each.item for each in _all_of(settings))
        deidentify = DeidentifySettings(accept_quarantined_share=1)
        cohort, _ = ingest(settings, IMAGE, deidentify, Workspace.open(folder / "workspace"), workers=0)
        return Outcome(len(cohort.records), cohort.quarantine)
    except SourceError as error:  # of an input of which nothing is left it names the codes
        return Outcome(codes={code: 1 for code in UNWANTED if code in str(error)}, refused="SourceError")
    except Exception as error:
        return Outcome(refused=type(error).__name__)


def _all_of(settings: SourceSettings) -> Iterator[Finished]:
    """What ingest makes of an input before the store."""
    source, context = source_of(settings), ReadContext()
    source.fingerprint(settings)
    if isinstance(source, Source):
        yield from finish(source.read(settings, context), IMAGE)
        return
    tree, files = source.files(settings, context)
    for listed in files:
        yield from decode_file(source, tree, listed, settings, IMAGE, context).finished or ()


def _counted(items: Iterable[RawImage | Rejected]) -> Outcome:
    found = list(items)
    codes = Counter(item.code for item in found if isinstance(item, Rejected))
    return Outcome(len(found) - codes.total(), dict(codes))


def main() -> None:
    """Fuzz every kind, and print what became of the inputs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=21_000, help="inputs in total, a seventh a kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", default=[*FILES, *WHOLE])
    parser.add_argument("--datasets", type=Path, default=os.environ.get("PHANTOMSET_DATASETS", DATASETS))
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "fuzz")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault(keys.VARIABLE, str(asked.folder / "key" / "key"))
    count = -(-asked.count // len(FILES + WHOLE))
    is_clean = True
    print("| kind | inputs | with images | images | with codes | codes | SourceError | unwanted |")
    for kind in asked.kinds:
        found = _resumed(kind, asked.datasets, count, asked.seed, asked.folder / f"{kind}-{asked.seed}.jsonl")
        is_clean &= _told(kind, found)
    raise SystemExit(not is_clean)


def _resumed(kind: str, datasets: Path, count: int, seed: int, path: Path) -> list[Outcome]:
    lines = path.read_text().splitlines() if path.exists() else []
    found = [Outcome(**json.loads(line)) for line in lines[:count]]
    with path.open("a") as log:
        for number, outcome in outcomes(kind, datasets, range(len(found), count), seed):
            print(json.dumps(asdict(outcome)), file=log, flush=True)
            found.append(outcome)
            if not outcome.is_wanted:
                print(f"{kind} {number}: {outcome}", file=sys.stderr, flush=True)
    return found


def _told(kind: str, found: list[Outcome]) -> bool:
    """Print the figures of a kind; True where all ended as wanted."""
    codes = Counter[str]()
    for outcome in found:
        codes.update(outcome.codes)
    refused = Counter(outcome.refused for outcome in found if outcome.refused)
    unwanted = sum(not outcome.is_wanted for outcome in found)
    print(
        f"| {kind} | {len(found):,} | {sum(outcome.images > 0 for outcome in found):,} "
        f"| {sum(outcome.images for outcome in found):,} "
        f"| {sum(bool(outcome.codes) for outcome in found):,} | {codes.total():,} "
        f"| {refused['SourceError']:,} | {unwanted:,} |"
    )
    print("   ", ", ".join(f"{count:,} {code}" for code, count in codes.most_common()), flush=True)
    return not unwanted


if __name__ == "__main__":
    main()
