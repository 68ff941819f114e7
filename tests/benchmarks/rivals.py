"""Outside rivals by the same protocol as `quality`, at equal minutes and equal data.

    pip install lightweight-gan stylegan2-pytorch pytorch-ignite   (in a throw-away environment)
    python tests/benchmarks/rivals.py --data pneumoniamnist.npz --minutes 2 --threads 2 --out rivals.json

lightweight-gan and stylegan2-pytorch by their own trainers, at a small setting: 32 px (they know powers of
two alone, so edges are repeated around smaller images and cut off again), at most 64 and 128 channels, batch
8 (the attention of lightweight-gan takes 10 GB at 32 images) and 32, without the pictures and checkpoints
that they write while they train. Both ask for CUDA when they are imported; on a CPU their calls to it are
answered with the tensor itself. MONAI's GanTrainer with phantomset's networks and batch 64. None takes
labels: a model a class, which gets its share of the minutes. Results are added to the output after each
rival.
"""

import argparse
import contextlib
import importlib
import json
import sys
import tempfile
import time
import types
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai_gan import MonaiGan
from PIL import Image
from protocol import Spaces, load, measure, split, wanted
from quality import draw
from torch import Tensor, nn

from phantomset.data.records import ImageSet, ImageSpec
from phantomset.ganmodels.families import r3gan
from phantomset.ganmodels.feed import as_pixels, as_signal

CHUNK = 64
Rival = Callable[[np.ndarray, int, float], tuple[np.ndarray, int]]


class _OnCpu(types.ModuleType):
    """torch, for a module that names CUDA devices."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def device(self, _: str) -> torch.device:
        """Return the CPU, whatever is asked for."""
        return torch.device("cpu")


def _imported(name: str) -> Any:
    """Return a rival's module, made to run without CUDA where there is none."""
    if torch.cuda.is_available():
        return importlib.import_module(name)
    sys.modules.setdefault("aim", types.ModuleType("aim"))  # a tracker of experiments, not used
    seen, torch.cuda.is_available = torch.cuda.is_available, lambda: True
    try:
        module = importlib.import_module(name)
    finally:
        torch.cuda.is_available = seen
    module.torch = _OnCpu("torch")
    Tensor.cuda = nn.Module.cuda = lambda self, *_, **__: self
    return module


@contextlib.contextmanager
def _pictures(images: np.ndarray) -> Generator[tuple[str, int]]:
    """Write images ``(N, C, H, W)`` as PNG files, squares of a power of two; give folder and side."""
    height, width = images.shape[2:]
    side = 1 << (max(height, width) - 1).bit_length()
    top, left = (side - height) // 2, (side - width) // 2
    room = ((0, 0), (0, 0), (top, side - height - top), (left, side - width - left))
    with tempfile.TemporaryDirectory() as folder:
        for number, image in enumerate(np.pad(images, room, mode="edge").transpose(0, 2, 3, 1)):
            Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(
                f"{folder}/{number:06d}.png"
            )
        yield folder, side


def _trained(trainer: Any, folder: str, seconds: float) -> int:
    """Train for some seconds without the trainer's own pictures and checkpoints; return the images shown."""
    trainer.save = trainer.evaluate = lambda *_, **__: None
    trainer.set_data_src(folder)
    end = time.monotonic() + seconds
    while not trainer.steps or time.monotonic() < end:
        trainer.train()
    trainer.GAN.eval()
    return trainer.steps * trainer.batch_size * trainer.gradient_accumulate_every


