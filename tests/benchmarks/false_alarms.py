"""How often does the gate cry wolf, and how often does it miss? Counts with exact intervals.

    python tests/benchmarks/false_alarms.py --data pneumoniamnist.npz --trials 40 --patients 500
    python tests/benchmarks/false_alarms.py --trials 40 --patients 1160      (seeded phantoms)

Each trial splits the patients anew. Clean sets: ``fresh`` real patients, and ``generator``, mixtures with
bending and a kernel density of patients who are in no part. Leaky sets: ``copies-K``, K bent copies of
training images among clean ones; ``kde``, a kernel density of T (0.6 deviations); ``train``, T itself.
Looks at the privacy axis and, with --controls, at the controls; fidelity is another matter.
"""

import argparse
import json
import time
from collections import Counter
from pathlib import Path

import numpy as np

from phantomset.data.phantom import phantoms
from phantomset.data.records import ImageSet
from phantomset.validators import controls, gate
from phantomset.validators.audit import examine
from phantomset.validators.context import Context
from phantomset.validators.finding import Evidence, Rules
from phantomset.validators.ladder import elastic, to_uint8
from phantomset.validators.measures.rates import clopper_pearson

NAMES = ("a", "b", "c", "d")


def load(path: Path | None, needed: int) -> ImageSet:
    """Return a pool of real images: a MedMNIST file without its duplicates, or phantoms."""
    if path is None:
        images, labels, patients = phantoms(needed, seed=1)
        return ImageSet(images, labels, patients, NAMES)
    with np.load(path) as file:
        images = np.concatenate([file[f"{part}_images"] for part in ("train", "val", "test")])
        labels = np.concatenate([file[f"{part}_labels"] for part in ("train", "val", "test")])
    images = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    _, first = np.unique(images.reshape(len(images), -1), axis=0, return_index=True)
    return ImageSet(images[first], labels[first].reshape(-1).astype(np.int64), first, NAMES)


def of_patients(pool: ImageSet, patients: np.ndarray) -> ImageSet:
    """Return all images of some patients."""
    return pool.take(np.isin(pool.patients, patients))


def generated(images: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return images of a generator that knows only ``images``: half mixtures, bent; half a kernel density."""
    bend, mixed = elastic(2.0), []
    for _ in range(count // 2):
        i, j = rng.integers(len(images), size=2)
        share = rng.uniform(0.3, 0.7)
        both = share * images[i].astype(np.float64) + (1 - share) * images[j]
        mixed.append(to_uint8(bend(both, both, rng)))
    return np.concatenate([np.stack(mixed), controls.jittered(images, count - count // 2, 1.0, rng)])


def synthetic(
    kind: str, train: ImageSet, others: ImageSet, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Return a clean or a leaky set."""
    if kind == "train":
        return train.images[rng.permutation(len(train))[:count]]
    if kind == "kde":
        return controls.jittered(train.images, count, 0.6, rng)
    if kind == "fresh":
        return others.images[rng.permutation(len(others))[:count]]
    made = generated(others.images, count, rng)
    if kind.startswith("copies-"):
        copies = int(kind.removeprefix("copies-"))
        chosen, bend = rng.choice(len(train), copies, replace=False), elastic(1.0)
        made[:copies] = [to_uint8(bend(train.images[i].astype(np.float64), made[0], rng)) for i in chosen]
    return made


def trial(pool: ImageSet, options: argparse.Namespace, number: int) -> dict:
    """Judge one set and return the statuses of its axes and the findings that are not PASS."""
    rng = np.random.default_rng([options.seed, number])
    patients = rng.permutation(np.unique(pool.patients))
    cuts = np.cumsum([options.patients, options.patients, options.reference])
    train, holdout, reference, others = (of_patients(pool, p) for p in np.split(patients, cuts))
    images = synthetic(options.kind, train, others, options.count, rng)
    nobody = np.full(len(images), -1)
    made = ImageSet(images, np.zeros(len(images), np.int64), nobody, NAMES)
    axes = ("privacy", "controls") if options.controls else ("privacy",)
    rules = Rules(privacy=options.policy)
    context = Context(
        Evidence(train, holdout, reference, made),
        rules,
        number,
        controls.control_sets if options.controls else None,
    )
    started = time.process_time()
    verdict = gate.decide(examine(context, axes), rules)
    loud = [f"{f.check}: {f.metric}" for f in verdict.findings if f.status in ("FAIL", "INCONCLUSIVE")]
    seconds = round(time.process_time() - started, 1)
    return {"trial": number, "cpu_seconds": seconds, "loud": loud} | {
        axis: verdict.axes[axis] for axis in axes
    }


def main() -> None:
    """Run the trials that are not in the file yet, and print the counts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="a MedMNIST file; seeded phantoms without")
    parser.add_argument("--kind", default="generator", help="generator, fresh, copies-K, kde, train")
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--patients", type=int, default=500, help="in train, and in holdout")
    parser.add_argument("--reference", type=int, default=400)
    parser.add_argument("--count", type=int, default=1000, help="synthetic images")
    parser.add_argument("--policy", default="standard")
    parser.add_argument("--controls", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON lines; a rerun goes on where it stopped")
    options = parser.parse_args()
    pool = load(options.data, 2 * options.patients + options.reference + 1200)
    results = []
    if options.out and options.out.exists():
        results = [json.loads(line) for line in options.out.read_text().splitlines()]
    for number in range(len(results), options.trials):
        results.append(trial(pool, options, number))
        if options.out:
            with options.out.open("a") as stream:
                stream.write(json.dumps(results[-1]) + "\n")
    report(results, options.kind)


def report(results: list[dict], kind: str) -> None:
    """Print each axis's outcomes with exact 95% intervals, and what was loud how often."""
    for axis in ("privacy", "controls"):
        outcomes = Counter(result[axis] for result in results if axis in result)
        for outcome, count in sorted(outcomes.items()):
            low, high = clopper_pearson(count, len(results))
            print(f"{kind}: {axis} {outcome}: {count} of {len(results)} [{low:.3f}, {high:.3f}]")
    for what, count in Counter(line for result in results for line in result["loud"]).most_common():
        print(f"  {count:3d}  {what}")
    print(f"  CPU seconds a trial: {np.mean([result['cpu_seconds'] for result in results]):.1f}")


if __name__ == "__main__":
    main()
