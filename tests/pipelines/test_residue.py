"""The residual scan within a run: what is clean passes; a writer that leaks ends with exit code 2."""

import json
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from phantomset.data import catalogue
from phantomset.data import ingest as ingesting
from phantomset.data.errors import BAD_INPUT, ResidualHit
from phantomset.data.keys import pseudonym
from phantomset.data.residual.areas import written
from phantomset.data.residual.vocabulary import program_words, words_of
from phantomset.data.splitting.split import split
from phantomset.data.store.archive import Store
from phantomset.pipelines import residue
from phantomset.pipelines.recipe import Recipe
from phantomset.pipelines.report import review
from phantomset.pipelines.residue import HITS
from phantomset.pipelines.stages import Job, run

NAME = "Winterhalter"


@pytest.fixture
def recipe(small: Callable[..., Recipe], tmp_path: Path) -> Recipe:
    """A hundred and twenty pictures of sixty patients; a table with a column that nobody declared."""
    folder = tmp_path / "ward"
    folder.mkdir()
    rows = ["file,finding,who,site"]
    for number in range(120):
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"p{number // 2}_{number}.png")
        side, site = "ab"[number // 2 % 2], ("ward", "hall")[number // 2 % 2]
        rows.append(f"p{number // 2}_{number}.png,{side},{NAME},{site}")
    (folder / "labels.csv").write_text("\n".join(rows))
    source = {
        "format": "folder",
        "path": folder,
        "labels": {"table": "labels.csv", "key": "file", "column": "finding"},
        "patient": {"regex": r"(p\d+)_"},
        "attributes": ["site"],
    }
    return small(source=source, gate={"subgroups": ["site"]})


def test_a_clean_ingest_passes(recipe: Recipe, job: Callable[..., Job]) -> None:
    """Declared columns may be kept; nothing else is found, and there is no list of hits."""
    made = job(recipe)
    assert run(made, until="ingest").cohort is not None
    assert not made.workspace.restricted("review", HITS).exists()


def test_a_writer_that_leaks_is_caught(
    recipe: Recipe, job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name slips into a record's attributes: RESIDUAL_HIT, nothing is left but the list of places."""
    honest = ingesting._cohort

    def leaky(*arguments: Any) -> Any:
        cohort = honest(*arguments)
        cohort.records[3].attributes["note"] = NAME
        return cohort

    monkeypatch.setattr(ingesting, "_cohort", leaky)
    made = job(recipe)
    before = set((made.workspace.root / "restricted").rglob("*"))
    with pytest.raises(ResidualHit, match=r"RESIDUAL_HIT: .*column in restricted") as caught:
        run(made, until="ingest")
    assert caught.value.exit_code == BAD_INPUT
    assert NAME not in str(caught.value)
    hits = made.workspace.restricted("review", HITS)
    assert set((made.workspace.root / "restricted").rglob("*")) - before == {hits}
    assert "records.parquet" in hits.read_text()
    assert NAME not in hits.read_text()


def _into_the_page(job: Job, page: Path) -> None:
    page.write_text(page.read_text().replace("</body>", f"<p>{NAME}</p></body>"))


def _into_the_log(job: Job, _: Path) -> None:
    job.ledger._open()
    job.ledger.log("note", said=NAME)


def _into_prefect(job: Job, _: Path) -> None:
    """Prefect keeps its artifacts in a table of this file (`compute.quiet_prefect`, tests/end_to_end)."""
    with closing(sqlite3.connect(job.workspace.root / "prefect" / "prefect.db")) as connection:
        connection.execute("create table artifact (key text, data json)")
        connection.execute("insert into artifact values ('report', ?)", (json.dumps({"of": NAME}),))
        connection.commit()


def _into_pixels(job: Job, ground: np.ndarray) -> bytes:
    """Store a picture with the name in its pixels; return its pack."""
    place = np.frombuffer(NAME.encode(), dtype=np.uint8)
    ground[0, 9, 9 : 9 + len(place)] = place
    objects = job.workspace.restricted("objects")
    before = set(objects.iterdir())
    Store(job.workspace).put(ground[None])
    (pack,) = (path for path in set(objects.iterdir()) - before if path.suffix == ".pack")
    return pack.read_bytes()


def _into_pixels_that_do_not_pack(job: Job, _: Path) -> None:
    noise = np.random.default_rng(7).integers(0, 256, (1, 64, 64), dtype=np.uint8)
    assert NAME.encode() in _into_pixels(job, noise)


def _into_packed_pixels(job: Job, _: Path) -> None:
    letters = np.random.default_rng(7).integers(97, 123, (1, 64, 64), dtype=np.uint8)
    assert NAME.encode() not in _into_pixels(job, letters)


def _into_the_sheet(job: Job, page: Path, packed: bool = False) -> None:
    sheet, note = page.with_suffix(".png"), PngInfo()
    note.add_text("Comment", f"of {NAME}", zip=packed)
    Image.open(sheet).save(sheet, pnginfo=note)
    assert (NAME.encode() in sheet.read_bytes()) != packed


def _into_a_packed_chunk(job: Job, page: Path) -> None:
    _into_the_sheet(job, page, packed=True)


def _into_a_file_name(job: Job, page: Path) -> None:
    page.with_name(f"{NAME}.txt").write_text("")


LEAKS = {
    _into_the_page: r"restricted/review/\w+\.html",
    _into_the_log: r"runs/[^/]+/log\.jsonl",
    _into_prefect: r"prefect/prefect\.db",
    _into_pixels_that_do_not_pack: r"pixels|restricted/objects/\w+\.pack",
    _into_packed_pixels: "pixels",
    _into_the_sheet: r"restricted/review/\w+\.png",
    _into_a_packed_chunk: r"restricted/review/\w+\.png",
    _into_a_file_name: "file names",
}


@pytest.mark.parametrize("leak", LEAKS, ids=lambda leak: leak.__name__.strip("_"))
def test_a_leak_is_caught_wherever_it_stands(
    leak: Callable[[Job, Path], None],
    recipe: Recipe,
    job: Callable[..., Job],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A name in a page, a log, Prefect's database, an object of the store, a picture's chunk or the name of a
    file: RESIDUAL_HIT, exit code 2, and the list says where it stands and never what.
    """
    honest, made = review.write, job(recipe)

    def leaky(*arguments: Any) -> Path:
        page = honest(*arguments)
        leak(made, page)
        return page

    monkeypatch.setattr(review, "write", leaky)
    before = set((made.workspace.root / "restricted").rglob("*"))
    with pytest.raises(ResidualHit, match=r"RESIDUAL_HIT: .*column in ") as caught:
        run(made, until="ingest")
    assert caught.value.exit_code == BAD_INPUT
    assert NAME not in str(caught.value)
    hits = made.workspace.restricted("review", HITS)
    assert set((made.workspace.root / "restricted").rglob("*")) - before == {hits}
    places = {line.split(",")[1] for line in hits.read_text().splitlines()[1:]}
    assert places
    assert all(re.fullmatch(LEAKS[leak], place) for place in places)
    assert NAME not in hits.read_text()


def test_a_harmless_word_can_be_declared(
    recipe: Recipe, job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A word that the data office knows to be none of a patient's is no evidence any more."""
    test_a_writer_that_leaks_is_caught(recipe, job, monkeypatch)
    known = recipe.deidentify.model_copy(update={"known_words": (NAME,)})
    assert run(job(recipe.model_copy(update={"deidentify": known}), "again"), until="ingest").cohort


def test_what_was_not_searched_is_searched_next_time(
    recipe: Recipe, job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that leaks dies between saving its cohort and the search: the same command finds the leak, and
    neither the cohort nor what would bring it back is left. Once searched, an input is not searched again.
    """
    honest, search, searched = ingesting._cohort, residue.hold_clean, []

    def leaky(*arguments: Any) -> Any:
        cohort = honest(*arguments)
        cohort.records[3].attributes["note"] = NAME
        return cohort

    def dies(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(ingesting, "_cohort", leaky)
    monkeypatch.setattr(residue, "hold_clean", dies)
    with pytest.raises(MemoryError):
        run(job(recipe), until="ingest")
    monkeypatch.setattr(residue, "hold_clean", lambda *arguments: searched.append(1) or search(*arguments))
    with pytest.raises(ResidualHit):
        run(job(recipe), until="ingest")
    assert not list(job(recipe).workspace.restricted("cohorts").rglob("records.parquet"))
    assert not list(job(recipe).workspace.restricted("cohorts").rglob("ingest.json"))
    monkeypatch.setattr(ingesting, "_cohort", honest)
    assert run(job(recipe), until="ingest").cohort is not None
    assert run(job(recipe), until="ingest").cohort is not None
    assert len(searched) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "name"), [("dicom", "CompressedSamples^CT1"), ("nifti", "QZXMILLER")], ids=["dicom", "nifti"]
)
def test_awkward_files_raise_no_false_alarm(
    kind: str,
    name: str,
    datasets: Path,
    small: Callable[..., Recipe],
    job: Callable[..., Job],
    tmp_path: Path,
) -> None:
    """Odd files of every kind with their manifest among them, which lists their sizes and quotes messages cut
    off amid a word, and with shifted dates kept: nothing is found. A name of theirs on a page is.
    """
    source = {"format": kind, "path": datasets / {"dicom": "dicom-odd"}.get(kind, kind)}
    released = [
        pseudonym("path", str(path.relative_to(source["path"]))) for path in source["path"].rglob("*")
    ]
    (tmp_path / "reviewed.csv").write_text(
        "\n".join(["path,code,reviewer", *(f"{path},BURNED_IN_RISK,data office" for path in released)])
    )
    rules: dict[str, Any] = {"accept_quarantined_share": 1, "reviewed": tmp_path / "reviewed.csv"}
    rules |= {"accept_faces": True}
    rules |= {"retain": ["modified-dates", "patient-characteristics"], "burned_in_text": "off"}
    recipe = small(source=source, image={"size_px": 64, "fit": "pad"}, deidentify=rules)
    workspace = job(recipe).workspace
    cohort, key = ingesting.ingest(recipe.source, recipe.image, recipe.deidentify, workspace, workers=1)
    assert len(cohort.records) > 50
    assert cohort.files == len(cohort.records) + sum(cohort.quarantine.values())
    review.write(workspace, cohort, split(cohort, recipe.split, workspace), key)
    residue.hold_clean(recipe, workspace, cohort, key)
    workspace.restricted("review", "note.html").write_text(f"said {name.lower()}")
    with pytest.raises(ResidualHit, match=r"in restricted: \d+\)"):
        residue.hold_clean(recipe, workspace, cohort, key)


def test_questions_of_checks_are_known_and_whom_they_follow_is_not() -> None:
    """After a judgement Prefect's artifacts hold the questions and figures of checks, and never the names of
    those whose papers they follow: these may be patients' names.
    """
    package = "phantomset.validators.checks"
    checks = [catalogue.load(package, name) for name in catalogue.names(package)]
    assert words_of(check.question for check in checks) <= program_words()
    authors = re.compile(r"[A-Z][^\W\d_]{3,}(?= (?:and|et al|\d{4}))")
    people = words_of(name for check in checks for name in authors.findall(check.source))
    assert people >= {"hill", "young", "chen", "richardson"}
    assert people.isdisjoint(program_words())


def test_all_words_that_a_run_writes_are_known(recipe: Recipe, job: Callable[..., Job]) -> None:
    """Nothing that stands in a run's texts could be taken for a text of a source: words, numbers, digests."""
    made = job(recipe)
    cohort = run(made, until="ingest").cohort
    assert cohort is not None
    areas = written(made.workspace.root, [], residue._not_ours(made.workspace, recipe.source.path))
    texts = [area.content.decode(errors="ignore") for area in areas if area.kind == "text"]
    known = program_words() | words_of(residue._known(recipe, made.workspace, cohort))
    strange = {word for word in words_of(texts) - known if not re.fullmatch(r"[0-9a-f]+|\d.*", word)}
    strange.discard("otablefilesfiles")  # the catalogue of an SQLite file, whose columns touch
    assert strange == set()
