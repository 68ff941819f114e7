"""Images from a finished run."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from phantomset.data.errors import ModelError
from phantomset.data.records import ImageSet
from phantomset.ganmodels import checkpoint
from phantomset.ganmodels.engine import train
from phantomset.ganmodels.families import stylegan2, vanilla
from phantomset.ganmodels.generate import CHUNK, Look, between, generate
from phantomset.ganmodels.plan import Progress, TrainingPlan

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


def test_labels_that_are_no_whole_numbers(finished: Path, device: str) -> None:
    """0.7 is no class: it is not cut to 0 in silence."""
    with pytest.raises(ModelError, match="whole numbers; found float64"):
        generate(finished, np.array([0.7, 1.2]), 0, device)


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_of_the_way(finished: Path, device: str, share: float) -> None:
    """Neither before the one seed nor beyond the other."""
    with pytest.raises(ModelError, match="between 0 and 1"):
        generate(finished, np.array([0]), 0, device, Look(towards=1, share=share))


def test_the_weights_of_another_family(
    small: ImageSet, run: Run, finished: Path, tmp_path: Path, device: str
) -> None:
    """A finished checkpoint that was copied in from elsewhere: refused by name, with what to do.

    So are tensors that name this run, and are not those of its networks.
    """
    other = tmp_path / "other"
    for _ in train(small, "vanilla", vanilla.Settings(), TrainingPlan(64, batch_size=16, threads=1), other):
        pass
    foreign, own = (max(place.glob("checkpoint-*.safetensors")) for place in (other, finished))
    own.write_bytes(foreign.read_bytes())
    with pytest.raises(ModelError, match="another run"):
        generate(finished, np.array([0]), 0, device)
    saved = checkpoint.read(other, max(checkpoint.steps(other)))
    counters = saved.counters | {"step": max(checkpoint.steps(finished))}
    checkpoint.save(finished, saved.tensors, counters, done=True)
    with pytest.raises(ModelError, match="do not fit r3gan"):
        generate(finished, np.array([0]), 0, device)


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


def test_truncation_trades_variety(finished: Path, device: str) -> None:
    """At a half, samples of a class lie nearer together than at 1; 1 is the default; 0 and 2 are refused."""
    labels = np.zeros(50, np.int64)

    def spread(truncation: float) -> float:
        made = generate(finished, labels, 0, device, Look(truncation)).reshape(50, -1).astype(np.float32)
        return float(torch.pdist(torch.from_numpy(made)).mean())

    assert spread(0.5) < 0.8 * spread(1.0)
    assert np.array_equal(
        generate(finished, labels, 0, device), generate(finished, labels, 0, device, Look(1.0))
    )
    for wrong in (0.0, 2.0):
        with pytest.raises(ModelError, match="over 0 and at most 1"):
            generate(finished, labels, 0, device, Look(wrong))


def test_from_one_seed_to_another(finished: Path, device: str) -> None:
    """Share 0 is the own seed, share 1 the other; between lie images that are neither."""
    labels = np.array([0, 1, 1])
    ends = [generate(finished, labels, seed, device).astype(int) for seed in (3, 4)]
    way = [
        generate(finished, labels, 3, device, Look(towards=4, share=share)).astype(int)
        for share in (0.0, 0.5, 1.0)
    ]
    assert np.abs(way[0] - ends[0]).max() <= 1  # the last bit of a sine may cross a rounding
    assert np.abs(way[2] - ends[1]).max() <= 1
    assert all(np.abs(way[1] - end).max() > 1 for end in ends)


def test_noise_between_two_is_as_long_as_any() -> None:
    """Vectors of length 1 at a right angle: half-way is (1, 1) / sqrt(2), not (1, 1) / 2."""
    first, second = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    assert between(first, second, 0.5)[0].tolist() == pytest.approx([0.5**0.5] * 2)
    assert between(first, second, 1 / 3)[0].tolist() == pytest.approx([3**0.5 / 2, 0.5])


def test_styles_are_mixed(small: ImageSet, finished: Path, tmp_path: Path, device: str) -> None:
    """The fine styles of another seed change the image, one's own do not; other families refuse."""
    plan = TrainingPlan(320, batch_size=16, threads=1)
    folder, labels = tmp_path / "styles", np.array([0, 1, 0])
    for _ in train(small, "stylegan2", stylegan2.Settings(), plan, folder, device):
        pass
    plain, own, other = (generate(folder, labels, 5, device, Look(fine_seed=fine)) for fine in (None, 5, 6))
    assert np.array_equal(plain, own)
    assert not np.array_equal(plain, other)
    with pytest.raises(ModelError, match="mixes no styles"):
        generate(finished, labels, 5, device, Look(fine_seed=6))
