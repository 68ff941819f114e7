"""The archive: sealed packs of objects, each of which can be verified alone; what a crash leaves of them."""

import hashlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from phantomset.data.errors import SourceError, WorkspaceError
from phantomset.data.pixels.canonical import digest_of_pixels
from phantomset.data.store import packs
from phantomset.data.store.archive import Store
from phantomset.data.workspace import Workspace


def _images(count: int, seed: int = 0, shape: tuple[int, int, int] = (1, 8, 8)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def _tree(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_what_goes_in_comes_out(workspace: Workspace) -> None:
    """Digests name the images, and give them back in the order that is asked for."""
    images = _images(9)
    digests = Store(workspace).put(images)
    assert digests == tuple(digest_of_pixels(image) for image in images)
    assert np.array_equal(Store(workspace).get(digests[::-1]), images[::-1])


def test_nothing_is_written_twice(workspace: Workspace) -> None:
    """Known images add no bytes, alone or among new ones, and no pack ever changes."""
    store = Store(workspace)
    store.put(_images(5))
    before = _tree(workspace.restricted("objects"))
    store.put(_images(5))
    assert _tree(workspace.restricted("objects")) == before
    both = np.concatenate([_images(5), _images(3, seed=1)])
    digests = store.put(both)
    after = _tree(workspace.restricted("objects"))
    assert before.items() <= after.items()
    assert np.array_equal(store.get(digests), both)


def test_order_of_arrival_does_not_change_a_pack(workspace: Workspace, tmp_path: Path) -> None:
    """Equal content is equal bytes under an equal name."""
    other = Workspace.open(tmp_path / "other")
    Store(workspace).put(_images(6))
    Store(other).put(_images(6)[::-1])
    assert _tree(workspace.restricted("objects")) == _tree(other.restricted("objects"))


def test_shapes_may_differ(workspace: Workspace) -> None:
    """Two cohorts of different sizes share a store."""
    store = Store(workspace)
    grey, colour = _images(2), _images(2, shape=(3, 4, 6))
    with store.writer() as pack:
        digests = [pack.add(image) for pair in zip(grey, colour, strict=True) for image in pair]
    assert np.array_equal(store.get(digests[::2]), grey)
    assert np.array_equal(store.get(digests[1::2]), colour)


def test_one_shape_at_a_time_is_given_back(workspace: Workspace) -> None:
    """Images of two shapes do not make one array."""
    store = Store(workspace)
    digests = [*store.put(_images(1)), *store.put(_images(1, shape=(3, 8, 8)))]
    with pytest.raises(ValueError, match="several shapes"):
        store.get(digests)


def test_many_packs(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer seals a pack when it is full, and holds none of it in memory."""
    monkeypatch.setattr("phantomset.data.store.archive.PACK_BYTES", 400)
    images = _images(10)
    digests = Store(workspace).put(images)  # 137 bytes each: chance does not shrink
    assert len(list(workspace.restricted("objects").glob("*.pack"))) == 4
    assert np.array_equal(Store(workspace).get(digests), images)


def test_an_object_is_a_header_and_zstd(workspace: Workspace) -> None:
    """Read by hand as the format says: any zstd reads the pixels of a pack, without index and program."""
    (image,) = images = np.zeros((1, 1, 8, 16), dtype=np.uint8)
    (digest,) = Store(workspace).put(images)
    (pack,) = workspace.restricted("objects").glob("*.pack")
    content = pack.read_bytes()
    assert content[:40] == b"PSO1" + bytes.fromhex(digest) + b"|u1\0"
    *shape, length, checksum, own = struct.unpack("<6I", content[40:64])
    assert shape == [1, 8, 16]
    assert length == len(content) - 64 < image.nbytes
    assert checksum == zlib.crc32(content[64:])
    assert own == zlib.crc32(content[:60])
    assert pa.Codec("zstd").decompress(content[64:], 128, asbytes=True) == image.tobytes()
    (row,) = pd.read_parquet(packs.index_of(pack)).to_dict("records")
    assert row == {"digest": digest, "pack": pack.name, "offset": 0, "length": len(content)}


def test_an_input_error_leaves_nothing_behind(workspace: Workspace) -> None:
    """What was gathered before an error in the input never enters the store, and no part file stays."""
    before = _tree(workspace.root)
    with pytest.raises(SourceError), Store(workspace).writer() as pack:
        pack.add(_images(1)[0])
        raise SourceError("no such column")
    assert _tree(workspace.root) == before


def test_an_interrupted_run_is_taken_over(workspace: Workspace) -> None:
    """What was appended before an interruption enters the store with the next writer, and its file goes."""
    images = _images(3)
    with pytest.raises(KeyboardInterrupt), Store(workspace).writer() as pack:
        digests = [pack.add(image) for image in images]
        raise KeyboardInterrupt
    assert not Store(workspace).has(digests)
    Store(workspace).put(images[:0])
    assert np.array_equal(Store(workspace).get(digests), images)
    assert list(workspace.restricted("incoming").iterdir()) == []


def test_what_a_living_process_writes_is_left_alone(workspace: Workspace) -> None:
    """An open pack is its writer's as long as that lives, and so is one that is just being sealed."""
    places = [workspace.restricted("incoming", name) for name in ("open-1.pack", "sealing-1.pack")]
    with packs.private(places[0]), packs.private(places[1]):
        Store(workspace).put(_images(1))
        assert all(place.exists() for place in places)
    Store(workspace).put(_images(1))
    assert not any(place.exists() for place in places)


def test_a_torn_tail_is_cut_back_wherever_it_is_torn() -> None:
    """A pack cut after any number of bytes gives its objects that are whole, and nothing else; so does one
    whose tail is zeros, as a disk leaves it after a power cut.
    """
    images = [_images(1, seed, (1, 2, 2 + seed))[0] for seed in range(3)]
    objects = [packs.packed(image, digest_of_pixels(image)) for image in images]
    content, ends = b"".join(objects), np.cumsum([len(each) for each in objects])
    for cut in range(len(content) + 1):
        for torn in (content[:cut], content[:cut] + bytes(200)):
            whole = [image for image, end in zip(images, ends, strict=True) if torn[:end] == content[:end]]
            places = list(packs.whole_objects(io.BytesIO(torn)))
            assert [place.digest for place in places] == [digest_of_pixels(image) for image in whole]
            for image, (digest, offset, length) in zip(whole, places, strict=True):
                assert np.array_equal(packs.unpacked(torn[offset : offset + length], digest), image)


def test_a_changed_byte_costs_one_object() -> None:
    """Whichever byte of the second of three objects is changed, it is never read as an image: not through its
    index, nor without. The others stay, but for those behind a header that is gone.
    """
    images = _images(3, shape=(1, 2, 2))
    digests = [digest_of_pixels(image) for image in images]
    objects = [packs.packed(image, digest) for image, digest in zip(images, digests, strict=True)]
    for number in range(len(objects[1])):
        changed = bytearray(objects[1])
        changed[number] ^= 1
        with pytest.raises(packs.DamagedObject):
            packs.unpacked(bytes(changed), digests[1])
        found = packs.whole_objects(io.BytesIO(objects[0] + changed + objects[2]))
        assert [place.digest for place in found] == [digests[0], *([digests[2]] if number >= 64 else [])]


@pytest.mark.parametrize("cut", [0, 63, 64, 200, 412])
def test_a_killed_writer_loses_its_torn_tail_alone(workspace: Workspace, cut: int) -> None:
    """The next writer seals the whole objects of a pack that was being written, and takes the rest away."""
    images = _images(3)
    objects = [packs.packed(image, digest_of_pixels(image)) for image in images]  # 137 or 138 bytes each
    torn = b"".join(objects)[:cut]
    workspace.restricted("incoming", "open-1.pack").write_bytes(torn)
    store = Store(workspace)
    store.put(images[:0])
    whole = [digest_of_pixels(image) for image in images][: 3 if len(torn) == 412 else cut // 137]
    assert store.digests() == sorted(whole)
    assert store.verify() == []
    assert list(workspace.restricted("incoming").iterdir()) == []
    assert np.array_equal(store.get(store.put(images)), images)


def test_a_lost_index_is_made_anew(workspace: Workspace) -> None:
    """A pack can be read without its index, so that the next writer writes the same one again."""
    digests = Store(workspace).put(_images(3))
    before = _tree(workspace.restricted("objects"))
    next(workspace.restricted("objects").glob("*.parquet")).unlink()
    assert not Store(workspace).has(digests)
    Store(workspace).put(_images(2))
    assert _tree(workspace.restricted("objects")) == before


def test_a_missing_image_is_named_as_such(workspace: Workspace) -> None:
    """The message counts what is missing and says what to do."""
    digests = Store(workspace).put(_images(2))
    assert Store(workspace).has(digests)
    assert not Store(workspace).has([*digests, "0" * 64])
    with pytest.raises(WorkspaceError, match=r"1 of 3 images.*ingest"):
        Store(workspace).get([*digests, "0" * 64])


def test_damage_is_found(workspace: Workspace) -> None:
    """One flipped bit in a pack is found by its digest, and never given out as an image."""
    digests = Store(workspace).put(_images(3))
    assert Store(workspace).verify() == []
    pack = next(workspace.restricted("objects").glob("*.pack"))
    content = bytearray(pack.read_bytes())
    content[-1] ^= 1  # the last byte of the last object, and objects are sorted by digest
    pack.write_bytes(bytes(content))
    assert Store(workspace).verify() == [max(digests)]
    with pytest.raises(WorkspaceError, match=f"{pack.name[:12]}.*Delete its index"):
        Store(workspace).get(digests)


def test_damage_is_mended_by_the_next_writer(workspace: Workspace) -> None:
    """As the message says: without the index, what is whole is kept, and the rest can be stored again."""
    images = _images(3)
    digests = Store(workspace).put(images)
    (pack,) = workspace.restricted("objects").glob("*.pack")
    pack.write_bytes(pack.read_bytes()[:-1])
    packs.index_of(pack).unlink()
    Store(workspace).put(images)
    assert Store(workspace).verify() == []
    assert np.array_equal(Store(workspace).get(digests), images)
    assert not pack.exists() or len(list(workspace.restricted("objects").iterdir())) == 4


@pytest.mark.parametrize("suffix", [".pack", ".parquet"])
def test_a_truncated_pack_is_an_input_error(workspace: Workspace, suffix: str) -> None:
    """A damaged workspace ends in a message that says which pack, never in a traceback of another kind."""
    digests = Store(workspace).put(_images(3))
    pack = next(workspace.restricted("objects").glob(f"*{suffix}"))
    pack.write_bytes(pack.read_bytes()[:100])
    with pytest.raises(WorkspaceError, match=pack.name[:12]):
        Store(workspace).get(digests)


def test_objects_are_private(workspace: Workspace) -> None:
    """Real images can be read by their owner only."""
    Store(workspace).put(_images(1))
    assert {path.stat().st_mode & 0o777 for path in workspace.restricted("objects").iterdir()} == {0o600}


def test_a_store_that_cannot_be_written_is_an_input_error(workspace: Workspace) -> None:
    """A file where the folder should be stands for every reason not to be able to write."""
    workspace.restricted("incoming").rmdir()
    workspace.restricted("incoming").write_text("")
    with pytest.raises(WorkspaceError, match=r"store: cannot write.*--workspace"):
        Store(workspace).put(_images(1))
