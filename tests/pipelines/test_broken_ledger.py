"""A ledger of judgements that was cut, edited, lost or cannot be written never helps a set out."""

import json
import os
from pathlib import Path

import pytest

from phantomset.data.errors import WorkspaceError
from phantomset.pipelines.judgement.chain import Broken
from phantomset.pipelines.judgement.lineage import Lineage, hashed, named

from .judged import case, judged, verdict


@pytest.mark.parametrize("damage", ["edit", "delete a line", "swap", "rewrite", "not JSON"])
def test_a_broken_chain_is_inconclusive(book: Lineage, damage: str) -> None:
    """Altered, missing, exchanged or re-hashed lines break the chain; nothing passes on such a record."""
    judged(book, "FAIL")
    judged(book, "PASS", made="set-2", patients=hashed(["a", "b", "c"]))
    lines = book.path.read_text().splitlines()
    if damage == "edit":
        lines[1] = lines[1].replace('"FAIL"', '"PASS"')
    elif damage == "delete a line":
        del lines[1]
    elif damage == "swap":
        lines[0], lines[1] = lines[1], lines[0]
    elif damage == "rewrite":
        content = json.loads(lines[1]) | {"status": "PASS"}
        lines[1] = json.dumps(content | {"hash": "0" * 64})
    else:
        lines[1] = "nonsense"
    book.path.write_text("\n".join(lines) + "\n")
    settled = judged(book, "PASS", made="set-9")
    assert settled.verdict.status == "INCONCLUSIVE"
    assert "cannot be trusted" in settled.verdict.reasons[0]
    assert settled.entry == ""


def test_lines_of_another_version_are_not_guessed_at(book: Lineage) -> None:
    """A sound chain whose lines lack what a judgement needs is no record: INCONCLUSIVE, and no crash."""
    with book.chain.locked():
        book.chain.append([], kind="judgement", status="PASS")
    assert judged(book, "PASS").verdict.status == "INCONCLUSIVE"


def test_a_lost_ledger_is_inconclusive_where_judgements_exist(book: Lineage) -> None:
    """A workspace that remembers a line of the ledger does not believe a ledger without it."""
    seen = judged(book, "PASS").entry
    book.path.unlink()
    book.chain.head.unlink()
    settled = book.settle(case(made="set-2"), verdict("PASS"), anchors=[seen])
    assert settled.verdict.status == "INCONCLUSIVE"
    assert "missing from it" in settled.verdict.reasons[0]


def test_a_fail_that_was_cut_off_is_missed(book: Lineage) -> None:
    """A fresh workspace knows no line; that the last one is gone, or all, shows by the ledger's head."""
    judged(book, "PASS")
    judged(book, "FAIL", made="set-2")
    lines = book.path.read_bytes().splitlines(keepends=True)
    for kept in (lines[:-1], []):
        book.path.write_bytes(b"".join(kept))
        settled = judged(book, "PASS", made="set-3")
        assert settled.verdict.status == "INCONCLUSIVE"
        assert "Restore from one backup" in settled.verdict.reasons[0]
        assert not book.clears(case(made="set-3"), verdict("PASS"))
        with pytest.raises(Broken):
            book.release(case(made="set-3"), ())
    book.path.write_bytes(b"".join(lines))
    assert judged(book, "PASS", made="set-3").verdict.status == "FAIL"


def test_a_fail_is_never_softened_by_a_lost_ledger(book: Lineage) -> None:
    """A fresh FAIL stays a FAIL, whatever the state of the record."""
    assert book.settle(case(), verdict("FAIL"), anchors=["f" * 64]).verdict.status == "FAIL"


def test_an_append_that_a_crash_cut_off_is_taken_away(book: Lineage) -> None:
    """A last line without its end was never written; the chain before it holds."""
    judged(book, "FAIL")
    with book.path.open("a") as stream:
        stream.write('{"previous": "half a li')
    assert judged(book, "PASS", made="set-2").verdict.status == "FAIL"
    assert all(json.loads(line) for line in book.path.read_text().splitlines())


def test_nothing_in_the_ledger_links_to_a_store(
    book: Lineage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pseudonyms are hashed again; images have keyed names, which another key does not give."""
    judged(book, "PASS", patients=hashed(["pseudonym-of-someone"]), images=named(["origin-of-an-image"]))
    text = book.path.read_text()
    assert not any(name in text for name in ("pseudonym-of-someone", "origin-of-an-image"))
    (name,) = named(["origin-of-an-image"])
    assert name in text
    monkeypatch.setenv("PHANTOMSET_KEY_FILE", str(tmp_path / "another" / "key"))
    assert named(["origin-of-an-image"]) != {name}


def test_a_ledger_that_cannot_be_written_is_told(book: Lineage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk takes half a line, a lock that is no file none: both are told; no line is lost."""
    first = judged(book, "FAIL").entry
    with monkeypatch.context() as full:
        write = os.write
        full.setattr(os, "write", lambda where, content: write(where, content[: len(content) // 2]))
        with pytest.raises(WorkspaceError, match="No space left"):
            judged(book, "PASS", made="set-2")
    assert judged(book, "PASS", made="set-3").verdict.status == "FAIL"
    assert first in book.chain.path.read_text()
    book.chain.path.with_suffix(".lock").unlink()
    book.chain.path.with_suffix(".lock").mkdir()
    with pytest.raises(WorkspaceError, match="key's folder"):
        judged(book, "PASS", made="set-4")
