"""The review report: what the data office is shown of an ingest."""

import csv
import re
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from phantomset.data import catalogue
from phantomset.data.cohorts import save
from phantomset.data.deidentify import DeidentifySettings
from phantomset.data.ingest import ingest
from phantomset.data.keys import pseudonym
from phantomset.data.pixels.canonical import ImageSettings, digest_of_pixels
from phantomset.data.quarantine.ledger import Ledger
from phantomset.data.records import Cohort, ImageSpec, Record, Split
from phantomset.data.splitting import split as splitting
from phantomset.data.splitting.split import SplitSettings, split
from phantomset.data.store.archive import Store
from phantomset.data.workspace import Workspace
from phantomset.pipelines.judgement.judging import counts
from phantomset.pipelines.report import review


def _input(folder: Path) -> Path:
    """Twelve pictures of twelve patients, four of them seen from behind; one empty file, one text file."""
    folder.mkdir()
    rows = ["file,label,patient,view"]
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        rows.append(f"{number}.png,{'ab'[number % 2]},P{number},{'PA' if number < 4 else 'AP'}")
    (folder / "labels.csv").write_text("\n".join([*rows, "empty.png,a,P12,AP", "note.png,a,P13,AP"]))
    (folder / "empty.png").write_bytes(b"")
    (folder / "note.png").write_bytes(b"no picture at all" * 20)
    return folder


def test_every_value_the_quarantine_and_a_look(tmp_path: Path) -> None:
    """Each kept value with its count, each reason with what to do, and all twelve pictures side by side; in
    the restricted part, for its owner alone, without a patient's or a file's name.
    """
    workspace = Workspace.open(tmp_path / "workspace")
    labels = {"table": "labels.csv", "key": "file", "column": "label"}
    source = {"path": _input(tmp_path / "in"), "labels": labels, "patient": {"column": "patient"}}
    kind = catalogue.load("phantomset.data.sources", "folder").Settings
    settings = kind.model_validate(source | {"attributes": ["view"]})
    rules = DeidentifySettings(accept_quarantined_share=1)
    cohort = ingest(settings, ImageSettings(size_px=16), rules, workspace, workers=0)[0]
    page = review.write(workspace, cohort, split(cohort, SplitSettings(), workspace))
    text = page.read_text()
    rows = [re.findall(r"<td>(.*?)</td>", row) for row in re.findall(r"<tr>.*?</tr>", text)]
    assert ["AP", "8"] in rows
    assert ["PA", "4"] in rows
    assert [row[:2] for row in rows if len(row) == 4] == [["EMPTY_FILE", "1"], ["NOT_RECOGNISED", "1"]]
    assert "14 files, 12 images of\n12 patients" in text
    sheet = page.with_suffix(".png")
    assert np.asarray(Image.open(sheet)).shape == (64, 12 * 64, 3)
    assert (np.asarray(Image.open(sheet)).max(axis=2) > 0).mean() > 0.9
    assert page.is_relative_to(workspace.root / "restricted")
    assert {path.stat().st_mode & 0o077 for path in (page, sheet)} == {0}
    assert not re.search(r"\bP1?\d\b|\d\.png<|note\.png", text.replace("PA", ""))


def test_what_would_join_two_parts_is_in_the_ledger_and_in_the_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twelve patients, then a thirteenth whose row joins one of train with one of holdout: its file stands
    in quarantine.parquet under its keyed name, in words, on the page and in what the run counts. So it does
    where a run died before it was entered.
    """
    workspace = Workspace.open(tmp_path / "workspace")
    folder = tmp_path / "in"
    folder.mkdir()

    def take(patients: int, joined: Collection[int] = ()) -> tuple[Cohort, Split]:
        rows = ["file,label,patient,family"]
        for number in range(patients):
            pixels = np.random.default_rng(number).integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
            rows.append(f"{number}.png,a,P{number},{'F' if number in joined else ''}")
        (folder / "labels.csv").write_text("\n".join(rows))
        labels = {"table": "labels.csv", "key": "file", "column": "label"}
        source = {"path": folder, "labels": labels, "patient": {"column": "patient"}}
        kind = catalogue.load("phantomset.data.sources", "folder").Settings
        settings = kind.model_validate(source | {"group": {"column": "family"}})
        cohort = ingest(settings, ImageSettings(size_px=8), DeidentifySettings(), workspace, workers=0)[0]
        return cohort, split(cohort, SplitSettings(), workspace)

    def number_of(cohort: Cohort, position: int) -> int:
        names = {pseudonym("patient", f"\0P{number}"): number for number in range(12)}
        return names[cohort.records[position].subject]

    def dies(*_: Any) -> None:
        raise MemoryError

    before, old = take(12)
    joined = (number_of(before, old.train[0]), number_of(before, old.holdout[0]), 12)
    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(splitting, "enter_links", dies)
        take(13, joined)
    grown, made = take(13, joined)
    assert len(made.left_out) == 1
    seen = counts(grown, made)
    assert seen.quarantine == {"SPLIT_LINK": 1}
    assert seen.files == 13 == seen.images + 1 == sum(seen.classes.values()) + 1
    assert seen.patients == 12 == sum(seen.parts.values())
    ledgers = {path: pd.read_parquet(path) for path in workspace.root.rglob("quarantine.parquet")}
    (path,) = (path for path, frame in ledgers.items() if len(frame))
    expected = [pseudonym("path", "12.png"), "SPLIT_LINK", 0, "identity", "folder", ""]
    assert ledgers[path].to_numpy().tolist() == [expected]
    assert path.with_suffix(".txt").read_text().startswith("1 files were kept out.\n1 x SPLIT_LINK")
    assert {each.stat().st_mode & 0o077 for each in path.parent.iterdir()} == {0}
    page = review.write(workspace, grown, made).read_text()
    assert "What was kept out: 1<" in page
    assert "<td>SPLIT_LINK</td><td>1</td>" in page


def test_the_table_beside_the_page_lists_every_value(tmp_path: Path) -> None:
    """250 values of which one is there once: the page shows the 200 commonest, the table all with the rarest
    first, its cells no formula.
    """
    rare, formula = "Rare", "-1.5"
    views = [f"v{number // 2}" for number in range(496)] + [formula] * 3 + [rare]
    pixels = np.zeros((1, 8, 8), dtype=np.uint8)
    digest = digest_of_pixels(pixels)
    records = tuple(
        Record(digest, f"{number:064x}", 0, str(number), str(number), {"view": view})
        for number, view in enumerate(views)
    )
    cohort = Cohort("c", ImageSpec(1, 8, 8), ("a",), records, 500, {}, {}, True)
    workspace = Workspace.open(tmp_path / "workspace")
    with Store(workspace).writer() as pack:
        pack.add(pixels, digest)
        pack.seal()
    save(workspace, "k" * 32, cohort, Ledger())
    page = review.write(workspace, cohort, Split("s", "c", tuple(range(500)), (), ()))
    assert "250 distinct, the 200 commonest here" in page.read_text()
    assert rare not in page.read_text()
    table = page.with_suffix(".csv")
    assert table.name in page.read_text()
    assert table.stat().st_mode & 0o077 == 0
    rows = list(csv.reader(table.read_text().splitlines()))
    assert rows[:2] == [["attribute", "value", "images"], ["view", rare, "1"]]
    assert rows[-1] == ["view", f"'{formula}", "3"]
    assert len(rows) == 251
    assert {row[1]: int(row[2]) for row in rows[1:]} == Counter(views[:496]) | {"'-1.5": 3, rare: 1}
