"""The chained file: no line is forged, none is lost at the end, and a crash heals."""

import hashlib
import json
import stat
from pathlib import Path

import pytest

from phantomset.pipelines.judgement.chain import FIRST, Broken, Chain


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    """A chain of three lines."""
    made = Chain(tmp_path / "book.jsonl")
    lines = made.read()
    for number in range(3):
        made.append(lines, number=number)
    return made


def numbers(chain: Chain) -> list[int]:
    return [line["number"] for line in chain.read()]


def unkeyed(path: Path, count: int) -> None:
    """Write lines as earlier versions did: a SHA-256 that needs no key, and no head."""
    before, texts = FIRST, []
    for number in range(count):
        line = {"previous": before, "time": "2024-01-01T00:00:00Z", "number": number}
        before = hashlib.sha256(json.dumps(line, sort_keys=True).encode()).hexdigest()
        texts.append(json.dumps(line | {"hash": before}, sort_keys=True) + "\n")
    path.write_text("".join(texts))


def test_lines_come_back_in_order_for_the_owner_alone(chain: Chain) -> None:
    """What was appended is read by whoever opens the file next; the head is as private as the file."""
    assert numbers(Chain(chain.path)) == [0, 1, 2]
    assert {stat.S_IMODE(path.stat().st_mode) for path in (chain.path, chain.head)} == {0o600}


@pytest.mark.parametrize("kept", [2, 1, 0])
def test_a_cut_tail_is_noticed(chain: Chain, kept: int) -> None:
    """One line less than the head names, or two, or an empty file; nothing is written in its place."""
    lines = chain.path.read_bytes().splitlines(keepends=True)
    chain.path.write_bytes(b"".join(lines[:kept]))
    for _ in range(2):
        with pytest.raises(Broken, match=f"it has {kept} lines, and its head .* names another end, after 3"):
            chain.read()


def test_a_tail_cut_within_its_last_line_is_noticed(chain: Chain) -> None:
    """Half a line is no crash where the head knows the whole: refused, and left as it is."""
    content = chain.path.read_bytes()[:-9]
    chain.path.write_bytes(content)
    with pytest.raises(Broken, match="names another end"):
        chain.read()
    assert chain.path.read_bytes() == content


def test_a_deleted_file_is_noticed(chain: Chain) -> None:
    """The head that is left says that there was one."""
    chain.path.unlink()
    with pytest.raises(Broken, match="it has 0 lines"):
        chain.read()


def test_a_deleted_head_is_noticed(chain: Chain) -> None:
    """A keyed chain without its head may have been cut."""
    chain.head.unlink()
    with pytest.raises(Broken, match=r"it has 3 lines, and its head \(book\.head\) is missing"):
        chain.read()


@pytest.mark.parametrize("content", [None, "nonsense", "[]", '{"lines": 2}'])
def test_an_altered_head_is_noticed(chain: Chain, content: str | None) -> None:
    """A head that names a shorter chain, or that cannot be read, is not believed."""
    shorter = json.loads(chain.head.read_bytes()) | {"lines": 2, "last": chain.read()[1]["hash"]}
    chain.head.write_text(json.dumps(shorter) if content is None else content)
    with pytest.raises(Broken, match="was altered"):
        chain.read()


@pytest.mark.parametrize("before", [0, 1, 2])
def test_a_crash_between_line_and_head_heals(tmp_path: Path, before: int) -> None:
    """The line is whole and the head one behind, or not there for the first line: the line counts."""
    chain = Chain(tmp_path / "book.jsonl")
    lines = chain.read()
    for number in range(before):
        chain.append(lines, number=number)
    head = chain.head.read_bytes() if before else None
    chain.append(lines, number=before)
    chain.head.unlink() if head is None else chain.head.write_bytes(head)
    assert len(chain.read()) == before + 1
    assert json.loads(chain.head.read_bytes())["lines"] == before + 1
    chain.append(chain.read(), number=before + 1)
    assert numbers(chain) == list(range(before + 2))


def test_a_head_two_lines_behind_is_no_crash(chain: Chain) -> None:
    """Each line is followed by its head, so only one line can be ahead."""
    head = chain.head.read_bytes()
    lines = chain.read()
    chain.append(lines, number=3)
    chain.append(lines, number=4)
    chain.head.write_bytes(head)
    with pytest.raises(Broken, match="names another end, after 3"):
        chain.read()


def test_a_rewritten_chain_is_noticed(chain: Chain) -> None:
    """Lines hashed anew without the key are not believed, with the head in place or one line behind."""
    unkeyed(chain.path, 3)
    with pytest.raises(Broken, match="names another end"):
        chain.read()
    unkeyed(chain.path, 4)
    with pytest.raises(Broken, match="names another end"):
        chain.read()


def test_a_line_without_a_key_does_not_follow_a_keyed_one(chain: Chain) -> None:
    """Who lacks the key cannot add a line either."""
    line = {"previous": chain.read()[-1]["hash"], "time": "now", "number": 3}
    sha = hashlib.sha256(json.dumps(line, sort_keys=True).encode()).hexdigest()
    with chain.path.open("a") as stream:
        stream.write(json.dumps(line | {"hash": sha}) + "\n")
    with pytest.raises(Broken, match="line 4 was altered"):
        chain.read()


def test_another_key_is_told(chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chain is read with the key that it was written under, and the message says so."""
    monkeypatch.setenv("PHANTOMSET_KEY_FILE", str(tmp_path / "another" / "key"))
    with pytest.raises(Broken, match=r"line 1 .* another project key"):
        chain.read()


def test_a_chain_of_earlier_versions_goes_on(tmp_path: Path) -> None:
    """Unkeyed lines without a head are read; the next line is keyed and the head counts them all."""
    chain = Chain(tmp_path / "book.jsonl")
    unkeyed(chain.path, 2)
    lines = chain.read()
    assert [line["number"] for line in lines] == [0, 1]
    assert not chain.head.exists()
    chain.append(lines, number=2)
    assert numbers(chain) == [0, 1, 2]
    unkeyed(chain.path, 2)
    with pytest.raises(Broken, match="names another end, after 3"):
        chain.read()
