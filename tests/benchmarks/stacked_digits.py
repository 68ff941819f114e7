"""Stacked digits: how many of 1,000 modes a generator finds, and in which shares.

    python tests/benchmarks/stacked_digits.py --data mnist.npz --images 400000 --out digits.json

Three digits of MNIST, drawn at random, are the three channels of an image: 1,000 combinations, all as
likely, and no label that would name them. A classifier of single digits reads 26,000 samples. Found:
combinations that it reads at least once; KL: divergence of their shares from even ones, in nats. Metz et al.,
"Unrolled generative adversarial networks", ICLR 2017. ``--families r3gan dcgan vanilla`` compares; real
stacks are the ceiling.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from protocol import Classifier, features, fit, load
from torch import nn

from phantomset.data.catalogue import load as family_of
from phantomset.data.records import ImageSet
from phantomset.ganmodels import engine
from phantomset.ganmodels.generate import generate
from phantomset.ganmodels.plan import TrainingPlan

SAMPLES = 26_000
MODES = 1_000


def stacked(digits: ImageSet, count: int, seed: int) -> ImageSet:
    """Return ``count`` images of three digits each, ``(N, 3, 28, 28)``, in one class."""
    chosen = np.random.default_rng(seed).integers(0, len(digits), (count, 3))
    labels = np.zeros(count, np.int64)
    return ImageSet(digits.images[chosen][:, :, 0], labels, np.arange(count), ("stack",))


def read(classifier: Classifier, stacks: np.ndarray) -> dict[str, float]:
    """Return how many of the modes are among the stacks, and how uneven they are."""
    digits = [features(classifier, stacks[:, [channel]]).argmax(axis=1) for channel in range(3)]
    shares = np.bincount(digits[0] * 100 + digits[1] * 10 + digits[2], minlength=MODES) / len(stacks)
    seen = shares[shares > 0]
    return {"found": int((shares > 0).sum()), "kl": round(float((seen * np.log(seen * MODES)).sum()), 4)}


def main() -> None:
    """Train each family on stacks, and read what it makes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="mnist.npz")
    parser.add_argument("--images", type=int, default=400_000, help="budget of each family")
    parser.add_argument("--families", nargs="+", default=["r3gan"])
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--out", type=Path, default=Path("digits.json"))
    options = parser.parse_args()
    digits = load(options.data)
    classifier: nn.Module = fit(digits, 0)
    learn = stacked(digits, len(digits), seed=0)
    results = {"real": read(classifier, stacked(digits, options.samples, seed=1).images)}
    options.out.with_suffix("").mkdir(parents=True, exist_ok=True)
    for family in options.families:
        folder = options.out.with_suffix("") / f"{family}-{options.images}"
        settings = family_of("phantomset.ganmodels.families", family).Settings()
        plan = TrainingPlan(options.images, threads=options.threads, members=1)
        for report in engine.train(learn, family, settings, plan, folder):
            print(f"\r{family}: {report.images_seen:,} images, {report.images_per_second:,.0f}/s", end="")
        made = generate(folder, np.zeros(options.samples, np.int64), seed=0)
        results[family] = read(classifier, made)
        options.out.write_text(json.dumps(results, indent=2) + "\n")
    print("\n" + json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
