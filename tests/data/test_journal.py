"""Files seen before are not decoded again; a run killed between two files goes on to the same digest."""

import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phantomset.data.decoding import one_file, workers
from phantomset.data.decoding.one_file import Answer
from phantomset.data.deidentify import DeidentifySettings
from phantomset.data.ingest import ingest
from phantomset.data.pixels.canonical import ImageSettings
from phantomset.data.reading import tree
from phantomset.data.reading.tree import read_file
from phantomset.data.records import Cohort
from phantomset.data.sources.folder import Settings
from phantomset.data.store.archive import Store
from phantomset.data.workspace import Workspace

Make = Callable[..., bytes]
Draw = Callable[[int], np.ndarray]


@pytest.fixture
def fill(tmp_path: Path, make_png: Make, gradient: Draw) -> Callable[[int], Path]:
    """Write pictures 0 to n-1, and a row of the label table for each."""

    def write(count: int) -> Path:
        folder = tmp_path / "in"
        folder.mkdir(exist_ok=True)
        for number in range(count):
            (folder / f"{number:04d}.png").write_bytes(make_png(gradient(number)))
        rows = "".join(f"{number:04d}.png,{number % 2}\n" for number in range(count))
        (folder / "labels.csv").write_text("file,label\n" + rows)
        return folder

    return write


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are decoded, in this process."""
    seen: list[str] = []

    def counting(source: Any, tree: Any, listed: Any, *more: Any) -> Answer:
        answer = one_file.decode_file(source, tree, listed, *more)
        if answer.finished is not None:
            seen.append(listed.member.key)
        return answer

    monkeypatch.setattr(workers, "decode_file", counting)
    return seen


def _ingest(
    folder: Path, workspace: Workspace, processes: int = 0, report: Callable[[int], None] | None = None
) -> Cohort:
    table = {"table": "labels.csv", "key": "file", "column": "label"}
    settings = Settings.model_validate({"format": "folder", "path": folder, "labels": table})
    image, deidentify = ImageSettings(size_px=8), DeidentifySettings()
    return ingest(settings, image, deidentify, workspace, report, workers=processes)[0]


def test_only_what_is_new_is_decoded(
    fill: Callable[[int], Path], decoded: list[str], workspace: Workspace, tmp_path: Path
) -> None:
    """Ten files more are ten files decoded; the cohort is the one of a first run over all of them."""
    _ingest(fill(20), workspace)
    assert len(decoded) == 20
    decoded.clear()
    grown = _ingest(fill(30), workspace)
    assert decoded == [f"{number:04d}.png" for number in range(20, 30)]
    assert grown == _ingest(fill(30), Workspace.open(tmp_path / "fresh"))


def test_a_changed_file_is_decoded_and_a_changed_label_is_not(
    fill: Callable[[int], Path], decoded: list[str], workspace: Workspace, make_png: Make, gradient: Draw
) -> None:
    """The content decides, not name or time; what the label table says is read anew each time."""
    folder = fill(8)
    first = _ingest(folder, workspace)
    decoded.clear()
    os.utime(folder / "0001.png", (1, 1))
    (folder / "0003.png").write_bytes(make_png(gradient(99)))
    table = (folder / "labels.csv").read_text().replace("0005.png,1", "0005.png,0")
    (folder / "labels.csv").write_text(table)
    second = _ingest(folder, workspace)
    assert decoded == ["0003.png"]
    assert sum(record.label for record in first.records) - sum(record.label for record in second.records) == 1


def test_images_that_the_store_lost_are_decoded_again(
    fill: Callable[[int], Path], decoded: list[str], workspace: Workspace
) -> None:
    """The journal is believed only as far as the store holds the images."""
    cohort = _ingest(fill(6), workspace)
    for path in workspace.restricted("objects").iterdir():
        path.unlink()
    decoded.clear()
    assert _ingest(fill(6), workspace) == cohort
    assert len(decoded) == 6
    assert Store(workspace).verify() == []


def test_a_new_input_is_read_once(
    fill: Callable[[int], Path], workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file of an input whose names and sizes are new is read when it is decoded, and not before; the
    table once as well. The key is the one that `ingest_key` makes of the same files, so it is known then.
    """
    folder, read = fill(6), Counter[str]()

    def counting(path: Path, *more: Any) -> bytes:
        read[path.name] += 1
        return read_file(path, *more)

    monkeypatch.setattr(tree, "read_file", counting)
    first = _ingest(folder, workspace)
    assert read == {**{f"{number:04d}.png": 1 for number in range(6)}, "labels.csv": 1}
    monkeypatch.setattr("phantomset.data.ingest._take", None)
    assert _ingest(folder, workspace) == first


