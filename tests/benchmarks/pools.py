"""Real patients to measure the gate on, and sets that are known to be clean or to leak.

Imported by the other benchmarks; runs nothing by itself.
"""

import argparse
import io
import json
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from phantomset.data.digest import digest_of
from phantomset.data.phantoms.cohort import phantoms
from phantomset.data.records import ImageSet
from phantomset.validators import controls, gate
from phantomset.validators.ladder import elastic, to_uint8

PHANTOMS = ("a", "b", "c", "d")
OVERFITTED_PATIENTS = 64


def ask_for_data(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which patients, and where to keep what was computed."""
    parser.add_argument("--data", type=Path, help="a MedMNIST file or a ZIP file; seeded phantoms without")
    parser.add_argument(
        "--patient", nargs="+", default=["patient"], help="the ZIP index's columns of patients"
    )
    parser.add_argument("--label", default="label", help="the ZIP index's column of classes")
    parser.add_argument("--size-px", type=int, default=32, help="of images from a ZIP file")
    parser.add_argument("--patients", type=int, default=700, help="in train, and in holdout")
    parser.add_argument("--reference", type=int, default=400, help="patients")
    parser.add_argument("--count", type=int, default=1000, help="synthetic images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--cache", type=Path, default=Path("benchmark-cache"), help="may be removed at any time"
    )


def go_on(out: Path, count: int, make: Callable[[int], dict]) -> list[dict]:
    """Return ``make(0)`` to ``make(count - 1)``, kept as lines of JSON: those in the file stay.

    Each line names the suite that judged; how many are of which is printed.
    """
    results = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    for number in range(len(results), count):
        results.append({"suite": gate.suite(), **make(number)})
        with out.open("a") as stream:
            stream.write(json.dumps(results[-1]) + "\n")
    for suite, lines in Counter(result.get("suite", "not recorded") for result in results).items():
        print(f"suite {suite}: {lines} of {len(results)}")
    return results


def load(options: argparse.Namespace) -> ImageSet:
    """Return a pool of real images without exact duplicates: a MedMNIST file, a ZIP, or phantoms."""
    path = options.data
    if path is None:
        images, labels, patients = phantoms(2 * options.patients + options.reference + 1200, seed=1)
        return ImageSet(images, labels, patients, PHANTOMS)
    if path.suffix == ".zip":
        return _load_zip(path, options)
    with np.load(path) as file:
        images = np.concatenate([file[f"{part}_images"] for part in ("train", "val", "test")])
        labels = np.concatenate([file[f"{part}_labels"] for part in ("train", "val", "test")])
    images = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    _, first = np.unique(images.reshape(len(images), -1), axis=0, return_index=True)
    labels = labels[first].reshape(-1).astype(np.int64)
    return ImageSet(images[first], labels, first, tuple(map(str, range(labels.max() + 1))))


def _load_zip(path: Path, options: argparse.Namespace) -> ImageSet:
    """Return the pictures that a ZIP file's index.csv names, averaged down to squares."""
    import pandas as pd
    from PIL import Image

    size = (options.size_px, options.size_px)
    with zipfile.ZipFile(path) as archive:
        table = pd.read_csv(io.BytesIO(archive.read("index.csv")), dtype=str, keep_default_na=False)
        images = []
        for name in table["file"]:
            with Image.open(io.BytesIO(archive.read(name))) as picture:
                small = picture.resize(size, Image.Resampling.BOX)
                pixels = np.asarray(small if small.mode == "L" else small.convert("RGB"))
            images.append(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))
    stack = np.stack(images)
    _, first = np.unique(stack.reshape(len(stack), -1), axis=0, return_index=True)
    labels, names = pd.factorize(table[options.label])
    owners, _ = pd.factorize(table[options.patient].agg(" ".join, axis=1))
    return ImageSet(
        stack[first], labels[first].astype(np.int64), owners[first].astype(np.int64), tuple(names)
    )


def of_patients(pool: ImageSet, patients: np.ndarray) -> ImageSet:
    """Return all images of some patients."""
    return pool.take(np.isin(pool.patients, patients))


def divided(pool: ImageSet, options: argparse.Namespace, number: int) -> tuple[ImageSet, ...]:
    """Return train, holdout, reference and the other patients of the split of that number."""
    patients = np.random.default_rng([options.seed, number]).permutation(np.unique(pool.patients))
    cuts = np.cumsum([options.patients, options.patients, options.reference])
    if len(patients) <= cuts[-1]:
        raise SystemExit(
            f"--patients, --reference: {cuts[-1]} patients and some more needed; {len(patients)} found."
        )
    return tuple(of_patients(pool, some) for some in np.split(patients, cuts))


def of_nobody(images: np.ndarray, like: ImageSet, rng: np.random.Generator) -> ImageSet:
    """Return images as a synthetic set whose classes are as frequent as those of real images."""
    labels = rng.choice(like.labels, len(images))
    return ImageSet(images, labels, np.full(len(images), -1), like.label_names)


# Clean ------------------------------------------------------------------------------------------------


def generated(images: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return images of a generator that knows only ``images``: half mixtures, bent; half a kernel density."""
    bend, mixed = elastic(2.0), []
    for _ in range(count // 2):
        i, j = rng.integers(len(images), size=2)
        share = rng.uniform(0.3, 0.7)
        both = share * images[i].astype(np.float64) + (1 - share) * images[j]
        mixed.append(to_uint8(bend(both, both, rng)))
    return np.concatenate([np.stack(mixed), controls.jittered(images, count - count // 2, 1.0, rng)])


# Leaky ------------------------------------------------------------------------------------------------


def overfitted(
    train: ImageSet, budget: int, count: int, seed: int, cache: Path, family: str = "r3gan"
) -> np.ndarray:
    """Return images of a GAN that was shown 64 training patients again and again.

    A training that was interrupted goes on, and its images are kept in ``cache``.
    """
    from phantomset.data import catalogue
    from phantomset.ganmodels import engine
    from phantomset.ganmodels.generate import generate
    from phantomset.ganmodels.plan import TrainingPlan

    few = of_patients(train, np.unique(train.patients)[:OVERFITTED_PATIENTS])
    few = ImageSet(
        few.images, np.zeros_like(few.labels), few.patients, ("all",)
    )  # few of a class are too few
    parts = (few.images, budget, seed, family)
    folder = cache / f"gan-{digest_of(*parts)[:16]}"
    kept = folder.with_suffix(f".{count}.npy")
    if not kept.exists():
        module = catalogue.load("phantomset.ganmodels.families", family)
        plan = TrainingPlan(budget, batch_size=32, seed=seed, threads=1, members=1)
        for _ in engine.train(few, family, module.Settings(), plan, folder):
            pass
        np.save(kept, generate(folder, np.resize(few.labels, count), seed))
    return np.load(kept)
