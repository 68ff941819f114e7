"""The store: sealed packs by digest."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from phantomset.data.errors import WorkspaceError
from phantomset.data.pixels.canonical import digest_of_pixels
from phantomset.data.records import Cohort, ImageSpec, Record
from phantomset.data.store import Store, image_set
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


def test_many_packs(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer seals a pack when it is full, so that memory stays flat."""
    monkeypatch.setattr("phantomset.data.store.PACK_BYTES", 200)
    images = _images(10)
    digests = Store(workspace).put(images)
    assert len(list(workspace.restricted("objects").glob("*.npy"))) == 3  # 64 bytes each, sealed at 256
    assert np.array_equal(Store(workspace).get(digests), images)


def test_an_error_leaves_nothing_behind(workspace: Workspace) -> None:
    """What was gathered before an error never enters the store, and no part file stays."""
    before = _tree(workspace.root)
    with pytest.raises(ZeroDivisionError), Store(workspace).writer() as pack:
        pack.add(_images(1)[0])
        raise ZeroDivisionError
    assert _tree(workspace.root) == before
    assert list(workspace.restricted("incoming").iterdir()) == []


def test_what_a_killed_run_left_is_swept(workspace: Workspace) -> None:
    """Staging folders of processes that are gone go with the next writer; those of living ones stay."""
    dead, living = (
        workspace.restricted("incoming", "packs-999999999-x"),
        workspace.restricted("incoming", "packs-1-x"),
    )
    dead.mkdir()
    living.mkdir()
    Store(workspace).put(_images(1))
    assert not dead.exists()
    assert living.exists()


def test_a_missing_image_is_named_as_such(workspace: Workspace) -> None:
    """The message counts what is missing and says what to do."""
    digests = Store(workspace).put(_images(2))
    assert Store(workspace).has(digests)
    assert not Store(workspace).has([*digests, "0" * 64])
    with pytest.raises(WorkspaceError, match=r"1 of 3 images.*ingest"):
        Store(workspace).get([*digests, "0" * 64])


def test_damage_is_found(workspace: Workspace) -> None:
    """One flipped bit in a pack is found by its digest."""
    digests = Store(workspace).put(_images(3))
    assert Store(workspace).verify() == []
    pack = next(workspace.restricted("objects").glob("*.npy"))
    content = bytearray(pack.read_bytes())
    content[-1] ^= 1  # the last byte of the last row, and rows are sorted by digest
    pack.write_bytes(bytes(content))
    assert Store(workspace).verify() == [max(digests)]


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_a_truncated_pack_is_an_input_error(workspace: Workspace, suffix: str) -> None:
    """A damaged workspace ends in a message that says which pack, never in a traceback of another kind."""
    digests = Store(workspace).put(_images(3))
    pack = next(workspace.restricted("objects").glob(f"*{suffix}"))
    pack.write_bytes(pack.read_bytes()[:100])
    with pytest.raises(WorkspaceError, match=pack.stem[:12]):
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


def test_image_set_numbers_patients_over_the_whole_cohort(workspace: Workspace) -> None:
    """A patient has one code in every part, in the order of first records."""
    images = _images(4)
    digests = Store(workspace).put(images)
    subjects = ("s9", "s2", "s9", "s5")
    records = tuple(Record(d, d, i % 2, s, s) for i, (d, s) in enumerate(zip(digests, subjects, strict=True)))
    cohort = Cohort("c", ImageSpec(1, 8, 8), ("a", "b"), records, 4, {}, {}, True)
    chosen = image_set(workspace, cohort, (3, 2))
    assert chosen.patients.tolist() == [2, 0]
    assert chosen.labels.tolist() == [1, 0]
    assert np.array_equal(chosen.images, images[[3, 2]])
    assert image_set(workspace, cohort, ()).images.shape == (0, 1, 8, 8)