def _pixels(sample: Callable[[int], Tensor], count: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return ``count`` samples in [0, 1] as uint8 of ``shape`` (C, H, W), cut out of their middle."""
    with torch.no_grad():
        chunks = [sample(CHUNK) for _ in range(0, count, CHUNK)]
    made = as_pixels(torch.cat(chunks)[:count].mul(2).sub(1)).numpy()
    top, left = ((made.shape[2 + axis] - shape[1 + axis]) // 2 for axis in (0, 1))
    made = made[:, :, top : top + shape[1], left : left + shape[2]]
    return made.mean(axis=1, keepdims=True).round().astype(np.uint8) if shape[0] == 1 else made


def lightweight_gan(images: np.ndarray, count: int, seconds: float) -> tuple[np.ndarray, int]:
    """Return samples of a lightweight-gan and how many images it saw."""
    theirs = _imported("lightweight_gan.lightweight_gan")
    with _pictures(images) as (folder, side), tempfile.TemporaryDirectory() as base:
        trainer = theirs.Trainer(
            base_dir=base,
            image_size=side,
            batch_size=8,
            fmap_max=64,
            greyscale=images.shape[1] == 1,
            disc_output_size=1,
            num_workers=0,
            use_aim=False,
        )
        shown = _trained(trainer, folder, seconds)
        latent = trainer.GAN.latent_dim
        return _pixels(lambda n: trainer.GAN.G(torch.randn(n, latent)), count, images.shape[1:]), shown


def stylegan2_pytorch(images: np.ndarray, count: int, seconds: float) -> tuple[np.ndarray, int]:
    """Return samples of a stylegan2-pytorch and how many images it saw."""
    theirs = _imported("stylegan2_pytorch.stylegan2_pytorch")
    with _pictures(images) as (folder, side), tempfile.TemporaryDirectory() as base:
        trainer = theirs.Trainer(
            base_dir=base,
            image_size=side,
            batch_size=32,
            gradient_accumulate_every=1,
            network_capacity=8,
            fmap_max=128,
            num_workers=0,
        )
        shown = _trained(trainer, folder, seconds)
        gan = trainer.GAN

        def sample(number: int) -> Tensor:
            style = theirs.noise_list(number, gan.G.num_layers, gan.G.latent_dim, device=0)
            styles = theirs.styles_def_to_tensor(theirs.latent_to_w(gan.S, style))
            return gan.G(styles, theirs.image_noise(number, side, device=0)).clamp(0, 1)

        return _pixels(sample, count, images.shape[1:]), shown


def monai(images: np.ndarray, count: int, seconds: float) -> tuple[np.ndarray, int]:
    """Return samples of MONAI's GanTrainer with phantomset's networks, and how many images it saw."""
    settings = r3gan.Settings()
    networks = r3gan.build(settings, ImageSpec(*images.shape[1:]), 1)
    real = as_signal(torch.from_numpy(images))
    gan = MonaiGan(networks["generator"], networks["critic"], real, settings.latent, batch=64, gamma=0.0)
    shown = gan.run(seconds) * 64

    def sample(number: int) -> Tensor:
        labels = torch.zeros(number, dtype=torch.int64)
        return gan.generator(torch.randn(number, settings.latent), labels).add(1).div(2)

    return _pixels(sample, count, images.shape[1:]), shown


RIVALS: dict[str, Rival] = {
    "lightweight-gan": lightweight_gan,
    "stylegan2-pytorch": stylegan2_pytorch,
    "MONAI GanTrainer": monai,
}


def samples_of(rival: Rival, train: ImageSet, minutes: float) -> tuple[ImageSet, dict[str, float]]:
    """Return a labelled set from a model a class, and what that cost."""
    labels = wanted(train, 0)
    made = np.empty((len(labels), *train.images.shape[1:]), np.uint8)
    shown, begun = 0, time.monotonic()
    for label in range(len(train.label_names)):
        own = train.images[train.labels == label]
        seconds = 60 * minutes * len(own) / len(train)
        torch.manual_seed(label)
        made[labels == label], count = rival(own, int((labels == label).sum()), seconds)
        shown += count
    cost = {"images": shown, "seconds": round(time.monotonic() - begun), "per_second": shown / 60 / minutes}
    return ImageSet(made, labels, np.full(len(labels), -1), train.label_names), cost


def main() -> None:
    """Train, sample and measure each rival."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="a MedMNIST-like .npz, or the name of a recipe")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="overrides of the recipe")
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--rivals", nargs="+", choices=RIVALS, default=list(RIVALS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("rivals.json"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    train, withheld = split(load(options.data, options.set))
    spaces = Spaces(train)
    results = json.loads(options.out.read_text()) if options.out.exists() else {}
    options.out.with_suffix("").mkdir(parents=True, exist_ok=True)
    for name in options.rivals:
        key = f"{Path(options.data).stem} {name} {options.minutes:g} minutes"
        if key not in results:
            made, cost = samples_of(RIVALS[name], train, options.minutes)
            draw(made, options.out.with_suffix("") / f"{key.replace(' ', '-')}.png")
            results[key] = {**cost, **measure(made, train, withheld, spaces)}
            options.out.write_text(json.dumps(results, indent=2) + "\n")
        print(key, json.dumps(results[key], indent=1))


if __name__ == "__main__":
    main()
