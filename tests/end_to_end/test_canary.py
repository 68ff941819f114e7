"""A name planted in the source, or the project key, is found nowhere that others read, Prefect or not."""

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import yaml
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from phantomset.data import errors
from phantomset.data.residual.vocabulary import prefect_words, program_words, words_of

KeyIn = Callable[[Path | str], list[tuple[str, str]]]

CANARY = "Kanarienvogel"
RECIPE = {
    "name": "canary",
    "source": {
        "format": "dicom",
        "path": "ward",
        "labels": {"table": "labels.csv", "key": "file", "column": "finding"},
        "patient": {"tag": "PatientID"},
    },
    "image": {"size_px": 8},
    "deidentify": {"accept_quarantined_share": 0.2},
    "model": {"budget": {"images": 64}, "batch_size": 16, "settings": {"latent": 4, "widths": [8]}},
    "generate": {"count": 20},
    "publish": {"source_owner": "nobody", "source_terms": "CC0"},
}


def plant(path: Path, number: int) -> None:
    """Write one radiograph with the canary wherever a header can carry text."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.SourceApplicationEntityTitle = CANARY
    made = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID, made.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    made.Modality, made.ImageType = "DX", ["ORIGINAL", "PRIMARY"]
    made.PatientName, made.PatientID = f"{CANARY}^Anna", f"{CANARY}{number:03d}"
    for keyword in ("InstitutionName", "StudyDescription", "ReferringPhysicianName", "PatientComments"):
        setattr(made, keyword, CANARY)
    made.add_new((0x0009, 0x0010), "LO", CANARY)
    pixels = np.random.default_rng(number).integers(0, 4096, (16, 16), dtype=np.uint16)
    made.Rows, made.Columns, made.PixelData = 16, 16, pixels.tobytes()
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 12, 11, 0
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.save_as(path, enforce_file_format=True)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    ward = tmp_path / "ward"
    ward.mkdir()
    rows = ["file,finding"]
    for number in range(120):
        name = f"{CANARY}_{number}.dcm"
        plant(ward / name, number)
        rows.append(f"{name},{'ab'[number % 2]}")
    (ward / "labels.csv").write_text("\n".join(rows))
    (ward / f"{CANARY}_broken.dcm").write_bytes(b"\0" * 128 + b"DICM" + CANARY.encode() * 9)
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(RECIPE))
    return path


def run(recipe: Path, place: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    tool = str(Path(sys.executable).parent / "phantomset")
    command = [tool, "run", str(recipe), "--workspace", str(place), "--threads", "1", *options]
    # Tests that import the flows set Prefect's variables for this process; the command chooses its own.
    own = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return subprocess.run(command, capture_output=True, text=True, timeout=600, env=own)


def holders(root: Path) -> list[Path]:
    """Return every file of a folder that holds the canary in its bytes or its name."""
    word = CANARY.encode()
    return [p for p in root.rglob("*") if p.is_file() and (word in p.read_bytes() or CANARY in p.name)]


def digests(done: "subprocess.CompletedProcess[str]") -> list[str]:
    return [stage["digest"] for stage in json.loads(done.stdout)["stages"]]


@pytest.mark.slow
def test_the_canary_stays_in_its_ward(recipe: Path, tmp_path: Path, key_in: KeyIn) -> None:
    """Neither in the whole workspace, restricted part included, nor in what is printed; nor is the key."""
    done = run(recipe, tmp_path / "workspace", "--plain")
    assert done.returncode in (3, 4), done.stderr
    assert holders(tmp_path / "workspace") == []
    assert CANARY not in done.stdout + done.stderr
    assert len(holders(tmp_path / "ward")) == 122, "the search finds it where it is"
    assert key_in(tmp_path / "workspace") == key_in(done.stdout + done.stderr) == []


@pytest.mark.slow
def test_the_canary_is_unknown_to_prefect(
    recipe: Path, tmp_path: Path, key_in: KeyIn, key_forms: dict[str, bytes]
) -> None:
    """Nor in Prefect's database, and the key neither; and the digests are those of a run without Prefect.

    The second run fails inside ingest on purpose: what an exception says does not reach the database either.
    """
    place = tmp_path / "workspace"
    done = run(recipe, place, "--json")
    assert done.returncode in (3, 4), done.stderr
    strict = ("--set", "deidentify.accept_quarantined_share=0", "--set", "seed=5")
    spoiled = run(recipe, place, "--json", *strict)
    assert spoiled.returncode == 2, spoiled.stderr
    for answer in (done, spoiled):
        assert CANARY not in answer.stdout + answer.stderr
        assert key_in(answer.stdout + answer.stderr) == []
        assert "Traceback" not in answer.stderr
    assert (place / "prefect" / "prefect.db").exists()
    assert holders(place) == key_in(place) == []
    assert str(tmp_path / "ward").encode() not in (place / "prefect" / "prefect.db").read_bytes()
    assert digests(done) == digests(run(recipe, tmp_path / "plain", "--json", "--plain"))
    check_record(place / "prefect" / "prefect.db")
    assert unknown_words(place) == set()
    hold_that_the_key_would_be_found(place, key_in, key_forms)


def hold_that_the_key_would_be_found(place: Path, key_in: KeyIn, key_forms: dict[str, bytes]) -> None:
    """In a copy of the workspace: in a row of Prefect's database, and in any form in a log and in a name."""
    copy = place.with_name("copy")
    shutil.copytree(place, copy)
    with sqlite3.connect(copy / "prefect" / "prefect.db") as connection:
        connection.execute("update artifact set description = ?", (key_forms["as it stands"].decode(),))
    connection.close()
    assert {form for form, found in key_in(copy) if Path(found).name.startswith("prefect.db")}
    shutil.rmtree(copy / "prefect")
    assert key_in(copy) == []
    log = next((copy / "runs").glob("*/log.jsonl"))
    honest = log.read_bytes()
    for form, key in key_forms.items():
        log.write_bytes(honest + b'{"event": "' + key + b'"}\n')
        assert (form, str(log)) in key_in(log.parent)
    log.write_bytes(honest)
    (copy / "blocked" / key_forms["as it stands"].decode()).mkdir()
    assert key_in(copy)


