"""Translating images: what is learned, what is measured, what stays restricted."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from phantomset.data.errors import ModelError, RecipeError
from phantomset.data.records import ImageSet
from phantomset.ganmodels.translate import translate
from phantomset.pipelines import stages
from phantomset.pipelines.recipe import Recipe, TranslateSettings
from phantomset.pipelines.recipes import recipe_file
from phantomset.pipelines.stages import Job
from phantomset.pipelines.synthesis import making, sets, translation, translation_sets


def _images(count: int = 12) -> ImageSet:
    """Smooth images with a bright square somewhere, half of them of each of two classes, in pairs."""
    rng = np.random.default_rng(0)
    pixels = np.zeros((count, 1, 16, 16), np.uint8)
    for image in pixels:
        top, left = rng.integers(0, 10, 2)
        image[0, top : top + 5, left : left + 5] = 200
    labels = np.arange(count) % 2
    keys = np.array([f"k{place // 2}" for place in range(count)])
    return ImageSet(pixels, labels, np.arange(count), ("photo", "map"), {"pair": keys})


def test_pairs_share_their_key() -> None:
    """Each photo beside its own map, whatever the order, as channels of one image."""
    images = _images()
    shuffled = images.take(np.random.default_rng(1).permutation(12))
    task = TranslateSettings(task="pairs", source="photo", target="map")
    learn = translation_sets.training_set(task, shuffled)
    assert learn.images.shape == (6, 2, 16, 16)
    known = {
        (images.images[place].tobytes(), images.images[place + 1].tobytes()) for place in range(0, 12, 2)
    }
    assert {(pair[:1].tobytes(), pair[1:].tobytes()) for pair in learn.images} == known


def test_restoration_makes_its_own_pairs() -> None:
    """Noise of so many grey levels, and blocks that hold their mean; the target is the image itself."""
    images = np.full((4, 1, 64, 64), 128, np.uint8)
    noisy = translation_sets.noisy(images, 10.0)
    assert np.array_equal(noisy, translation_sets.noisy(images, 10.0))
    assert noisy.std() == pytest.approx(10.0, rel=0.05)
    ramp = np.arange(16, dtype=np.uint8).reshape(1, 1, 4, 4)
    assert translation_sets.coarse(ramp, 2)[0, 0].tolist() == [
        [2, 2, 4, 4],  # (0 + 1 + 4 + 5) / 4 = 2.5 is rounded to the even 2, (2 + 3 + 6 + 7) / 4 = 4.5 to 4
        [2, 2, 4, 4],
        [10, 10, 12, 12],
        [10, 10, 12, 12],
    ]
    assert translation_sets.coarse(np.zeros((1, 3, 5, 7), np.uint8), 4).shape == (1, 3, 5, 7)


def test_anatomy_that_is_kept_and_that_is_lost() -> None:
    """An image and itself agree wholly; an image and a stranger's translation keep nothing."""
    images = _images(10).images
    kept = translation.measure(images, images, images)
    assert kept["edges"] == kept["structure"] == kept["edges_kept"] == kept["edges_after"] == 1.0
    negative = translation.measure(images, 255 - images, None)
    assert negative["edges_kept"] == pytest.approx(1.0)
    lost = translation.measure(images, np.roll(images, 3, axis=0), None)
    assert lost["edges_kept"] < translation.KEPT_FLOOR


def test_a_pair_stands_in_one_part(
    job: Callable[..., Job], small: Callable[..., Recipe], tmp_path: Path
) -> None:
    """Images that share ``source.pair`` are one group, though nothing names a patient: else half of a pair
    would be learned and the other half judged."""
    for kind in ("photo", "map"):
        (tmp_path / "in" / kind).mkdir(parents=True)
    for number in range(60):
        for kind in ("photo", "map"):
            pixels = np.random.default_rng((number, len(kind))).integers(0, 256, (16, 16), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "in" / kind / f"eye{number}.png")
    source = {
        "format": "folder",
        "path": tmp_path / "in",
        "labels": {"from": "folder", "classes": ["photo", "map"]},
        "pair": {"regex": r"(eye\d+)"},
        "include": "*/*",
    }
    model = {"family": "pix2pix", "batch_size": 8, "budget": {"images": 64}, "settings": {"width": 8}}
    recipe = small(
        source=source, model=model, translate={"task": "pairs", "source": "photo", "target": "map"}
    )
    (cohort, split), *_ = stages.ingest(job(recipe))
    assert len(cohort.records) == 120
    for part in (split.train, split.holdout, split.reference):
        pairs = [cohort.records[place].attributes["pair"] for place in part]
        assert len(pairs) == 2 * len(set(pairs)) > 0


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (
            TranslateSettings(task="domains", source="photo", target="scan"),
            "no class 'scan'; it has photo, map",
        ),
        (TranslateSettings(task="pairs", source="scan", target="map"), "no class 'scan'; it has photo, map"),
    ],
)
def test_classes_that_are_not_there(task: TranslateSettings, message: str) -> None:
    """A class that the source lacks is named beside those that it has."""
    with pytest.raises(ModelError, match=message):
        translation_sets.training_set(task, _images())


