"""Weights that lie where a run's own belong, and damage beside them: told, never used."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from phantomset.data.errors import ModelError
from phantomset.pipelines import stages
from phantomset.pipelines.recipe import Recipe
from phantomset.pipelines.stages import Job

from .conftest import SMALL


def _trained(job: Job) -> Path:
    """Train, and return the folder of the run."""
    folder = stages.run(job, "train").checkpoint_folder
    assert folder is not None
    return folder


@pytest.mark.parametrize(
    "change",
    [{"model": {**SMALL["model"], "family": "vanilla"}}, {"split": {"seed": 5}}, {"seed": 9}],
    ids=str,
)
@pytest.mark.parametrize("whole", [False, True])
def test_weights_of_another_run_make_no_set(
    job: Callable[..., Job], small: Callable[..., Recipe], change: dict[str, object], whole: bool
) -> None:
    """Of another family, of other patients of the same cohort, of another seed.

    Whether the weights alone were put into the run's folder, or all that lies beside them: the gate would
    look for copies of the wrong patients.
    """
    work = job()
    own, foreign = _trained(work), _trained(job(small(**change), "other"))
    if whole:
        shutil.rmtree(own)
        shutil.copytree(foreign, own)
    else:
        for path in own.glob("checkpoint-*"):
            path.unlink()
        for path in foreign.glob("checkpoint-*"):
            shutil.copy(path, own)
    with pytest.raises(ModelError, match="another run"):
        stages.run(work, "generate")


@pytest.mark.parametrize("name", ["budget.json", "identity.json"])
@pytest.mark.parametrize("content", ["{", "null", '{"run": {}, "machine": {}}'])
def test_a_damaged_file_beside_the_weights(job: Callable[..., Job], name: str, content: str) -> None:
    """Each is named, with what to do. The budget counts while there is something left to train."""
    work = job()
    folder = _trained(work)
    (folder / name).write_text(content)
    if name == "budget.json":
        for path in folder.glob("checkpoint-*"):
            path.unlink()
    with pytest.raises(ModelError, match=rf"{name} is (missing or )?damaged"):
        stages.run(work, "train")


def test_a_size_that_the_family_cannot_make_is_told_before_anything_is_read(
    job: Callable[..., Job], small: Callable[..., Recipe]
) -> None:
    """The first file is not opened: a large archive takes hours to read."""
    work = job(small(image={"size_px": 2000, "channels": 1}, source={"format": "folder", "path": "/nowhere"}))
    with pytest.raises(ModelError, match="256"):
        stages.run(work, "train")