def unknown_words(place: Path) -> set[str]:
    """Words in Prefect's database that the residual scan would take for a source's, were they in one."""
    known = program_words() | words_of([yaml.safe_dump(RECIPE), str(place), *prefect_words(place)])
    known |= {name.lower() for name in vars(errors)}  # of our errors their type is written
    with sqlite3.connect(place / "prefect" / "prefect.db") as connection:
        tables = [name for (name,) in connection.execute("select name from sqlite_master where type='table'")]
        rows = [row for name in tables for row in connection.execute(f'select * from "{name}"')]  # noqa: S608 - its own table
    connection.close()
    texts = [_unescaped(cell) for row in rows for cell in row if isinstance(cell, str)]
    return {word for word in words_of(texts) - known if not re.fullmatch(r"[0-9a-f]+|\d.*", word)}


def _unescaped(text: str) -> str:
    r"""A text of JSON, or of JSON within JSON, with "é" for "\u00e9"."""
    return re.sub(r"\\+u([0-9a-f]{4})", lambda found: chr(int(found[1], 16)), text)


def check_record(database: Path) -> None:
    """The first run: one flow, five subflows, three artifacts. The second: a refusal, by type and digest."""
    with sqlite3.connect(database) as connection:
        names = [name for (name,) in connection.execute("select name from flow")]
        artifacts = {key for (key,) in connection.execute("select key from artifact where key not null")}
        messages = [text or "" for (text,) in connection.execute("select message from flow_run_state")]
        runs = connection.execute("select count(*) from flow_run").fetchone()[0]
    connection.close()
    assert set(names) == {"phantomset", "ingest", "train", "generate", "validate", "publish"}
    assert artifacts == {"findings", "report", "training"}
    assert runs == 8
    assert any("Refused: SourceError" in text for text in messages)
    assert not any("quarantined" in text for text in messages)


def test_the_fixture_is_dicom(recipe: Path) -> None:
    """The planted files are read by pydicom, with the canary in the header."""
    path = sorted((recipe.parent / "ward").glob("*_0.dcm"))[0]
    assert CANARY in str(pydicom.dcmread(path).PatientName)
