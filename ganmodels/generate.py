"""Labelled images from a finished run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from phantomset.data.catalogue import load
from phantomset.data.errors import ModelError
from phantomset.data.records import ImageSpec
from phantomset.data.seeds import seed_of
from phantomset.ganmodels import checkpoint
from phantomset.ganmodels.family import Draw, Family, Networks
from phantomset.ganmodels.feed import as_pixels
from phantomset.ganmodels.memory import enough_memory
from phantomset.ganmodels.plan import device_of
from phantomset.ganmodels.shards import Crew

CHUNK = 64
"""Images that share a stream of noise. Always as many, the last chunk filled up."""

PIXELS = CHUNK * 64 * 64
"""Pixels of a channel that a thread makes at once, so that drawing large images takes no more memory than
training on them does."""


@dataclass(frozen=True, slots=True)
class Look:
    """How noise becomes images.

    Attributes:
        truncation: in (0, 1]: 1 is all the variety that was learned; less trades variety for typical looks.
        towards: another seed, towards whose noise each image moves.
        share: how far, from 0 to 1, along the great circle between the two: half-way noise is as long as any.
        fine_seed: another seed, from which the fine structure comes; only where the family mixes styles.
    """

    truncation: float = 1.0
    towards: int | None = None
    share: float = 0.0
    fine_seed: int | None = None


PLAIN = Look()
"""Untruncated, unmixed: variety is not traded for looks."""


@enough_memory("generate")
def generate(
    folder: Path, labels: np.ndarray, seed: int, device: str = "cpu", look: Look = PLAIN
) -> np.ndarray:
    """Return one image for each label, ``(N, C, H, W)`` uint8, from a run's averaged weights.

    Where several generators share the run, they take turns. Image i follows from the weights, the seed, i and
    ``labels[i]`` alone: asking for more images, or for
    other classes elsewhere in the list, does not change it.

    Args:
        folder: of a finished run.
        labels: ``(N,)`` integers, 0..K-1.
        seed: root of the noise.
        device: ``cpu`` or ``cuda``.
        look: truncation, interpolation, mixing; by default none of them.

    Raises:
        ModelError: the run is not finished or damaged, a label is out of range, there is no such device,
            the family cannot do what is asked, or memory does not suffice.
    """
    run, saved = checkpoint.finished(folder)
    target = device_of(device)
    if not np.issubdtype(np.asarray(labels).dtype, np.integer) and len(labels):
        raise ModelError(f"generate: labels must be whole numbers; found {np.asarray(labels).dtype}.")
    labels = np.asarray(labels, np.int64)
    if labels.ndim != 1 or (len(labels) and not 0 <= labels.min() <= labels.max() < run["class_count"]):
        raise ModelError(f"generate: labels must be a list of numbers from 0 to {run['class_count'] - 1}.")
    made = np.empty((len(labels), *run["spec"]), np.uint8)
    with Crew(torch.get_num_threads()) as crew:
        for member, each in enumerate(saved):
            own = slice(member, None, len(saved))
            family, settings, networks = load_averages(run, each.tensors, target)
            sampler = Sampler(family, settings, networks, ImageSpec(*run["spec"]), target)
            if len(labels[own]) or not member:
                purpose = f"generate {member}" if member else "generate"
                made[own] = sampler.images(labels[own], seed, crew, look, purpose)
    return made


def load_averages(
    run: Mapping[str, Any], tensors: Mapping[str, Tensor], device: torch.device
) -> tuple[Family, Any, dict[str, nn.Module]]:
    """Return the family, its settings and the averaged networks of one member of a finished run.

    Raises:
        ModelError: the tensors are not those of its networks.
    """
    family: Family = load("phantomset.ganmodels.families", run["family"])
    settings = family.Settings.model_validate(run["settings"])
    with torch.random.fork_rng(devices=[]):
        built = family.build(settings, ImageSpec(*run["spec"]), run["class_count"])
    networks = {name: built[name] for name in family.averaged if name in built}
    for name, network in networks.items():
        prefix = f"average.{name}."
        own = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        try:
            network.load_state_dict(own)
        except RuntimeError:
            raise ModelError(
                f"checkpoint: its tensors do not fit {run['family']}, which its folder was made for. It was "
                "put there from elsewhere, or is of another version: remove the folder to train anew."
            ) from None
        network.to(device).to(memory_format=torch.channels_last).eval().requires_grad_(False)
    return family, settings, networks


def at_once(spec: ImageSpec) -> int:
    """Return how many images a thread makes at once: by their size alone, for the number may change bits."""
    return max(1, min(CHUNK, PIXELS // (spec.height * spec.width)))


class Sampler:
    """Images from networks in memory, in float32."""

    def __init__(
        self,
        family: Family,
        settings: Any,
        networks: Mapping[str, nn.Module],
        spec: ImageSpec,
        device: torch.device,
    ) -> None:
        self._family, self._settings, self._networks, self._device = family, settings, networks, device
        self._shape, self._at_once = family.noise_shape(settings, spec), at_once(spec)

    def images(
        self, labels: np.ndarray, seed: int, crew: Crew, look: Look = PLAIN, purpose: str = "generate"
    ) -> np.ndarray:
        """Return ``(N, C, H, W)`` uint8 images for labels ``(N,)``.

        ``purpose`` names the stream of noise, so that what is looked at is not what is released.

        Raises:
            ModelError: no labels, the family cannot do what is asked, or memory does not suffice.
        """
        sample = self._able(labels, look)

        @torch.inference_mode()
        def work(first: int) -> np.ndarray:
            wanted = labels[first : first + CHUNK]
            filled = torch.from_numpy(np.resize(wanted, CHUNK).astype(np.int64)).to(self._device)
            draw = self._draw(filled, (purpose, first // CHUNK), seed, look)
            parts = (draw.part(start, self._at_once) for start in range(0, len(wanted), self._at_once))
            made = [as_pixels(sample(self._networks, self._settings, part)) for part in parts]
            return torch.cat(made)[: len(wanted)].cpu().numpy()

        with enough_memory("generate"):
            done = crew.map_sparing(work, range(0, len(labels), CHUNK))
        return np.ascontiguousarray(np.concatenate(done))

    def _able(self, labels: np.ndarray, look: Look) -> Callable[[Networks, Any, Draw], Tensor]:
        if self._family.sample is None:
            raise ModelError(
                f"generate: {self._family.name} translates images and makes none from nothing. "
                "Use `phantomset translate`, or another model.family."
            )
        if not len(labels):
            raise ModelError("generate: no labels were given; at least one image must be asked for.")
        if not 0 < look.truncation <= 1:
            raise ModelError(f"generate: truncation is over 0 and at most 1; found {look.truncation:g}.")
        if not 0 <= look.share <= 1:
            raise ModelError(f"generate: a share of the way lies between 0 and 1; found {look.share:g}.")
        if look.fine_seed is not None and not self._family.mixes_styles:
            raise ModelError(f"generate: {self._family.name} mixes no styles. Use model.family stylegan2.")
        return self._family.sample

    def _draw(self, labels: Tensor, names: tuple[str, int], seed: int, look: Look) -> Draw:
        def noise(root: int) -> tuple[Tensor, torch.Generator]:
            rng = torch.Generator(self._device).manual_seed(seed_of(root, *names))
            return torch.randn(CHUNK, *self._shape, generator=rng, device=self._device), rng

        first, rng = noise(seed)
        if look.towards is not None:
            first = between(first, noise(look.towards)[0], look.share)
        fine = None if look.fine_seed is None else noise(look.fine_seed)[0]
        return Draw(labels, first, rng, look.truncation, fine)


def between(first: Tensor, second: Tensor, share: float) -> Tensor:
    """Return the rows a share of the way along the great circle from ``first`` to ``second``, ``(B, ...)``.

    On the straight line half-way noise would be shorter than any that the generator saw. White, "Sampling
    generative networks", 2016.
    """
    rows, others = first.flatten(1), second.flatten(1)
    cosine = functional.cosine_similarity(rows, others).clamp(-1 + 1e-6, 1 - 1e-6)[:, None]
    angle = cosine.acos()
    mixed = ((1 - share) * angle).sin() * rows + (share * angle).sin() * others
    return (mixed / angle.sin()).view_as(first)
