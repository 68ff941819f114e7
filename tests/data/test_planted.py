"""Eighty-nine planted identifiers: none is left, no file is lost, and only what must be is kept out."""

from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from phantomset.data import catalogue
from phantomset.data.deidentify import DeidentifySettings
from phantomset.data.ingest import ingest
from phantomset.data.keys import pseudonym
from phantomset.data.pixels.canonical import ImageSettings
from phantomset.data.records import Cohort
from phantomset.data.store.archive import Store
from phantomset.data.workspace import Workspace

from .planted import SIDE, Plant
from .planted_places import PLACES, corpus

Report = dict[str, tuple[str, str]]


def take(folder: Path, workspace: Workspace) -> Cohort:
    """Ingest a folder of single images."""
    settings = catalogue.load("phantomset.data.sources", "dicom").Settings(path=folder)
    deidentify = DeidentifySettings(accept_quarantined_share=0.2)
    return ingest(settings, ImageSettings(size_px=SIDE), deidentify, workspace)[0]


def written(workspace: Workspace) -> bytes:
    """Every byte that ingest wrote: file names, raw bytes, unpacked tables, all pixels of the store."""
    store = Store(workspace)
    found = [image.tobytes() for _, image in store.read(store.digests())]
    for path in sorted(workspace.root.rglob("*")):
        found.append(str(path.relative_to(workspace.root)).encode())
        if path.is_file():
            found.append(path.read_bytes())
        if path.suffix == ".parquet":
            found.append(pd.read_parquet(path).to_csv().encode())
    return b"\n".join(found).lower()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """What became of each place: removed, quarantined, left or lost, with the reason code."""
    place = tmp_path_factory.mktemp("planted")
    (place / "in").mkdir()
    (place / "twins").mkdir()
    plants: list[Plant] = []
    for plant, content, twin in corpus():
        (place / "in" / plant.name).write_bytes(content)
        (place / "twins" / f"t{plant.number:02d}.dcm").write_bytes(twin)
        plants.append(plant)
    workspace = Workspace.open(place / "workspace")
    cohort = take(place / "in", workspace)
    everything = written(workspace)
    ledger = pd.read_parquet(next(workspace.root.rglob("quarantine.parquet"))).set_index("path")["code"]
    twins = _twin_digests(place, len(plants))
    digests = {record.digest for record in cohort.records}

    def fate(plant: Plant) -> tuple[str, str]:
        kept_out = str(ledger.get(pseudonym("path", plant.name), ""))
        if any(token.lower() in everything for token in plant.tokens):
            return "left", kept_out
        if kept_out:
            return "quarantined", kept_out
        return ("removed" if twins[plant.number] in digests else "lost"), ""

    return {plant.place: fate(plant) for plant in plants}


def _twin_digests(place: Path, count: int) -> dict[int, str]:
    """The digest of each file's pixels, as its clean twin has it."""
    found: dict[int, str] = {}
    for number in range(1, count + 1):
        single = place / f"single{number}"
        single.mkdir()
        (single / "t.dcm").write_bytes((place / "twins" / f"t{number:02d}.dcm").read_bytes())
        found[number] = take(single, Workspace.open(place / f"w{number}")).records[0].digest
    return found


def test_none_is_left_and_none_is_lost(report: Report) -> None:
    """89 places: 0 left, 0 lost; a file is kept out only where its class or its header demands it."""
    assert len(PLACES) == len(report) == 89
    assert {place: fate for place, fate in report.items() if fate[0] in ("left", "lost")} == {}
    expected = {place: code for _, place, _, code in PLACES if code}
    assert {place: code for place, (_, code) in report.items() if code} == expected
    assert Counter(fate for fate, _ in report.values()) == {"removed": 82, "quarantined": 7}


def test_the_table_of_the_docs_is_what_was_found(report: Report) -> None:
    """Each place has a row in docs/benchmarks.md, and the row says what became of it."""
    text = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text()
    rows = [row.strip("| ").split(" | ") for row in text.splitlines() if row.startswith("| ")]
    told = {(row[0], row[1]): row[2] for row in rows if len(row) > 3}
    for group, place, _, _ in PLACES:
        fate, code = report[place]
        assert told[group, place] == (f"kept out, `{code}`" if fate == "quarantined" else fate)


def test_the_search_would_find_what_is_left(tmp_path: Path) -> None:
    """Each token is found in the file that carries it: the search is not blind."""
    blind = [
        plant.place
        for plant, content, _ in corpus()
        if plant.tokens
        and not any(token.lower() in content.lower() + plant.name.lower().encode() for token in plant.tokens)
    ]
    assert blind == []


def test_places_are_those_of_the_comparison(datasets: Path) -> None:
    """The corpus has the places of the table in which eleven de-identifiers were measured."""
    table = datasets.parent / "INGEST-planted.csv"
    if not table.exists():
        pytest.skip("the table of the comparison is absent")
    assert [(row.group, row.place) for row in pd.read_csv(table).itertuples()] == [
        (group, place) for group, place, _, _ in PLACES
    ]
