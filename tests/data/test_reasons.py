"""Every reason code of the quarantine, each raised by a whole ingest over an input made for it."""

import warnings
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from phantomset.data import catalogue
from phantomset.data.deidentify import DeidentifySettings
from phantomset.data.ingest import ingest
from phantomset.data.pixels.canonical import ImageSettings
from phantomset.data.quarantine.reasons import REASONS
from phantomset.data.records import Cohort
from phantomset.data.splitting.groups import DuplicateSettings
from phantomset.data.workspace import Workspace

from .reason_inputs import MAKERS, Bench, Case

OF_NO_FILE = {
    "CHARSET_UNKNOWN": "data/test_reasons.py::test_an_unknown_character_set_is_told_and_the_file_is_kept",
    "SPLIT_LINK": "pipelines/test_review.py::"
    "test_what_would_join_two_parts_is_in_the_ledger_and_in_the_counts",
    "RARE_CLASS": "pipelines/test_conditions.py::test_rare_combinations_are_left_out_where_that_is_asked_for",
    "RESIDUAL_HIT": "pipelines/test_residue.py::test_a_writer_that_leaks_is_caught",
}
"""Codes with which ingest keeps no file out: of a run, of a split; and the test that raises each."""


@pytest.fixture
def bench(
    tmp_path: Path,
    make_dicom: Callable[..., bytes],
    make_png: Callable[..., bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> Bench:
    """An empty folder, and what writes files."""
    (tmp_path / "in").mkdir()
    return Bench(tmp_path / "in", make_dicom, make_png, monkeypatch)


def _taken(bench: Bench, case: Case, workspace: Workspace) -> Cohort:
    """Ingest what a case made, among sound files."""
    sound: dict[str, bytes] = {}
    if case.kind == "nifti":
        flat = np.random.default_rng(1).integers(0, 99, (9, 9, 1)).astype(np.int16)
        sound = {"flat.nii": nibabel.Nifti1Image(flat, None).to_bytes()}
    elif "labels" not in case.source:
        for number in range(3):
            pixels = np.random.default_rng(40 + number).integers(0, 4096, (8, 8), dtype=np.uint16)
            radiograph = bench.dicom(pixels, PatientID=f"S{number}")
            sound[f"s{number}"] = radiograph if case.kind == "dicom" else bench.picture(40 + number)
    for name, content in (sound | case.files).items():
        (bench.root / name).write_bytes(content)
    source = {"format": case.kind, "path": bench.root} | case.source
    settings = catalogue.load("phantomset.data.sources", case.kind).Settings.model_validate(source)
    rules = DeidentifySettings(accept_quarantined_share=1)
    image, near = ImageSettings(size_px=32), DuplicateSettings.model_validate({"near": case.near})
    return ingest(settings, image, rules, workspace, workers=case.workers, duplicates=near)[0]


@pytest.mark.parametrize("code", sorted(MAKERS))
def test_a_file_is_kept_out_with_the_code(code: str, bench: Bench, workspace: Workspace) -> None:
    """The code stands in the counts, sound files are taken in, and every file is one or the other."""
    cohort = _taken(bench, MAKERS[code](bench), workspace)
    assert set(cohort.quarantine) == {code}
    assert cohort.records
    assert cohort.files == len(cohort.records) + sum(cohort.quarantine.values())


def test_no_code_is_without_an_input() -> None:
    """A code that nothing raises is no code; those of no single file have a test of their own."""
    assert MAKERS.keys() | OF_NO_FILE.keys() == REASONS.keys()
    assert MAKERS.keys().isdisjoint(OF_NO_FILE)
    for code, where in OF_NO_FILE.items():
        path, name = where.split("::")
        text = (Path(__file__).parents[1] / path).read_text()
        body = text.partition(f"def {name}(")[2].partition("\ndef ")[0]
        assert code in body, code


def test_an_unknown_character_set_is_told_and_the_file_is_kept(bench: Bench, workspace: Workspace) -> None:
    """CHARSET_UNKNOWN is a note on the run and a count of files, and keeps none out."""
    with warnings.catch_warnings(action="ignore"):
        case = Case({"x": bench.dicom(SpecificCharacterSet="ISO_IR 999")})
        cohort = _taken(bench, case, workspace)
    assert (len(cohort.records), cohort.quarantine) == (4, {})
    assert any("(CHARSET_UNKNOWN)" in note for note in cohort.notes)
    assert cohort.dropped["unknown character sets"] == 1
