"""Broken files of every format: a picture or a reason code. tests/benchmarks/fuzz.py makes many more."""

import importlib.util
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from phantomset.data import catalogue
from phantomset.data.decoding.workers import Bounds, Job, decode_all
from phantomset.data.deidentify import DeidentifySettings
from phantomset.data.file_source import Listed
from phantomset.data.pixels.canonical import ImageSettings
from phantomset.data.reading.tree import open_tree
from phantomset.data.records import Rejected
from phantomset.data.source import Limits, ReadContext

_SCRIPT = Path(__file__).parents[1] / "benchmarks" / "fuzz.py"
COUNT = 60


@pytest.mark.parametrize("kind", ["dicom", "nifti", "folder"])
def test_broken_files_end_in_a_picture_or_a_code(kind: str, tmp_path: Path) -> None:
    """60 changed files a source, in workers with limits: no bug of ours, no decoder that dies or hangs."""
    spec = importlib.util.spec_from_file_location("fuzz", _SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    fuzz = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fuzz)
    sound = [content for name, content in fuzz.specimens() if name == kind]
    for number in range(COUNT):
        chance = np.random.default_rng([7, number])
        (tmp_path / f"{number:03d}").write_bytes(fuzz.mutated(sound[number % len(sound)], chance))
    source = catalogue.load("phantomset.data.sources", kind)
    settings = source.Settings.model_validate({"format": kind, "path": tmp_path})
    tree = open_tree(tmp_path, Limits())
    context = ReadContext(DeidentifySettings(accept_faces=True))
    job = Job(source, tree, settings, ImageSettings(size_px=16, fit="pad"), context)
    found: Counter[str] = Counter()
    files = (Listed(member, waived=fuzz.RELEASED) for member in tree.members())
    for _, answer in decode_all(job, files, 2, Bounds(seconds=20)):
        codes = [each.item.code for each in answer.finished or () if isinstance(each.item, Rejected)]
        found[codes[0] if codes else "a picture"] += 1
    assert sum(found.values()) == COUNT
    assert not found.keys() & {"INTERNAL_ERROR", "DECODER_CRASH", "DECODE_TIMEOUT"}
    assert len(found) > 1
