"""Images turned into others by a finished run of a family that translates."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from phantomset.data.errors import ModelError
from phantomset.data.records import ImageSpec
from phantomset.data.seeds import seed_of
from phantomset.ganmodels import checkpoint
from phantomset.ganmodels.family import Family
from phantomset.ganmodels.feed import as_pixels, as_signal
from phantomset.ganmodels.generate import at_once, load_averages
from phantomset.ganmodels.memory import enough_memory
from phantomset.ganmodels.plan import device_of
from phantomset.ganmodels.shards import Crew


@enough_memory("translate")
def translate(
    folder: Path, images: np.ndarray, labels: np.ndarray, seed: int, device: str = "cpu"
) -> np.ndarray:
    """Return each image translated, ``(N, C, H, W)`` uint8, by a run's averaged weights.

    The translation of a patient's image is that patient's image: it is as restricted as its source.

    Args:
        folder: of a finished run.
        images: ``(N, C, H, W)`` uint8: sources for pairs, images of either domain for two domains.
        labels: ``(N,)`` the classes; for two domains, from which an image comes.
        seed: root of what chance there is.
        device: ``cpu`` or ``cuda``.

    Raises:
        ModelError: the run is not finished or damaged, its family does not translate, there is no such
            device, labels are no whole numbers, one for each image, or none of the run's classes where it
            has several, the images have another shape than those of the run, or memory does not suffice.
    """
    run, saved = checkpoint.finished(folder)
    target = device_of(device)
    family, settings, networks = load_averages(run, saved[0].tensors, target)
    channels, height, width = run["spec"]
    shape = (channels // family.stacks, height, width)
    if images.shape[1:] != shape:
        raise ModelError(f"translate: images of shape {shape} expected, found {images.shape[1:]}.")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ModelError(f"translate: labels must be whole numbers; found {labels.dtype}.")
    # Of a class that it does not know cyclegan would hand the image back: a patient's, as a translation.
    known = np.isin(labels, range(run["class_count"])) if run["class_count"] > 1 else np.True_
    if labels.shape != images.shape[:1] or not known.all():
        raise ModelError(
            f"translate: labels must be a number from 0 to {run['class_count'] - 1} for each of the "
            f"{len(images):,} images."
        )
    with Crew(torch.get_num_threads()) as crew:
        return Translator(family, settings, networks, target).images(images, labels, seed, crew)


class Translator:
    """Translations by networks in memory, in float32."""

    def __init__(
        self, family: Family, settings: Any, networks: Mapping[str, nn.Module], device: torch.device
    ) -> None:
        if family.translate is None:
            raise ModelError(f"translate: {family.name} does not translate. Use pix2pix or cyclegan.")
        self._translate, self._settings = family.translate, settings
        self._networks, self._device = networks, device

    def images(self, images: np.ndarray, labels: np.ndarray, seed: int, crew: Crew) -> np.ndarray:
        """Return ``(N, C, H, W)`` uint8 translations of images of that shape; ``labels`` is ``(N,)``.

        Raises:
            ModelError: memory does not suffice.
        """
        size = at_once(ImageSpec(*images.shape[1:]))

        @torch.inference_mode()
        def work(first: int) -> np.ndarray:
            part = torch.from_numpy(np.ascontiguousarray(images[first : first + size])).to(self._device)
            classes = torch.from_numpy(np.asarray(labels[first : first + size], np.int64)).to(self._device)
            rng = torch.Generator(self._device).manual_seed(seed_of(seed, "translate", first // size))
            made = self._translate(self._networks, self._settings, as_signal(part), classes, rng)
            return as_pixels(made).cpu().numpy()

        with enough_memory("translate"):
            done = crew.map_sparing(work, range(0, len(images), size))
        return np.ascontiguousarray(np.concatenate(done)) if done else images[:0]
