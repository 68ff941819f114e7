"""The training cache: a cohort's part as one memory-mapped array, made again whenever it is not right."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from phantomset.data.errors import WorkspaceError
from phantomset.data.records import Cohort, ImageSpec, Record
from phantomset.data.store.archive import Store
from phantomset.data.store.training_cache import cached, image_set
from phantomset.data.workspace import Workspace

SHAPE = (1, 8, 8)


@pytest.fixture
def images() -> np.ndarray:
    """Five images of chance."""
    return np.random.default_rng(0).integers(0, 256, (5, *SHAPE), dtype=np.uint8)


@pytest.fixture
def digests(workspace: Workspace, images: np.ndarray) -> list[str]:
    """Their names; they lie in the archive."""
    return list(Store(workspace).put(images))


@pytest.fixture
def array(workspace: Workspace, digests: list[str]) -> Path:
    """The file of their cached array."""
    cached(workspace, digests, SHAPE)
    (path,) = workspace.restricted("cache").iterdir()
    return path


def test_it_holds_the_images_in_their_order(
    workspace: Workspace, images: np.ndarray, digests: list[str]
) -> None:
    """One array of what was asked for, in the order of the digests, whatever the order of the archive."""
    for order in ([0, 1, 2, 3, 4], [4, 1, 1, 0]):
        assert np.array_equal(cached(workspace, [digests[i] for i in order], SHAPE), images[order])
    assert cached(workspace, [], SHAPE).shape == (0, *SHAPE)
    assert len(list(workspace.restricted("cache").iterdir())) == 2


def test_once_made_it_needs_no_archive(
    workspace: Workspace, images: np.ndarray, digests: list[str], array: Path
) -> None:
    """It is opened, not read or made anew: numpy alone reads it too. Its owner alone may read it."""
    shutil.rmtree(workspace.restricted("objects"))
    assert np.array_equal(cached(workspace, digests, SHAPE), images)
    assert np.array_equal(np.load(array, mmap_mode="r", allow_pickle=False), images)
    assert array.stat().st_mode & 0o777 == 0o600


def test_who_writes_changes_his_own_copy(
    workspace: Workspace, images: np.ndarray, digests: list[str], array: Path
) -> None:
    """The map is copy-on-write: no mistake of a reader reaches the file."""
    before = array.read_bytes()
    cached(workspace, digests, SHAPE)[:] = 0
    assert array.read_bytes() == before
    assert np.array_equal(cached(workspace, digests, SHAPE), images)


def _other(path: Path) -> None:
    np.save(path, np.zeros((5, 1, 4, 16), dtype=np.uint8))


def _blank(path: Path) -> None:
    np.save(path, np.zeros((5, *SHAPE), dtype=np.uint8))


@pytest.mark.parametrize(
    "harm",
    [
        Path.unlink,
        _other,
        _blank,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(b"\x80\x04." * 99),
    ],
    ids=["deleted", "other shape", "other content", "empty", "cut", "a pickle"],
)
def test_what_is_missing_or_damaged_is_made_again(
    workspace: Workspace, images: np.ndarray, digests: list[str], array: Path, harm: Callable[[Path], None]
) -> None:
    """Deleted by hand or damaged by a crash, it comes again, the same to the byte."""
    before = array.read_bytes()
    harm(array)
    assert np.array_equal(cached(workspace, digests, SHAPE), images)
    assert array.read_bytes() == before


def test_a_damaged_archive_makes_no_cache(workspace: Workspace, digests: list[str]) -> None:
    """Each image is held against its digest on its way; where one is not right, no part file stays."""
    (pack,) = workspace.restricted("objects").glob("*.pack")
    pack.write_bytes(pack.read_bytes()[:-1] + b"?")
    with pytest.raises(WorkspaceError, match="damaged"):
        cached(workspace, digests, SHAPE)
    with pytest.raises(WorkspaceError, match=r"found .*1, 8, 8.* expected .*3, 8, 8"):
        cached(workspace, [min(digests)], (3, 8, 8))
    assert list(workspace.restricted("cache").iterdir()) == []


def test_the_arrays_that_were_used_last_are_kept(
    workspace: Workspace, digests: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache does not grow with every split that there ever was."""
    monkeypatch.setattr("phantomset.data.store.training_cache._KEPT", 2)
    first, second, third = ([digest] for digest in digests[:3])
    for part in (first, second, first, third):
        cached(workspace, part, SHAPE)
    kept = {path.name for path in workspace.restricted("cache").iterdir()}
    for part in (first, third):
        cached(workspace, part, SHAPE)
    assert {path.name for path in workspace.restricted("cache").iterdir()} == kept
    assert len(kept) == 2


def test_a_cache_that_cannot_be_written_is_an_input_error(workspace: Workspace, digests: list[str]) -> None:
    """A file where the folder should be stands for every reason not to be able to write."""
    workspace.restricted("cache").rmdir()
    workspace.restricted("cache").write_text("")
    with pytest.raises(WorkspaceError, match=r"cache: cannot write.*--workspace"):
        cached(workspace, digests, SHAPE)


def test_image_set_numbers_patients_over_the_whole_cohort(
    workspace: Workspace, images: np.ndarray, digests: list[str]
) -> None:
    """A patient has one code in every part, in the order of first records."""
    subjects = ("s9", "s2", "s9", "s5", "s2")
    records = tuple(Record(d, d, i % 2, s, s) for i, (d, s) in enumerate(zip(digests, subjects, strict=True)))
    cohort = Cohort("c", ImageSpec(*SHAPE), ("a", "b"), records, 5, {}, {}, True)
    chosen = image_set(workspace, cohort, (3, 2))
    assert chosen.patients.tolist() == [2, 0]
    assert chosen.labels.tolist() == [1, 0]
    assert np.array_equal(chosen.images, images[[3, 2]])
    assert image_set(workspace, cohort, ()).images.shape == (0, *SHAPE)
