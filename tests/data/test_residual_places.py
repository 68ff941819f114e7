"""The residual scan over the places where an identifier may stand, and those that it cannot reach."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from phantomset.data.residual import areas
from phantomset.data.residual.areas import written
from phantomset.data.residual.files import read
from phantomset.data.residual.scan import Area, search
from phantomset.data.residual.tokens import Tokens

from .planted_places import corpus

Make = Callable[..., bytes]


def _tokens(content: bytes, name: str = "x.dcm") -> Tokens:
    tokens = Tokens()
    read(content, name, frozenset(), tokens)
    return tokens


OUT_OF_REACH = {
    "burned-in text (MR, BurnedIn=YES)": "drawn in pixels: kept out by its header",
    "burned-in text (SC RGB)": "drawn in pixels: kept out by its class",
    "burned-in text outside US region": "drawn in pixels: kept out by its class",
    "text in unused high bits (bit 15)": "drawn in bits that are masked",
    "overlay 6000 bits": "drawn in bits that are never read",
    "overlay 6006 bits": "drawn in bits that are never read",
    "icon image pixels": "drawn in pixels that are never read",
}
"""Where a text is drawn it is no bytes that could be sought; `test_planted` compares the pixels instead."""


def test_every_planted_text_would_be_found() -> None:
    """Of the 89 planted places each that carries text is found by this reader, which knows no dictionary; the
    others are these seven, each for its reason.
    """
    blind = []
    for plant, content, _ in corpus():
        tokens = _tokens(content, plant.name)
        tokens.add(plant.name, "file name")
        areas = [Area("a", token, "text") for token in plant.tokens]
        if not search(tokens, areas, frozenset()):
            blind.append(plant.place)
    assert blind == list(OUT_OF_REACH)


def test_pixels_are_no_text_however_many_frames(make_dicom: Make) -> None:
    """What looks like letters within the pixels is not taken, nor are frames that nobody counted; what stands
    after the last pixel is.
    """
    letters = np.frombuffer(b"Winterhalter" * 32, dtype="<u2").reshape(12, 16)
    size = letters.nbytes
    content = make_dicom(letters)
    plain = _tokens(content).words.keys()
    for extra, expected in ((b"", set()), (b"Sommerfeld", {"Sommerfeld"}), (letters.tobytes(), set())):
        longer = (size + len(extra)).to_bytes(4, "little") + content[-size:] + extra
        assert _tokens(content[: -size - 4] + longer).words.keys() - plain == expected
    assert "Winterhalter" not in plain


def test_places_in_a_pack_are_no_dates(tmp_path: Path) -> None:
    """In a pack of 64 MB some object begins at the byte whose number is a patient's day of birth. As long as
    the places run from the pack's first byte to its last they are no evidence; one that does not fit is.
    """
    tokens = Tokens()
    tokens.add_days(b"19541122", "birth date")
    lengths = [10_000_000, 9_541_122, 3_000]
    pack = tmp_path / "objects.pack"
    with pack.open("wb") as stream:
        stream.truncate(sum(lengths))
    places = pd.DataFrame(
        {"digest": ["a", "b", "c"], "offset": [0, 10_000_000, 19_541_122], "length": lengths}
    )

    def hits(table: pd.DataFrame) -> int:
        table.to_parquet(tmp_path / "objects.pack.parquet")
        return len(search(tokens, written(tmp_path, [], [pack]), frozenset()))

    assert hits(places) == 0
    for changed in (
        places.iloc[1:],
        places.assign(length=[*lengths[:2], 19541122]),
        places.assign(day=19541122),
    ):
        assert hits(changed) == 1
    pack.unlink()
    assert hits(places) == 1


def test_parts_of_a_uuid_are_chance() -> None:
    """Eight digits that are a part of a UUID are no date, four letters of one no part of a name; beside one
    they are, and the whole name is found.
    """
    tokens = Tokens()
    tokens.add_days(b"19541122", "birth date")
    tokens.add("deadbeef-0a1b-4c2d-8e3f-001122334455.dcm", "file name")

    def origins(text: bytes) -> set[str]:
        return {hit.origin for hit in search(tokens, [Area("prefect.db", text, "text")], frozenset())}

    assert origins(b"19541122-7777-4c2d-9999-001122334466") == set()
    assert origins(b"19541122-7777") == {"birth date"}
    assert origins(b"id-19541122-7777-4444-9999-00112233446") == {"birth date"}
    assert origins(b"of 4c2d") == {"file name"}
    assert origins(b"deadbeef-0a1b-4c2d-8e3f-001122334455.dcm") == {"file name"}
    assert origins(b"deadbeef-0a1b-4c2d-8e3f-001122334455") == {"file name"}


def test_a_large_file_is_judged_as_if_it_were_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever a file is cut, a text is found once, where it stands, and a part of a longer number
    or word is no evidence: the bytes on both sides of a cut have their say.
    """
    tokens = Tokens()
    tokens.add_days(b"19541122", "birth date")
    tokens.add("Orla", "name")
    content = b"name orla; date 19541122; part of 7195411220, of corolla and orlando" + b"." * 90
    expected = {("name", 5), ("birth date", 16)}
    for size in range(1, len(content) + 1):
        monkeypatch.setattr(areas, "_PIECE", size)
        (tmp_path / "kept.txt").write_bytes(content)
        hits = [(hit.origin, hit.offset) for hit in search(tokens, written(tmp_path, []), frozenset())]
        assert sorted(hits) == sorted(expected), size


def test_a_text_of_any_length_is_found_across_a_cut(tmp_path: Path) -> None:
    """A text of 300,000 letters that this program's own words make up is sought by its beginning: it is found
    where a cut goes through it, in plain letters, in UTF-16 and in JSON's escapes.
    """
    text = "é " + "label image " * 25_000
    tokens = Tokens()
    tokens.add(text, "comment")
    known = frozenset({"label", "image"})
    for form in (text.encode(), text.encode("utf-16-le"), json.dumps(json.dumps(text)).encode()):
        (tmp_path / "kept.txt").write_bytes(b"." * ((1 << 24) - 20_000) + form)
        assert search(tokens, written(tmp_path, []), known)
