"""The demo's cohort: chest-radiograph-like phantoms, seeded, written as real DICOM files.

The files are what a hospital would hand over: with names, dates and identifiers of invented people, from
several scanners, and with some that are broken, doubled or must not be taken in. They go through ingest like
any others.
"""

from pathlib import Path

import numpy as np

from phantomset.data.phantoms.anatomy import FINDINGS as FINDINGS
from phantomset.data.phantoms.anatomy import Array
from phantomset.data.phantoms.files import write_files
from phantomset.data.phantoms.visits import unit_batches, visits
from phantomset.data.pixels.canonical import ImageSettings, canonical


def phantoms(patients: int, seed: int = 0, size_px: int = 28) -> tuple[Array, Array, Array]:
    """Return a phantom cohort as arrays, without files.

    Returns:
        images ``(N, 1, size_px, size_px)`` uint8, bright is dense; labels ``(N,)`` int64, positions in
        `FINDINGS`; patients ``(N,)`` int64. N is about 1.6 times the number of patients.
    """
    plan = visits(patients, seed)
    settings = ImageSettings(size_px=size_px)
    images = [canonical(unit, settings) for batch in unit_batches(plan) for unit in batch]
    return np.stack(images), plan.findings, plan.patients


def write_phantoms(folder: Path, patients: int = 2900, seed: int = 0) -> None:
    """Write a phantom cohort into an empty folder: DICOM files and ``labels.csv`` (file, finding, sex, view).

    12-bit grey, 64 x 64 pixels, explicit VR little endian, full headers of invented people; beside the sound
    files eleven that ingest must keep out (fewer below 275 images): truncated, empty, no DICOM, a report, a
    burned-in name, doubled under other names, without patient, without label.

    Raises:
        WorkspaceError: the folder cannot be written.
    """
    plan = visits(patients, seed)
    write_files(folder, plan, unit_batches(plan))
