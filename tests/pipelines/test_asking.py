"""Pictures that `phantomset generate` draws: the set by class, the way to another seed, other fine styles."""

import importlib
from collections.abc import Callable

import numpy as np
import pytest

from phantomset.data.errors import ModelError, WorkspaceError
from phantomset.data.seeds import seed_of
from phantomset.ganmodels import generate as generating
from phantomset.ganmodels import grid
from phantomset.ganmodels.generate import Look, generate
from phantomset.ganmodels.grid import GROUND
from phantomset.pipelines import stages
from phantomset.pipelines.cli.asking import COLUMNS, Drawing
from phantomset.pipelines.compute import Machine
from phantomset.pipelines.recipe import Recipe
from phantomset.pipelines.stages import Job
from phantomset.pipelines.synthesis import sets, translation

STYLED = {
    "family": "stylegan2",
    "budget": {"images": 80},
    "batch_size": 40,
    "settings": {"latent": 16, "style_mixing": 0.5},
}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """Return the images of each picture that is drawn from now on, in rows of ten."""
    importlib.import_module("phantomset.ganmodels.run")  # it keeps the name: training's sheets are not seen
    seen, sheet = list[np.ndarray](), grid.contact_sheet

    def kept(images: np.ndarray, columns: int) -> bytes:
        assert columns == COLUMNS
        seen.append(images.reshape(-1, columns, *images.shape[1:]))
        return sheet(images, columns)

    monkeypatch.setattr(grid, "contact_sheet", kept)
    return seen


def made_from(work: Job, outcome: stages.Outcome, labels: list[int], look: Look) -> np.ndarray:
    """Return what the run's generator makes of labels, by the recipe's seed."""
    assert outcome.checkpoint_folder is not None
    seed = seed_of(work.recipe.seed, "generate")
    return generate(outcome.checkpoint_folder, np.array(labels), seed, look=look)


def test_another_draw_trains_nothing(job: Callable[..., Job]) -> None:
    """`generate.seed` makes another set of the same generator; the same seed again makes the same set, and
    the recipe's own seed is what holds without it."""
    work = job()
    first = stages.run(work, "generate")
    drawn = [stages.run(job(with_seed(work.recipe, seed)), "generate") for seed in (1, 1, work.recipe.seed)]
    assert {each.checkpoint_folder for each in drawn} == {first.checkpoint_folder}
    nouns = [each.synthetic for each in (first, *drawn)]
    digests = [made.digest for made in nouns if made is not None]
    assert digests[1] == digests[2] != digests[0] == digests[3]


def with_seed(recipe: Recipe, seed: int) -> Recipe:
    """Return the recipe with another draw."""
    return recipe.model_copy(update={"generate": recipe.generate.model_copy(update={"seed": seed})})


def test_a_grid_and_a_way(job: Callable[..., Job], drawn: list[np.ndarray]) -> None:
    """A row a class: the set's own images, empty where there are no ten, and the way from the recipe's seed
    to another, both ends included.

    Pictures lie in the restricted part, for their owner alone.
    """
    work = job()
    outcome = stages.run(work, "generate")
    paths = Drawing(grid=True, towards=9).draw(work.recipe, work.workspace, work.machine, outcome)
    assert outcome.synthetic is not None
    made = sets.load_images(work.workspace, outcome.synthetic)
    by_class, way = drawn
    for label, row in enumerate(by_class):
        own = {image.tobytes() for image in made.images[made.labels == label]}
        shown = [image for image in row if (image != GROUND).any()]
        assert len(shown) == len({image.tobytes() for image in shown}) == min(len(own), 10)
        assert {image.tobytes() for image in shown} <= own
    labels = list(range(10))
    assert np.array_equal(way[:, 0], made_from(work, outcome, labels, Look()))
    end = Look(towards=seed_of(9, "generate"), share=1.0)
    assert np.array_equal(way[:, -1], made_from(work, outcome, labels, end))
    assert not np.array_equal(way[:, 0], way[:, -1])
    for path in paths:
        assert path.is_relative_to(work.workspace.root / "restricted")
        assert path.stat().st_mode & 0o077 == 0


def test_fine_styles_alone(
    job: Callable[..., Job], small: Callable[..., Recipe], drawn: list[np.ndarray]
) -> None:
    """Without a way: the first ten images of each class, all different, with the fine styles of the seed."""
    work = job(small(model=STYLED))
    outcome = stages.run(work, "generate")
    (path,) = Drawing(fine=9).draw(work.recipe, work.workspace, work.machine, outcome)
    (picture,) = drawn
    assert path.name.endswith("-fine-9.png")
    labels = np.repeat(np.arange(10), COLUMNS).tolist()
    wanted = made_from(work, outcome, labels, Look(fine_seed=seed_of(9, "generate")))
    assert np.array_equal(picture.reshape(wanted.shape), wanted)
    for row in picture:
        assert len({image.tobytes() for image in row}) == COLUMNS


@pytest.mark.parametrize("drawing", [Drawing(towards=9), Drawing(fine=9)], ids=["towards", "fine"])
def test_pictures_are_made_as_the_set_is(
    job: Callable[..., Job],
    small: Callable[..., Recipe],
    drawn: list[np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
    drawing: Drawing,
) -> None:
    """On the run's device, and through the translator of ``generate.through``; here it makes negatives."""
    work = job(small(model=STYLED))
    outcome = stages.run(work, "generate")
    drawing.draw(work.recipe, work.workspace, work.machine, outcome)

    def negative(_: object, name: str, images: np.ndarray, device: str) -> np.ndarray:
        assert (name, device) == ("0" * 16, "cuda")
        return 255 - images

    def elsewhere(folder: object, labels: np.ndarray, seed: int, device: str, look: Look) -> np.ndarray:
        assert device == "cuda"
        return generate(folder, labels, seed, look=look)  # type: ignore[arg-type]

    monkeypatch.setattr(translation, "through", negative)
    monkeypatch.setattr(generating, "generate", elsewhere)
    asked = work.recipe.generate.model_copy(update={"through": "0" * 16})
    recipe = work.recipe.model_copy(update={"generate": asked})
    drawing.draw(recipe, work.workspace, Machine("cuda", 1, True), outcome)
    plain, translated = drawn
    assert np.array_equal(translated, 255 - plain)


def test_fine_styles_need_a_family_that_mixes(small: Callable[..., Recipe]) -> None:
    """Another family is refused by name, from the recipe alone."""
    Drawing(fine=9).require(small(model=STYLED))
    Drawing(grid=True).require(small())
    with pytest.raises(ModelError, match="r3gan mixes no styles"):
        Drawing(fine=9).require(small())


@pytest.mark.parametrize("file", ["set.json", "images.npy", "labels.npy"])
def test_a_damaged_set_stops_its_own_run_alone(job: Callable[..., Job], file: str) -> None:
    """Of two sets in a workspace one is cut short: it is told with what to do, the other is read."""
    work = job()
    own, other = (stages.run(job(with_seed(work.recipe, seed)), "generate").synthetic for seed in (1, 2))
    assert own is not None
    assert other is not None
    for stored in work.workspace.restricted("synthetic").glob("*/set.json"):
        if sets.load_noun(stored.parent) == other:
            (stored.parent / file).write_bytes(b"{")
    assert len(sets.load_images(work.workspace, own).images) == own.count
    with pytest.raises(WorkspaceError, match=r"missing or damaged.*Move"):
        sets.load_images(work.workspace, other)
    if file == "set.json":
        with pytest.raises(WorkspaceError, match=r"set\.json is missing or damaged"):
            stages.run(job(with_seed(work.recipe, 2)), "generate")