def test_pairs_without_a_key() -> None:
    """Without ``source.pair`` nothing says which images belong together."""
    images = _images()
    bare = ImageSet(images.images, images.labels, images.patients, images.label_names)
    with pytest.raises(ModelError, match=r"source\.pair"):
        translation_sets.training_set(TranslateSettings(task="pairs", source="photo", target="map"), bare)


def test_a_task_needs_its_classes() -> None:
    """Domains without names are refused when the recipe is read."""
    given = ["model.family=cyclegan", "translate={task: domains, source: normal}"]
    with pytest.raises(RecipeError, match="needs source and target"):
        recipe_file.read("pneumoniamnist", given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"task": "denoise", "factor": 8}, "task denoise has no use for factor"),
        ({"task": "upscale", "noise_levels": 5}, "task upscale has no use for noise_levels"),
        ({"task": "denoise", "source": "3"}, "task denoise has no use for source"),
        ({"task": "pairs", "source": "3", "target": "8", "factor": 4}, "task pairs has no use for factor"),
    ],
)
def test_what_a_task_does_not_heed_is_refused(given: dict[str, Any], message: str) -> None:
    """Else it would be lost in silence."""
    with pytest.raises(ValueError, match=message):
        TranslateSettings.model_validate(given)


def test_only_translation_recipes_translate(tmp_path: Path) -> None:
    """A recipe without the section says what to add."""
    with pytest.raises(ModelError, match="has no section translate"):
        translation.task_of(recipe_file.read("pneumoniamnist").recipe)
    assert translation.task_of(recipe_file.read("retina-vessels").recipe).task == "pairs"


def test_a_translation_keeps_the_class_of_its_source() -> None:
    """The translator is told domain 0; what is stored beside an image is its own class, by its name."""
    images = _images()
    sources, truth = translation_sets.sources(
        TranslateSettings(task="domains", source="map", target="photo"), images
    )
    assert truth is None
    assert {images.label_names[label] for label in sources.labels} == {"map"}
    assert not translation.from_source(sources.images).any()


def test_what_is_warned_of() -> None:
    """With a truth, coming no nearer to it; without one, half of the edges gone."""
    known = {"edges_kept": 0.1, "edges_before": 0.7}
    assert translation.warning_of({**known, "edges_after": 0.69}) == translation.WORSE
    assert translation.warning_of({**known, "edges_after": 0.7}) is None
    assert translation.warning_of({"edges_kept": 0.49}) == translation.CHANGED
    assert translation.warning_of({"edges_kept": 0.51}) is None


def _read(made: translation.Translated) -> dict[str, np.ndarray]:
    with np.load(made.folder / "translations.npz", allow_pickle=False) as stored:
        return dict(stored)


def test_a_restoration_as_a_whole(job: Callable[..., Job], small: Callable[..., Recipe]) -> None:
    """Noisy digits to clean ones by a translator that learned nothing: the warning says that they got worse.

    All of the training part and of the holdout is translated, each image keeps its class, and nothing of it
    is readable to others.
    """
    model = {"family": "pix2pix", "budget": {"images": 64}, "batch_size": 16, "settings": {"width": 8}}
    work = job(small(model=model, translate={"task": "denoise", "noise_levels": 60}))
    made = stages.translate(work)
    assert made.figures["edges_after"] < made.figures["edges_before"]
    assert made.warning == translation.WORSE
    assert made.folder == work.workspace.restricted("translations", made.name)
    stored, (cohort, split) = _read(made), stages.ingest(work)[0]
    labels = [cohort.records[place].label for part in (split.train, split.holdout) for place in part]
    assert stored["labels"].tolist() == labels
    assert stored["images"].shape == (made.count, 1, 8, 8) == (len(labels), 1, 8, 8)
    assert json.loads((made.folder / "figures.json").read_text()) == made.figures
    files = ("translations.npz", "figures.json", "pictures.png")
    assert [(made.folder / name).stat().st_mode & 0o077 for name in files] == [0, 0, 0]
    assert made.folder.stat().st_mode & 0o077 == 0


