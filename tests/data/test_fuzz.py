"""Broken inputs of every format: images, codes or a SourceError. tests/benchmarks/fuzz.py makes many more."""

import importlib
from pathlib import Path
from typing import Any

import pytest

_BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def fuzz(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The benchmark, where the processes that it starts find it too."""
    monkeypatch.syspath_prepend(str(_BENCHMARKS))
    return importlib.import_module("fuzz")


@pytest.mark.parametrize("kind", ["dicom", "nifti", "folder"])
def test_broken_files_end_in_images_or_a_code(kind: str, fuzz: Any, datasets: Path) -> None:
    """40 changed files a source, in a worker with limits: no bug of ours, no decoder that dies or hangs."""
    found = [outcome for _, outcome in fuzz.outcomes(kind, datasets, range(40), seed=7)]
    assert len(found) == 40
    assert [outcome for outcome in found if not outcome.is_wanted] == []
    assert any(outcome.images for outcome in found)
    assert len({code for outcome in found for code in outcome.codes}) > 2


@pytest.mark.parametrize("kind", ["medmnist", "idx", "zip", "table"])
def test_broken_inputs_are_ingested_or_refused(kind: str, fuzz: Any, datasets: Path) -> None:
    """12 changed archives, arrays and tables through a whole ingest: a cohort, or the exit code 2."""
    found = [outcome for _, outcome in fuzz.outcomes(kind, datasets, range(12), seed=7, every=1)]
    assert len(found) == 12
    assert [outcome for outcome in found if not outcome.is_wanted] == []
    assert any(outcome.images for outcome in found)
    assert any(outcome.refused or outcome.codes for outcome in found)


def test_what_is_a_defect(fuzz: Any) -> None:
    """A code of ours, another error, a process that died, and nothing at all."""
    assert fuzz.Outcome(images=2, codes={"LOW_CONTENT": 1}).is_wanted
    assert fuzz.Outcome(refused="SourceError").is_wanted
    for codes in ({"INTERNAL_ERROR": 1}, {"DECODER_CRASH": 1}, {"DECODE_TIMEOUT": 1}):
        assert not fuzz.Outcome(images=1, codes=codes).is_wanted
        assert not fuzz.Outcome(codes=codes, refused="SourceError").is_wanted
    assert not fuzz.Outcome(refused="KeyError").is_wanted
    assert not fuzz.Outcome().is_wanted
