"""Images from a finished run."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from phantomset.data.errors import ModelError
from phantomset.data.records import ImageSet
from phantomset.ganmodels.generate import CHUNK, generate
from phantomset.ganmodels.plan import Progress

Run = Callable[..., Iterator[Progress]]


@pytest.fixture
def finished(small: ImageSet, run: Run, tmp_path: Path) -> Path:
    """The folder of a finished run."""
    for _ in run(small):
        pass
    return tmp_path


def test_an_image_follows_from_its_place_and_label_alone(finished: Path, device: str) -> None:
    """More images, other classes elsewhere in the list, a last chunk half full: none changes an image."""
    labels = np.arange(3 * CHUNK + 7) % 2
    every = generate(finished, labels, 5, device)
    assert np.array_equal(every[:10], generate(finished, labels[:10], 5, device))
    assert np.array_equal(every[: CHUNK + 3], generate(finished, labels[: CHUNK + 3], 5, device))
    others = labels.copy()
    others[20:] = 1 - others[20:]
    assert np.array_equal(every[:20], generate(finished, others, 5, device)[:20])
    assert len(np.unique(every.reshape(len(every), -1), axis=0)) == len(every)


@pytest.mark.parametrize("labels", [[0, 2], [-1], [[0, 1]]])
def test_labels_out_of_range(finished: Path, device: str, labels: list) -> None:
    """A class that the generator never saw is refused, with the range."""
    with pytest.raises(ModelError, match="from 0 to 1"):
        generate(finished, np.array(labels), 0, device)


def test_nothing_asked_for(finished: Path, device: str) -> None:
    """No label, no image: said, not returned as an empty array of unknown shape."""
    with pytest.raises(ModelError, match="at least one"):
        generate(finished, np.array([], dtype=np.int64), 0, device)


def test_an_unfinished_run(small: ImageSet, run: Run, tmp_path: Path, device: str) -> None:
    """A run that was stopped has no generator to publish from."""
    progress = run(small)
    next(progress)
    progress.close()  # type: ignore[attr-defined]
    with pytest.raises(ModelError, match="not finished"):
        generate(tmp_path, np.array([0]), 0, device)
