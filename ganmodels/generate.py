"""Labelled images from a finished run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from phantomset.data.catalogue import load
from phantomset.data.errors import ModelError
from phantomset.data.records import ImageSpec
from phantomset.data.seeds import seed_of
from phantomset.ganmodels import checkpoint
from phantomset.ganmodels.family import Family
from phantomset.ganmodels.feed import as_pixels
from phantomset.ganmodels.plan import device_of
from phantomset.ganmodels.shards import Crew

CHUNK = 64
"""Images made at once. Always as many, the last chunk filled up: the size of a batch may change bits."""


def generate(folder: Path, labels: np.ndarray, seed: int, device: str = "cpu") -> np.ndarray:
    """Return one image for each label, ``(N, C, H, W)`` uint8, from a run's averaged weights.

    Image i follows from the weights, the seed, i and ``labels[i]`` alone: asking for more images, or for
    other classes elsewhere in the list, does not change it. No truncation: variety is not traded for looks.

    Args:
        folder: of a finished run.
        labels: ``(N,)`` integers, 0..K-1.
        seed: root of the noise.
        device: ``cpu`` or ``cuda``.

    Raises:
        ModelError: the run is not finished or damaged, a label is out of range, there is no such device.
    """
    run = checkpoint.read_identity(folder)["run"]
    target = device_of(device)
    labels = np.asarray(labels, np.int64)
    if labels.ndim != 1 or (len(labels) and not 0 <= labels.min() <= labels.max() < run["class_count"]):
        raise ModelError(f"generate: labels must be a list of numbers from 0 to {run['class_count'] - 1}.")
    family, settings, networks = load_averages(folder, run, target)
    with Crew(torch.get_num_threads()) as crew:
        return sample(family, settings, networks, labels, seed, target, crew)


def load_averages(
    folder: Path, run: dict[str, Any], device: torch.device
) -> tuple[Family, Any, dict[str, nn.Module]]:
    """Return the family, its settings and the averaged networks of a finished run.

    Raises:
        ModelError: the run is not finished, or damaged.
    """
    saved, _ = checkpoint.newest(folder)
    if saved is None or not saved.done:
        raise ModelError(
            f"generate: the run in {folder} is not finished. Run the same command again to go on."
        )
    family: Family = load("phantomset.ganmodels.families", run["family"])
    settings = family.Settings.model_validate(run["settings"])
    with torch.random.fork_rng(devices=[]):
        built = family.build(settings, ImageSpec(*run["spec"]), run["class_count"])
    networks = {name: built[name] for name in family.averaged}
    for name, network in networks.items():
        prefix = f"average.{name}."
        network.load_state_dict(
            {
                key.removeprefix(prefix): value
                for key, value in saved.tensors.items()
                if key.startswith(prefix)
            }
        )
        network.to(device).to(memory_format=torch.channels_last).eval().requires_grad_(False)
    return family, settings, networks


def sample(
    family: Family,
    settings: Any,
    networks: Mapping[str, nn.Module],
    labels: np.ndarray,
    seed: int,
    device: torch.device,
    crew: Crew,
    purpose: str = "generate",
) -> np.ndarray:
    """Return ``(N, C, H, W)`` uint8 images for labels ``(N,)`` from networks in memory, in float32.

    ``purpose`` names the stream of noise, so that what is looked at is not what is released.
    """
    if not len(labels):
        raise ModelError("generate: no labels were given; at least one image must be asked for.")

    @torch.inference_mode()
    def work(first: int) -> np.ndarray:
        wanted = labels[first : first + CHUNK]
        filled = torch.from_numpy(np.resize(wanted, CHUNK).astype(np.int64)).to(device)
        rng = torch.Generator(device).manual_seed(seed_of(seed, purpose, first // CHUNK))
        return as_pixels(family.sample(networks, settings, filled, rng))[: len(wanted)].cpu().numpy()

    return np.ascontiguousarray(np.concatenate(crew.map(work, range(0, len(labels), CHUNK))))
