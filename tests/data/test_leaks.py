"""Leaks of the splits that real sets come in, and keys that join strangers."""

import csv
import hashlib
import io
import re
import zipfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from phantomset.data.records import Cohort
from phantomset.data.splitting.groups import Entry, Kept, doubtful_key, grouped, leaks

Key = Callable[[dict[str, str]], str]


def _kept(path: Path, patient: Key, label: str) -> Kept:
    """The images of an archive by the digest of their bytes."""
    kept: defaultdict[str, list[Entry]] = defaultdict(list)
    with zipfile.ZipFile(path) as archive:
        for row in csv.DictReader(io.TextIOWrapper(archive.open("index.csv"))):
            digest = hashlib.sha256(archive.read(row["file"])).hexdigest()
            kept[digest].append(Entry(row["file"], digest, digest, patient(row), row[label], {}, None, {}))
    return dict(kept)


def test_two_hundred_lesions_cross_the_split_of_ham10000(datasets: Path) -> None:
    """Measured by the set's publisher of this copy: 200 of 1,563 lesions are in train and test."""
    kept = _kept(datasets / "ham10000-nv-mel-150.zip", lambda row: row["lesion_id"], "label")
    assert leaks(kept, grouped(kept, [], kept))["patients"] == 200
    assert not doubtful_key(kept)


def test_no_child_crosses_the_split_of_kermany_and_the_bare_number_is_doubted(datasets: Path) -> None:
    """Type and number together are the child and none crosses; the bare number joins strangers: bacteria and
    virus under one number far more often than chance. 30 groups of exact copies, 62 images.
    """

    def child(row: dict[str, str]) -> str:
        return re.search(r"person\d+_[a-z]+|(?:NORMAL2-)?IM-\d+", row["file"])[0]  # type: ignore[index]

    def number(row: dict[str, str]) -> str:
        return re.search(r"person\d+|(?:NORMAL2-)?IM-\d+", row["file"])[0]  # type: ignore[index]

    kept = _kept(datasets / "kermany-cxr-64.zip", child, "subtype")
    assert leaks(kept, grouped(kept, [], kept)) == {"patients": 0, "groups": 0, "copies": 0}
    copies = [entries for entries in kept.values() if len(entries) > 1]
    assert (len(copies), sum(map(len, copies))) == (30, 62)
    assert not doubtful_key(kept)
    bare = _kept(datasets / "kermany-cxr-64.zip", number, "subtype")
    assert leaks(bare, grouped(bare, [], bare))["patients"] == 170
    assert doubtful_key(bare)


@pytest.mark.parametrize(
    ("regex", "is_warned"), [(r"(\d+)\.png", True), (r"([a-z]+)/(\d+)\.png", False)], ids=["bare", "whole"]
)
def test_a_doubtful_key_is_told_by_ingest(
    regex: str,
    is_warned: bool,
    tmp_path: Path,
    take_in: Callable[..., Cohort],
    make_png: Callable[..., bytes],
    gradient: Callable[[int], np.ndarray],
) -> None:
    """A number that counts anew in each class, as the key: a note of the cohort, which report and release
    print. Type and number together: none.
    """
    for place, name in enumerate(("bacteria", "virus")):
        (tmp_path / name).mkdir()
        for number in range(40):
            (tmp_path / name / f"{number}.png").write_bytes(make_png(gradient(100 * place + number)))
    source = {"format": "folder", "path": tmp_path, "labels": {"from": "folder"}, "patient": {"regex": regex}}
    cohort = take_in(source)
    assert len({record.subject for record in cohort.records}) == (40 if is_warned else 80)
    assert any("check source.patient" in note for note in cohort.notes) is is_warned


def test_copies_cross_the_split_of_pneumoniamnist(datasets: Path) -> None:
    """27 groups of exact copies, 56 images; 8 groups stand in train and val."""
    kept: defaultdict[str, list[Entry]] = defaultdict(list)
    with np.load(datasets / "pneumoniamnist.npz", allow_pickle=False) as arrays:
        for part in ("train", "val", "test"):
            for index, image in enumerate(arrays[f"{part}_images"]):
                digest = hashlib.sha256(image.tobytes()).hexdigest()
                entry = Entry(
                    f"{part}_images/{index:09d}", digest, digest, f"{part}{index}", "", {}, None, {}
                )
                kept[digest].append(entry)
    copies = [entries for entries in kept.values() if len(entries) > 1]
    assert (len(copies), sum(map(len, copies))) == (27, 56)
    assert leaks(kept, grouped(kept, [], kept))["copies"] == 8