@pytest.mark.parametrize("name", ["0001.png", "labels.csv"])
def test_what_changes_while_it_is_read_is_another_input(
    name: str,
    fill: Callable[[int], Path],
    workspace: Workspace,
    make_png: Make,
    gradient: Draw,
    tmp_path: Path,
) -> None:
    """The cohort is known by what was decoded: a file or a table replaced behind the run's back is seen by
    the next run, which ends as a first one does.
    """
    folder = fill(4)
    changed = make_png(gradient(77))
    if name == "labels.csv":
        changed = (folder / name).read_bytes().replace(b"0001.png,1", b"0001.png,0")

    def replace(files: int) -> None:
        if files == 3:
            (folder / name).write_bytes(changed)

    before = _ingest(folder, workspace, report=replace)
    after = _ingest(folder, workspace)
    assert after.records != before.records
    assert after == _ingest(folder, Workspace.open(tmp_path / "fresh"))


def test_equal_names_and_sizes_are_not_equal_contents(
    fill: Callable[[int], Path], workspace: Workspace
) -> None:
    """One label exchanged: sizes and names stay, the input is another."""
    folder = fill(4)
    _ingest(folder, workspace)
    path = folder / "labels.csv"
    path.write_text(path.read_text().replace("0001.png,1", "0001.png,0"))
    assert sum(record.label for record in _ingest(folder, workspace).records) == 1


def test_the_journal_holds_no_name_of_the_source(fill: Callable[[int], Path], workspace: Workspace) -> None:
    """Neither file names nor contents' plain digests are in it."""
    _ingest(fill(6), workspace)
    content = b"".join(path.read_bytes() for path in workspace.restricted("cohorts").glob("journal*"))
    assert content
    assert b".png" not in content


KILLED = textwrap.dedent("""
    import os, signal, sys
    from pathlib import Path
    from phantomset.data.store import archive
    from phantomset.data.deidentify import DeidentifySettings
    from phantomset.data.ingest import ingest
    from phantomset.data.pixels.canonical import ImageSettings
    from phantomset.data.sources.folder import Settings
    from phantomset.data.workspace import Workspace

    def stop(files):
        if files == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)

    if __name__ == "__main__":
        archive.SYNC_BYTES, archive.PACK_BYTES = 2048, int(sys.argv[4])
        settings = Settings.model_validate({"format": "folder", "path": sys.argv[1]})
        workspace = Workspace.open(Path(sys.argv[2]))
        image, rules = ImageSettings(size_px=8), DeidentifySettings()
        cohort, _ = ingest(settings, image, rules, workspace, stop, workers=2)
        print(cohort.digest, len(cohort.records))
""")


def _killed_at(moments: list[int], folder: Path, tmp_path: Path, pack_bytes: int = 6144) -> str:
    """Run until killed at each moment, and at last until -1, the end; return what the last run says."""
    script = tmp_path / "run.py"
    script.write_text(KILLED)
    for moment in moments:
        numbers = str(moment), str(pack_bytes)
        done = subprocess.run(
            [sys.executable, script, folder, tmp_path / "killed", *numbers], capture_output=True, text=True
        )
        assert done.returncode == (-signal.SIGKILL if moment > 0 else 0), done.stderr
    return done.stdout


def _whole(folder: Path, workspace: Workspace) -> str:
    settings = Settings.model_validate({"format": "folder", "path": folder})
    cohort = ingest(settings, ImageSettings(size_px=8), DeidentifySettings(), workspace, workers=0)[0]
    return f"{cohort.digest} {len(cohort.records)}\n"


def test_killed_twice_it_goes_on(fill: Callable[[int], Path], workspace: Workspace, tmp_path: Path) -> None:
    """Killed by -9 in the middle, the next run goes on: the same digest, and a sound store."""
    folder = fill(40)
    (folder / "labels.csv").unlink()
    assert _killed_at([11, 30, -1], folder, tmp_path) == _whole(folder, workspace)
    assert Store(Workspace.open(tmp_path / "killed")).verify() == []


def test_the_open_pack_of_a_killed_run_is_taken_over(
    fill: Callable[[int], Path], decoded: list[str], workspace: Workspace, tmp_path: Path
) -> None:
    """What was synced into a pack that was never sealed is not decoded again; its torn tail is."""
    folder = fill(40)
    (folder / "labels.csv").unlink()
    _killed_at([30], folder, tmp_path, pack_bytes=1 << 20)
    killed = Workspace.open(tmp_path / "killed")
    assert not list(killed.restricted("objects").iterdir())
    (left,) = killed.restricted("incoming").glob("open-*")
    left.write_bytes(left.read_bytes()[:-1] + b"\xff" * 99)
    resumed = _whole(folder, killed)
    assert 10 <= len(decoded) < 25  # at most 2 KiB of pixels, 5 files, and the last object were lost
    assert resumed == _whole(folder, workspace)
    assert Store(killed).verify() == []
    assert not list(killed.restricted("incoming").iterdir())


def test_a_cohort_that_was_half_taken_away_is_made_again(
    fill: Callable[[int], Path], workspace: Workspace
) -> None:
    """A run that was killed while it forgot its cohort, for a leak, may leave a part of the folder."""
    cohort = _ingest(fill(6), workspace)
    (workspace.restricted("cohorts", cohort.digest) / "records.parquet").unlink()
    assert _ingest(fill(6), workspace) == cohort
