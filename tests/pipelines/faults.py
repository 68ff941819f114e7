"""A publisher that is stopped at a chosen step. A program of its own: what watches its steps stays for good.

    python faults.py killed ROOT SEED    publishes, each time killed at another step; prints what others saw
    python faults.py full ROOT SEED      publishes, each time with a disk that is full from some step on
    python faults.py together ROOT SEED  several at once, under one name
    python faults.py watched ROOT SEED   publishes in every form; prints which restricted places were touched

A step is what Python's audit events tell of the file system: opening, renaming, making, removing.
"""

import errno
import json
import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import drafts

from phantomset.data import catalogue
from phantomset.data.errors import ReleaseError
from phantomset.data.workspace import Workspace
from phantomset.pipelines.releases import manifest, release

STEPS = {"open", "os.rename", "os.mkdir", "os.chmod", "os.remove", "os.rmdir", "os.link", "shutil.rmtree"}
MOMENTS, FULL_MOMENTS = 20, 6


def publish(workspace: Workspace, name: str, seed: int = 1) -> int:
    """Publish a small set; return 0, or 2 where it was refused in words."""
    try:
        release.publish(workspace, drafts.draft(synthetic=drafts.images(9, seed), name=name))
    except ReleaseError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def at_step(act: Callable[[str, tuple[Any, ...], int], None]) -> None:
    """Call ``act(event, arguments, number)`` at each step from now on."""
    count = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event in STEPS:
            count += 1
            act(event, arguments, count)

    sys.addaudithook(hook)


def child(work: Callable[[], int]) -> int:
    """Do the work in a process of its own and return its process id."""
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(work())
        except BaseException as error:  # a bug must not go on as a second parent
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            os._exit(1)
    return pid


def ended(pid: int) -> int:
    """Wait for a process; return its exit code, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def steps_of(workspace: Workspace) -> int:
    """Return how many steps a publication takes."""
    place = workspace.root / "steps"

    def counted() -> int:
        total = 0

        def note(event: str, arguments: tuple[Any, ...], number: int) -> None:
            nonlocal total
            total = number

        at_step(note)
        code = publish(workspace, "counted")
        place.write_text(str(total))
        return code

    assert ended(child(counted)) == 0
    return int(place.read_text())


def seen(workspace: Workspace) -> dict[str, list[str]]:
    """Return what others see under ``releases/``: each version, and what is wrong with it."""
    folder = workspace.root / "releases"
    names = [item for item in folder.iterdir() if item.is_dir() and item.name[0] != "."]
    found = [path for name in names for path in name.iterdir()]
    return {path.relative_to(folder).as_posix(): manifest.problems(path) for path in found}


def killed(workspace: Workspace, chance: random.Random) -> list[dict[str, Any]]:
    """Kill a publisher at each of some random steps, the last included."""
    steps = steps_of(workspace)
    answers: list[dict[str, Any]] = []
    for moment in [*sorted(chance.sample(range(1, steps), MOMENTS - 1)), steps]:

        def work(moment: int = moment) -> int:
            at_step(
                lambda _event, _arguments, number: number == moment and os.kill(os.getpid(), signal.SIGKILL)
            )
            return publish(workspace, "killed")

        answers.append({"moment": moment, "code": ended(child(work)), "seen": seen(workspace)})
    code = ended(child(lambda: publish(workspace, "killed")))
    left = [item.name for item in (workspace.root / "releases").glob(".part-*")]
    return [*answers, {"moment": None, "code": code, "seen": seen(workspace), "left": left}]


def full(workspace: Workspace, chance: random.Random) -> list[dict[str, Any]]:
    """Let the disk be full from a random step on: every opening for writing, and every new folder, fails."""
    steps = steps_of(workspace)
    answers: list[dict[str, Any]] = []
    for moment in sorted(chance.sample(range(1, steps), FULL_MOMENTS)):

        def refuse(event: str, arguments: tuple[Any, ...], number: int, moment: int = moment) -> None:
            mode = int(arguments[2] or 0) if event == "open" else 0
            writes = event == "os.mkdir" or mode & (os.O_WRONLY | os.O_RDWR)
            if number >= moment and writes and "releases" in str(arguments[0]):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def work(refuse: Any = refuse) -> int:
            at_step(refuse)
            return publish(workspace, "full")

        answers.append({"moment": moment, "code": ended(child(work)), "seen": seen(workspace)})
        left = [item.name for item in (workspace.root / "releases").glob(".part-*")]
        answers[-1]["left"] = left
    return answers


def together(workspace: Workspace, chance: random.Random) -> list[dict[str, Any]]:
    """Publish different sets under one name from several processes at once."""
    seeds = chance.sample(range(100), 4)
    running = [child(lambda seed=seed: publish(workspace, "together", seed)) for seed in seeds]
    return [{"codes": [ended(pid) for pid in running], "seen": seen(workspace)}]


def watched(workspace: Workspace, chance: random.Random) -> list[dict[str, Any]]:
    """Publish in every form beside a real image, and tell which restricted folders were looked into."""
    restricted, real = workspace.root / "restricted", workspace.restricted("objects", "real.png")
    real.write_bytes(chance.randbytes(100))
    touched: set[str] = set()

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event in {"open", "os.listdir", "os.scandir", "os.link", "os.symlink"}:
            path = Path(os.fsdecode(arguments[0])) if isinstance(arguments[0], str | bytes) else Path()
            if path.is_relative_to(restricted):
                touched.update(path.relative_to(restricted).parts[:1])

    recipe = drafts.draft().recipe
    formats = list(catalogue.names("phantomset.pipelines.publishers"))
    recipe = {**recipe, "publish": {**recipe["publish"], "formats": formats}}
    sys.addaudithook(note)
    made = release.publish(workspace, drafts.draft(synthetic=drafts.images(9, 1), recipe=recipe))
    answer = {"touched": sorted(touched), "formats": made.manifest["formats"]}
    real.read_bytes()  # the wire must trip
    return [{**answer, "then": sorted(touched)}]


def main() -> None:
    """Run one of these and print its answers."""
    mode, root, seed = sys.argv[1:]
    act = {"killed": killed, "full": full, "together": together, "watched": watched}[mode]
    print(json.dumps(act(Workspace.open(Path(root)), random.Random(int(seed)))))


if __name__ == "__main__":
    main()
