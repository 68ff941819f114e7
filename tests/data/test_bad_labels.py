"""Bad input in labels, patients and groups: a reason code each, or a message; never a value in it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from phantomset.data import catalogue
from phantomset.data.errors import SourceError
from phantomset.data.records import Cohort

TakeIn = Callable[..., Cohort]
Make = Callable[..., bytes]
Draw = Callable[[int], np.ndarray]


@pytest.fixture
def ward(tmp_path: Path, make_png: Make, gradient: Draw) -> Callable[..., dict[str, Any]]:
    """Six pictures and a table with the columns file, label, who, family: ``ward(rows, **source)``."""

    def make(rows: list[str], **source: Any) -> dict[str, Any]:
        folder = tmp_path / "in"
        folder.mkdir()
        for number in range(6):
            (folder / f"im{number}.png").write_bytes(make_png(gradient(number)))
        table = "\n".join(["file,label,who,family", *rows])
        (folder / "labels.csv").write_text(table, encoding="utf-8-sig", newline="")
        labels = {"table": "labels.csv", "key": "file", "column": "label"}
        return {"format": "folder", "path": folder, "labels": labels} | source

    return make


@pytest.mark.parametrize(
    "cell",
    [
        "=1+1",
        "@SUM(A1)",
        "+49 30 1234",
        "-1",
        "a\x1b[31m",
        "a\u202eb",
        "a\u200bb",
        "x" * 65,
        '"a\nb;\tc=d"',
        "<b>a</b>",
    ],
)
def test_labels_that_are_no_labels(cell: str, ward: Callable[..., dict[str, Any]], take_in: TakeIn) -> None:
    """Formulas, escapes, marks that turn text round, markup, too long: LABEL_UNKNOWN, and no cell is kept."""
    rows = [f"im{n}.png,{'ab'[n % 2]},p{n},f" for n in range(5)] + [f"im5.png,{cell},p5,f"]
    cohort = take_in(ward(rows), accept=1)
    assert cohort.quarantine == {"LABEL_UNKNOWN": 1}
    assert cohort.label_names == ("a", "b")


def test_duplicate_rows_that_agree_are_one_and_that_differ_none(
    ward: Callable[..., dict[str, Any]], take_in: TakeIn
) -> None:
    """The same row twice is no conflict; two labels for one file are."""
    rows = [f"im{n}.png,{'ab'[n % 2]},p{n},f" for n in range(6)]
    cohort = take_in(ward([*rows, rows[0], "im1.png,a,p1,f"]), accept=1)
    assert cohort.quarantine == {"LABEL_CONFLICT": 1}


def test_patients_that_are_nobody(ward: Callable[..., dict[str, Any]], take_in: TakeIn) -> None:
    """Empty and blank identifiers: NO_PATIENT; spelling in another case is the same patient."""
    who = ["p1", "P1 ", "", "  ", "p2", "p3"]
    rows = [f"im{n}.png,{'ab'[n % 2]},{name},f" for n, name in enumerate(who)]
    cohort = take_in(ward(rows, patient={"column": "who"}), accept=1)
    assert cohort.quarantine == {"NO_PATIENT": 2}
    assert len({record.subject for record in cohort.records}) == 3


def test_a_column_of_the_users_joins_patients(ward: Callable[..., dict[str, Any]], take_in: TakeIn) -> None:
    """Two families and one without: an empty cell joins nobody."""
    family = ["x", "x", "y", "y", "", ""]
    rows = [f"im{n}.png,{'ab'[n % 2]},p{n},{name}" for n, name in enumerate(family)]
    cohort = take_in(ward(rows, patient={"column": "who"}, group={"column": "family"}))
    assert len({record.group for record in cohort.records}) == 4


def test_a_group_column_that_is_not_there(ward: Callable[..., dict[str, Any]], take_in: TakeIn) -> None:
    """The message names the column and those that were found."""
    rows = [f"im{n}.png,a,p{n},f" for n in range(6)]
    with pytest.raises(SourceError, match="no column 'household'; found file, label, who, family"):
        take_in(ward(rows, group={"column": "household"}))


AGES = ("0", "17.9", "18", "39", "40", "")


def _aged(ward: Callable[..., dict[str, Any]], ages: tuple[str, ...], edges: list[int]) -> dict[str, Any]:
    """The ward with ages in the column family, cut at the edges."""
    rows = [f"im{n}.png,{'ab'[n % 2]},p{n},{age}" for n, age in enumerate(ages)]
    return ward(rows, attributes=["family"], bands={"family": edges})


@pytest.mark.parametrize(
    ("edges", "bands"),
    [
        ([18, 40], ["under 18", "under 18", "18-39", "18-39", "40+", None]),
        ([18, 19, 40], ["under 18", "under 18", "18", "19-39", "40+", None]),
        ([0], ["0+"] * 5 + [None]),
        ([65], ["under 65"] * 5 + [None]),
    ],
)
def test_numbers_of_a_column_become_bands(
    edges: list[int], bands: list[str | None], ward: Callable[..., dict[str, Any]], take_in: TakeIn
) -> None:
    """A band holds its lower edge and not its upper; an empty cell has none, and no number is kept."""
    cohort = take_in(_aged(ward, AGES, edges))
    found = [record.attributes.get("family") for record in cohort.records]
    assert sorted(map(str, found)) == sorted(map(str, bands))


@pytest.mark.parametrize("cell", ["058Y", "nan", "1e2", "forty", "1_0", "12.03.1954", "١٢"])
def test_a_band_is_cut_from_numbers_alone(
    cell: str, ward: Callable[..., dict[str, Any]], take_in: TakeIn
) -> None:
    """A unit, a word, a date, digits of another script: an error that counts the cells and shows none."""
    with pytest.raises(SourceError, match=r"source\.bands\.family: 1 of 5 filled cells") as error:
        take_in(_aged(ward, ("0", cell, "18", "39", "40", ""), [18, 40]))
    assert cell not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"bands": {"age": [40, 18]}}, "numbers that rise"),
        ({"bands": {"age": [18, 18]}}, "numbers that rise"),
        ({"bands": {"age": []}}, "numbers that rise"),
        ({"bands": {"age": [18.5]}}, "valid integer"),
        ({"bands": {"age": [-1]}}, "greater than or equal to 0"),
        ({"bands": {"sex": [18]}}, "not among attributes"),
        ({"bands": {"age": [18]}, "patient": {"column": "age"}}, "tells patients or groups apart"),
        ({"bands": {"age": [18]}, "group": {"column": "age"}}, "tells patients or groups apart"),
    ],
)
def test_bands_that_cannot_be_cut(changes: dict[str, Any], reason: str) -> None:
    """Edges that do not rise, no whole numbers, a column that is not kept or names the patient: refused."""
    table = {"table": "t.csv", "key": "file", "column": "label"}
    given = {"format": "folder", "path": "in", "labels": table, "attributes": ["age"], **changes}
    with pytest.raises(ValidationError, match=reason):
        catalogue.load("phantomset.data.sources", "folder").Settings.model_validate(given)
