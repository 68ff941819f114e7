"""Decoding over processes: order, limits, and what a decoder that dies, hangs or swells costs."""

import importlib
import multiprocessing
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from phantomset.data.decoding.one_file import Finished
from phantomset.data.decoding.workers import Bounds, Job, decode_all
from phantomset.data.errors import SourceError
from phantomset.data.file_source import FileSource, Listed
from phantomset.data.pixels.canonical import ImageSettings
from phantomset.data.reading.tree import open_tree
from phantomset.data.records import RawImage, Rejected
from phantomset.data.source import Limits, ReadContext

IMAGE = ImageSettings(size_px=8)


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FileSource:
    """A source whose decoder does what the file says; a module of its own, so that a worker can import it."""
    (tmp_path / "hostile_source.py").write_text(
        textwrap.dedent("""
        import os, signal
        import numpy as np
        from phantomset.data.file_source import FileSource
        from phantomset.data.records import RawImage
        from phantomset.data.source import SourceSettings

        def decode(content, settings, context, waived):
            if content == b"crash":
                os.kill(os.getpid(), signal.SIGSEGV)
            while content == b"hang":
                pass
            if content == b"swell":
                bytearray(1 << 45)
            if content == b"fault":
                raise KeyError("a value of the file")
            side = 16 if content == b"wide" else 8
            pixels = np.random.default_rng(list(content)).random((8, side), dtype=np.float32)
            yield RawImage("", pixels, None, None)

        def nothing(settings, context=None):
            return None

        SOURCE = FileSource("hostile", SourceSettings, nothing, decode, nothing)
        """)
    )
    monkeypatch.syspath_prepend(tmp_path)
    source: FileSource = importlib.import_module("hostile_source").SOURCE
    return source


def _run(
    source: FileSource, folder: Path, contents: list[bytes], workers: int, **bounds: Any
) -> list[tuple[Listed, list[Finished]]]:
    folder.mkdir(exist_ok=True)
    for number, content in enumerate(contents):
        (folder / f"{number:03d}").write_bytes(content)
    tree = open_tree(folder, Limits())
    job = Job(source, tree, source.Settings(format="hostile"), IMAGE, ReadContext())
    files = [Listed(member, label="x") for member in tree.members()]
    answers = decode_all(job, files, workers, Bounds(**bounds))
    return [(listed, [one.told(listed) for one in answer.finished or ()]) for listed, answer in answers]


def _codes(answers: list[tuple[Listed, list[Finished]]]) -> list[str]:
    return [item.item.code if isinstance(item.item, Rejected) else "" for _, (item,) in answers]


def test_a_decoder_that_dies_costs_one_file(hostile: FileSource, tmp_path: Path) -> None:
    """Killed by a signal, endless, out of memory or raising: a code each; all others arrive, in order."""
    contents = [b"a", b"crash", b"b", b"hang", b"c", b"swell", b"d", b"fault", b"e"]
    answers = _run(hostile, tmp_path / "in", contents, 2, seconds=2)
    assert _codes(answers) == [
        *("", "DECODER_CRASH", "", "DECODE_TIMEOUT", "", "TOO_MANY_PIXELS", "", "INTERNAL_ERROR", "")
    ]
    assert [listed.member.key for listed, _ in answers] == [f"{number:03d}" for number in range(9)]
    assert multiprocessing.active_children() == []


def test_the_number_of_workers_decides_nothing(hostile: FileSource, tmp_path: Path) -> None:
    """None, one and three give the same images in the same order, with the labels of their files."""
    contents = [bytes([number]) for number in range(40)]
    found = [_run(hostile, tmp_path / "in", contents, workers) for workers in (0, 1, 3)]
    images = [
        [item.pixels.tobytes() for _, (item,) in answers if item.pixels is not None] for answers in found
    ]
    assert len(images[0]) == 40
    assert images[0] == images[1] == images[2]
    assert all(isinstance(item.item, RawImage) and item.item.label == "x" for _, (item,) in found[2])


def test_an_error_of_the_recipe_ends_the_run(hostile: FileSource, tmp_path: Path) -> None:
    """An image that cannot fit without a rule is the recipe's fault, not the file's; no worker is left."""
    with pytest.raises(SourceError, match="16 x 8"):
        _run(hostile, tmp_path / "in", [b"a", b"wide", b"b"], 2)
    assert multiprocessing.active_children() == []


def test_a_worker_does_not_start_the_program_again(
    hostile: FileSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What runs here may take seconds to import, and the workers need none of it."""
    trace = tmp_path / "started"
    program = tmp_path / "program.py"
    program.write_text(f"open({str(trace)!r}, 'w').close()")
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(program), raising=False)
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    assert _codes(_run(hostile, tmp_path / "in", [b"a"], 1)) == [""]
    assert not trace.exists()
    assert sys.modules["__main__"].__file__ == str(program)
