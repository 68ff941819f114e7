"""What each task of `phantomset translate` shows a family: pairs, two domains, or images made worse."""

import dataclasses

import numpy as np

from phantomset.data.errors import ModelError
from phantomset.data.records import ImageSet
from phantomset.data.seeds import stream
from phantomset.pipelines.recipe import TranslateSettings
from phantomset.pipelines.synthesis.making import FEWEST_HELD_OUT

PAIR = "pair"
"""The attribute that two images of one pair share; the folder source makes it from ``source.pair``."""


def training_set(task: TranslateSettings, images: ImageSet) -> ImageSet:
    """Return what the family learns: pairs in the channels, the source first, or two domains as classes.

    Raises:
        ModelError: the classes or the pairs that the task names are not there.
    """
    source, target = sources(task, images)
    if task.task == "domains":
        own, other = (_members(images, name) for name in (task.source, task.target))
        chosen = images.take(np.concatenate([own, other]))
        labels = np.repeat([0, 1], [len(own), len(other)])
        return ImageSet(chosen.images, labels, chosen.patients, (str(task.source), str(task.target)))
    if target is None:
        raise ModelError("translate: there is nothing to translate to.")
    stacked = np.concatenate([source.images, target], axis=1)
    return ImageSet(stacked, np.zeros(len(source), np.int64), source.patients, ("pair",))


def watching_set(task: TranslateSettings, held_out: ImageSet) -> ImageSet | None:
    """Return held-out images as the family learns them; None where too few belong to a pair or a domain."""
    try:
        found = training_set(task, held_out)
    except ModelError:
        return None
    made = np.count_nonzero(found.labels == len(found.label_names) - 1)  # pairs, or the target's domain
    return found if made >= FEWEST_HELD_OUT else None


def blank_training_set(task: TranslateSettings, images: ImageSet) -> ImageSet:
    """Return images of noise in the shape of a training set, to try a family's speed on."""
    if task.task == "domains":
        return images
    stacked = np.concatenate([images.images, images.images], axis=1)
    return ImageSet(stacked, np.zeros(len(images), np.int64), images.patients, ("pair",))


def sources(task: TranslateSettings, images: ImageSet) -> tuple[ImageSet, np.ndarray | None]:
    """Return the images to translate, each with its own class, and what they should become, if known."""
    if task.task == "denoise":
        return dataclasses.replace(images, images=noisy(images.images, task.noise_levels)), images.images
    if task.task == "upscale":
        return dataclasses.replace(images, images=coarse(images.images, task.factor)), images.images
    own, other = (_members(images, name) for name in (task.source, task.target))
    if task.task == "domains":
        return images.take(own), None
    keys = images.attributes.get(PAIR)
    if keys is None:
        raise ModelError("translate: no image belongs to a pair. Say in source.pair what pairs share.")
    partner = {keys[place]: place for place in other}
    matched = [place for place in own if keys[place] and keys[place] in partner]
    if not matched:
        raise ModelError(
            f"translate: no image of {task.source!r} has a partner of {task.target!r}. Look at source.pair."
        )
    targets = images.images[[partner[keys[place]] for place in matched]]
    return images.take(np.array(matched)), targets


def _members(images: ImageSet, name: str | None) -> np.ndarray:
    if name not in images.label_names:
        raise ModelError(
            f"translate: the source has no class {name!r}; it has {', '.join(images.label_names)}. "
            "Name two of them in translate.source and translate.target."
        )
    return np.flatnonzero(images.labels == images.label_names.index(name))


def noisy(images: np.ndarray, levels: float) -> np.ndarray:
    """Return images ``(N, C, H, W)`` uint8 with Gaussian noise of ``levels`` grey levels, always the same."""
    rng = stream(0, "denoise", len(images))
    noise = rng.standard_normal(images.shape, dtype=np.float32) * levels
    return np.clip(np.rint(images + noise), 0, 255).astype(np.uint8)


def coarse(images: np.ndarray, factor: int) -> np.ndarray:
    """Return images ``(N, C, H, W)`` uint8 whose blocks of ``factor`` pixels a side hold their mean."""
    height, width = images.shape[2:]
    padding = ((0, 0), (0, 0), (0, -height % factor), (0, -width % factor))
    whole = np.pad(images, padding, mode="edge")
    rows, columns = whole.shape[2] // factor, whole.shape[3] // factor
    blocks = whole.reshape(*whole.shape[:2], rows, factor, columns, factor).mean(axis=(3, 5))
    large = blocks.repeat(factor, axis=2).repeat(factor, axis=3)[:, :, :height, :width]
    return np.rint(large).astype(np.uint8)