def test_domains_as_a_whole(job: Callable[..., Job], small: Callable[..., Recipe]) -> None:
    """Of two domains the first is translated; what four steps learn keeps no edges, and the warning says so.

    Asked for again, nothing is trained: the same images come from the model that is there.
    """
    model = {
        "family": "cyclegan",
        "budget": {"images": 64},
        "batch_size": 16,
        "settings": {"width": 4, "blocks": 1},
    }
    work = job(small(model=model, translate={"task": "domains", "source": "3", "target": "8"}))
    made = stages.translate(work)
    assert set(made.figures) == {"edges", "structure", "edges_kept"}
    assert made.figures["edges_kept"] < translation.KEPT_FLOOR
    assert made.warning == translation.CHANGED
    stored, (cohort, split) = _read(made), stages.ingest(work)[0]
    assert {str(stored["label_names"][label]) for label in stored["labels"]} == {"3"}
    records = [cohort.records[place] for part in (split.train, split.holdout) for place in part]
    assert (
        made.count == len(stored["images"]) == sum(cohort.label_names[each.label] == "3" for each in records)
    )
    weights = {path: path.stat().st_mtime_ns for path in (made.folder / "model").glob("*.safetensors")}
    again = stages.translate(work)
    assert again == made
    assert np.array_equal(_read(again)["images"], stored["images"])
    assert weights == {path: path.stat().st_mtime_ns for path in weights}


DOMAINS = {"task": "domains", "source": "3", "target": "8"}


def _translator(mode: str = "cycle", **changes: object) -> dict[str, object]:
    """Return sections for a translator of four steps."""
    settings = {"mode": mode, "width": 4, "blocks": 1}
    model = {"family": "cyclegan", "budget": {"images": 64}, "batch_size": 16, "settings": settings}
    return {"model": {**model, **changes}, "translate": DOMAINS}


@pytest.mark.parametrize("mode", ["cycle", "contrastive"])
def test_candidates_of_every_class_are_translated(
    job: Callable[..., Job], small: Callable[..., Recipe], mode: str
) -> None:
    """`generate.through` sends all ten classes of digits from the source's domain, and changes no label."""
    bare = job()
    before = stages.run(bare, "generate").synthetic
    translated = stages.translate(job(small(**_translator(mode))))
    through = {"count": 30, "through": translated.name}
    after = stages.run(job(small(generate=through)), "generate").synthetic
    assert before is not None
    assert after is not None
    plain, made = (sets.load_images(bare.workspace, each) for each in (before, after))
    assert len(set(plain.labels)) == 10
    assert np.array_equal(made.labels, plain.labels)
    wanted = translate(translated.folder / "model", plain.images, np.zeros(30, np.int64), 0)
    assert np.array_equal(made.images, wanted)
    assert all((made.images != plain.images).any(axis=(1, 2, 3)))


@pytest.mark.parametrize(
    "changes", [{"split": {"seed": 5}}, {"seed": 9}, _translator(held_out_share=0.02)], ids=str
)
def test_a_translator_that_learned_from_others_is_refused(
    job: Callable[..., Job], small: Callable[..., Recipe], changes: dict[str, object]
) -> None:
    """Another split, other patients held out, or fewer: the gate would not look for all whom it saw.

    It is told before anything is trained, and nothing is made.
    """
    name = stages.translate(job(small(**{**_translator(), **changes}))).name
    work = job(small(generate={"count": 30, "through": name}))
    with pytest.raises(ModelError, match="learned from images that this recipe does not learn from"):
        stages.run(work, "generate")
    assert not list(work.workspace.restricted("checkpoints").glob("*"))


def test_the_translator_learns_from_no_other_than_the_generator(
    job: Callable[..., Job], small: Callable[..., Recipe]
) -> None:
    """Its note names the records of the run's training part, without those that watch a run's critic."""
    made = stages.translate(job(small(**_translator())))
    work = job()
    cohort, split = stages.ingest(work)[0]
    learned, held = making.learned_and_held_out(work.recipe, cohort, split)
    noted = json.loads((made.folder / translation.LEARNED).read_text())
    assert noted == {"split": split.digest, "learned": list(learned)}
    assert held


