"""Several generators that share one budget."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from phantomset.data.catalogue import load
from phantomset.data.errors import ModelError
from phantomset.data.records import ImageSet
from phantomset.ganmodels import checkpoint, ensemble
from phantomset.ganmodels.generate import generate
from phantomset.ganmodels.plan import Progress, TrainingPlan

Run = Callable[..., Iterator[Progress]]
LAST = "checkpoint-00000020.safetensors"


def _same(first: Path, second: Path) -> bool:
    ours, theirs = load_file(first / LAST), load_file(second / LAST)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_each_member_is_a_run_of_its_own(small: ImageSet, run: Run, tmp_path: Path) -> None:
    """Half of the budget and a seed of its own each: to the bit what that plan alone gives."""
    whole = TrainingPlan(budget_images=640, batch_size=16, threads=1, members=2)
    reports = list(run(small, tmp_path / "both", members=2))
    for member in (0, 1):
        own = ensemble.member_plan(whole, member)
        assert (own.budget_images, own.members) == (320, 1)
        list(run(small, tmp_path / f"{member}", budget_images=320, seed=own.seed, members=1))
        assert _same(tmp_path / "both" / f"member-{member}", tmp_path / f"{member}")
    assert not _same(tmp_path / "0", tmp_path / "1")
    seen = [report.images_seen for report in reports]
    assert seen == sorted(seen)
    assert (seen[-1], reports[-1].budget_images, reports[-1].seconds_left) == (640, 640, 0)
    assert [report.done for report in reports] == [False] * (len(reports) - 1) + [True]


def test_members_make_images_in_turn(small: ImageSet, run: Run, tmp_path: Path) -> None:
    """Image i is of member i mod K; asking for more changes none."""
    list(run(small, tmp_path / "both", members=2))
    labels = np.array([0, 1, 1, 0, 0, 1, 0])
    made = generate(tmp_path / "both", labels, seed=3)
    first = generate(tmp_path / "both" / "member-0", labels[::2], seed=3)
    second = generate(tmp_path / "both" / "member-1", labels[1::2], seed=3)
    assert np.array_equal(made[::2], first)
    assert made[1::2].shape == second.shape
    assert not np.array_equal(made[1::2], second), "the members draw noise of their own"
    assert np.array_equal(generate(tmp_path / "both", labels[:4], seed=3), made[:4])
    assert len(generate(tmp_path / "both", labels[:1], seed=3)) == 1


def test_a_run_stopped_in_its_second_member_goes_on_to_the_same_bits(
    small: ImageSet, run: Run, tmp_path: Path
) -> None:
    """What is finished is not trained again; the end is that of a run that never stopped."""
    list(run(small, tmp_path / "straight", members=2))
    with closing(run(small, tmp_path / "stopped", members=2)) as progress:
        for step in progress:
            if step.images_seen > 320:
                break
    assert checkpoint.is_finished(tmp_path / "stopped" / "member-0")
    assert not checkpoint.is_finished(tmp_path / "stopped")
    with pytest.raises(ModelError, match="not finished"):
        generate(tmp_path / "stopped", np.array([0]), seed=0)
    list(run(small, tmp_path / "stopped", members=2))
    assert checkpoint.is_finished(tmp_path / "stopped")
    for name in ("member-0", "member-1"):
        assert _same(tmp_path / "straight" / name, tmp_path / "stopped" / name)
    first, second = (checkpoint.finished_checkpoint(tmp_path / n) for n in ("straight", "stopped"))
    assert (first.digest, first.images_seen) == (second.digest, 640)


def test_the_top_of_the_folder_tells_of_all_members(small: ImageSet, run: Run, tmp_path: Path) -> None:
    """Statistics one after the other with images counted on, one sheet a member, and each event's member."""
    list(run(small, members=2, settings=load("phantomset.ganmodels.families", "r3gan").Settings()))
    lines = checkpoint.read_statistics(tmp_path)
    assert [(line["images"], line["member"]) for line in lines] == [(320, 0), (640, 1)]
    assert [path.name for path in sorted((tmp_path / "grids").iterdir())] == [
        "000000320.png",
        "000000640.png",
    ]
    event = {"code": "stall", "images": 20, "message": "unchanged", "advice": "none"}
    assert checkpoint.told_of(event, 1, 2)["message"] == "generator 2 of 2: unchanged"
    assert checkpoint.told_of(event, 0, 1) is event


@pytest.mark.parametrize(
    ("budget", "images", "members"),
    [
        (199_999, 2_000, 1),
        (200_000, 2_000, 2),
        (400_000, 2_913, 4),
        (400_000, 6_700, 2),
        (10**6, 25_000, 1),
        (10**7, 2_000, 4),
    ],
)
def test_the_budget_chooses_unasked(budget: int, images: int, members: int) -> None:
    """As few as see each image 40 times at most; none with less than 100,000 images; at most 4."""
    plan = TrainingPlan(budget_images=budget)
    assert ensemble.member_count(plan, load("phantomset.ganmodels.families", "r3gan"), images) == members


def test_what_is_refused() -> None:
    """More members than batches, and several where images are translated; unasked, a translator is one."""
    r3gan, pairs = (load("phantomset.ganmodels.families", name) for name in ("r3gan", "pix2pix"))
    with pytest.raises(ModelError, match=r"less than a batch.*members"):
        ensemble.member_count(TrainingPlan(budget_images=100, batch_size=64, members=2), r3gan, 64)
    with pytest.raises(ModelError, match=r"translates.*model\.members"):
        ensemble.member_count(TrainingPlan(budget_images=10**6, members=2), pairs, 64)
    assert ensemble.member_count(TrainingPlan(budget_images=10**6), pairs, 64) == 1