def test_a_translator_that_was_given_up_is_refused(
    job: Callable[..., Job], small: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the engine would not let a run end with serves no run."""
    made = stages.translate(job(small(**_translator())))
    monkeypatch.setattr(translation, "_events", lambda _: ({"code": "given-up"},))
    with pytest.raises(ModelError, match="was given up"):
        stages.run(job(small(generate={"count": 30, "through": made.name})), "generate")


def test_the_events_of_a_translator_are_written_down(
    job: Callable[..., Job], small: Callable[..., Recipe]
) -> None:
    """As of any training: in the run's log with its curve, and in what the command prints as JSON."""
    work = job(small(**_translator()))
    made = stages.translate(work)
    assert "not-watched" in {event["code"] for event in made.events}
    assert work.ledger.folder is not None
    lines = [json.loads(line) for line in (work.ledger.folder / "log.jsonl").read_text().splitlines()]
    logged = [line["code"] for line in lines if line["event"] == "training"]
    assert logged == [event["code"] for event in made.events]


def test_held_out_images_watch_a_translator(job: Callable[..., Job], small: Callable[..., Recipe]) -> None:
    """Where enough of them belong to the task they are compared at each check, and nothing else is said."""
    model = {"family": "pix2pix", "budget": {"images": 640}, "batch_size": 16, "settings": {"width": 4}}
    made = stages.translate(job(small(model=model, translate={"task": "denoise"})))
    assert "not-watched" not in {event["code"] for event in made.events}
    assert "held_out_gap" in making.curve(made.folder / "model")[-1]


@pytest.mark.parametrize("held", [[0, 1], [*range(0, 20, 2), 1, 3]], ids=["few", "few of the target"])
def test_too_few_held_out_images_watch_nothing(held: list[int]) -> None:
    """Nothing can be said by two images, nor of a domain of which two are held out."""
    task, images = TranslateSettings(task="domains", source="photo", target="map"), _images(20)
    assert translation_sets.watching_set(task, images) is not None
    assert translation_sets.watching_set(task, images.take(np.array(held))) is None


@pytest.mark.parametrize("name", ["f" * 16, None])
def test_candidates_need_a_translation_that_is_there(
    job: Callable[..., Job], small: Callable[..., Recipe], name: str | None
) -> None:
    """An unknown name is refused with the command that prints names; a note that cannot be read, too."""
    if name is None:
        made = stages.translate(job(small(**_translator())))
        (made.folder / translation.LEARNED).write_text("null")
    message = rf"no translation '{name}'.*phantomset translate" if name else "cannot be read"
    with pytest.raises(ModelError, match=message):
        stages.run(job(small(generate={"count": 30, "through": name or made.name})), "generate")


def test_run_refuses_a_recipe_that_translates(job: Callable[..., Job], small: Callable[..., Recipe]) -> None:
    """What a patient's image becomes is never published: `run` stops before anything is read."""
    work = job(small(translate={"task": "denoise"}, model={"family": "pix2pix"}))
    with pytest.raises(RecipeError, match="never published"):
        stages.run(work)
    assert work.ledger.folder is None


@pytest.mark.slow
def test_vessels_are_found(datasets: Path, job: Callable[..., Job]) -> None:
    """The shipped recipe on its fundus photographs, as it is: maps agree with the drawn vessels in edges and
    structure. With half the images all that is learned is an empty map, whose structure agrees as well.
    """
    changes = [f"source.path={datasets / 'retina-vessel-pairs-128.zip'}"]
    made = stages.translate(job(recipe_file.read("retina-vessels", changes).recipe))
    assert made.warning is None
    assert made.figures["edges_after"] > made.figures["edges_before"] + 0.2, made.figures
    assert made.figures["structure_after"] > made.figures["structure_before"] + 0.1, made.figures


@pytest.mark.slow
def test_healthy_lungs_become_ill_and_lose_their_label(datasets: Path, job: Callable[..., Job]) -> None:
    """Real domains that differ in their findings, normal and pneumonia: translated and measured."""
    settings = {"width": 8, "blocks": 2}
    model = {"family": "cyclegan", "budget": {"images": 3_200}, "batch_size": 16, "settings": settings}
    changes = [f"source.path={datasets / 'pneumoniamnist.npz'}", f"model={json.dumps(model)}"]
    changes += ["translate={task: domains, source: normal, target: pneumonia}"]
    work = job(recipe_file.read("pneumoniamnist", changes).recipe)
    made = stages.translate(work)
    assert "not-watched" not in {event["code"] for event in made.events}
    assert made.folder.is_relative_to(work.workspace.root / "restricted")
    assert set(_read(made)["labels"]) == {0}
    assert 0 < made.figures["edges_kept"] <= 1
