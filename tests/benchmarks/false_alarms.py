"""How often does the gate cry wolf, and how often does it miss? Counts with exact intervals.

    python tests/benchmarks/false_alarms.py --data pneumoniamnist.npz --trials 300 --controls-on 20 \\
        --kind fresh --out fresh.jsonl
    python tests/benchmarks/false_alarms.py --data kermany-cxr-64.zip --patient id_in_name --trials 300
    python tests/benchmarks/false_alarms.py --kind "rung:zoom 1.1" --trials 20 --out zoom.jsonl
    python tests/benchmarks/false_alarms.py --kind mixture-5 --trials 10 --patients 1160

Each trial splits the patients anew. Clean sets: ``fresh`` real patients, and ``generator``, mixtures with
bending and a kernel density of patients who are in no part. Leaky sets: ``copies-K``, K bent copies of
training images among clean ones; ``rung:NAME``, copies on a rung of the ladder at its dose (``rung:NAME:K``
for another); ``kde`` or ``kde-L``, a kernel density of T (L deviations, .6 by default); ``train``, T itself;
``gan``, a GAN over-fitted on 64 patients of T; ``mixture-S``, S percent from that GAN among clean ones.

Looks at the privacy axis and, on the first ``--controls-on`` trials, at the controls; fidelity is another
matter. Results are appended line by line: an interrupted job goes on where it stopped, and a second one that
counts on does not judge again. Over-fitted GANs are kept in ``--cache``, by data, trial and seed.
"""

import argparse
import io
import json
import tempfile
import time
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np

from phantomset.data.digest import digest_of
from phantomset.data.phantoms.cohort import phantoms
from phantomset.data.records import ImageSet
from phantomset.validators import controls, gate
from phantomset.validators.audit import examine
from phantomset.validators.context import Context
from phantomset.validators.finding import Evidence, Rules
from phantomset.validators.ladder import LADDER, elastic, make_copies, to_uint8
from phantomset.validators.measures.rates import clopper_pearson

NAMES = ("a", "b", "c", "d")
OVERFITTED_PATIENTS = 64


def load(path: Path | None, needed: int, patient: str, size_px: int) -> ImageSet:
    """Return a pool of real images: a MedMNIST file or a ZIP without duplicates, or phantoms."""
    if path is None:
        images, labels, patients = phantoms(needed, seed=1)
        return ImageSet(images, labels, patients, NAMES)
    if path.suffix == ".zip":
        return load_zip(path, patient, size_px)
    with np.load(path) as file:
        images = np.concatenate([file[f"{part}_images"] for part in ("train", "val", "test")])
        labels = np.concatenate([file[f"{part}_labels"] for part in ("train", "val", "test")])
    images = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    _, first = np.unique(images.reshape(len(images), -1), axis=0, return_index=True)
    return ImageSet(images[first], labels[first].reshape(-1).astype(np.int64), first, NAMES)


def load_zip(path: Path, patient: str, size_px: int) -> ImageSet:
    """Return the pictures that a ZIP file's index.csv names, averaged down, by its patient column."""
    import pandas as pd
    from PIL import Image

    with zipfile.ZipFile(path) as archive:
        table = pd.read_csv(io.BytesIO(archive.read("index.csv")))
        images = []
        for name in table["file"]:
            with Image.open(io.BytesIO(archive.read(name))) as picture:
                small = picture.resize((size_px, size_px), Image.Resampling.BOX)
                pixels = np.asarray(small if small.mode == "L" else small.convert("RGB"))
            images.append(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))
    stack = np.stack(images)
    _, first = np.unique(stack.reshape(len(stack), -1), axis=0, return_index=True)
    labels, names = pd.factorize(table["label"].astype(str))
    owners, _ = pd.factorize(table[patient])
    return ImageSet(
        stack[first], labels[first].astype(np.int64), owners[first].astype(np.int64), tuple(names)
    )


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


def overfitted(train: ImageSet, count: int, options: argparse.Namespace, number: int) -> np.ndarray:
    """Return images of a GAN that was shown 64 training patients again and again; kept for the next time."""
    from phantomset.data import catalogue
    from phantomset.ganmodels import engine
    from phantomset.ganmodels.generate import generate
    from phantomset.ganmodels.plan import TrainingPlan

    few = of_patients(train, np.unique(train.patients)[:OVERFITTED_PATIENTS])
    name = digest_of(few.images, few.labels, options.gan_images, number, count)[:16]
    kept = options.cache / f"gan-{name}.npy"
    if not kept.exists():
        family = catalogue.load("phantomset.ganmodels.families", "r3gan")
        plan = TrainingPlan(budget_images=options.gan_images, batch_size=32, seed=number)
        with tempfile.TemporaryDirectory() as place:
            for _ in engine.train(few, family.name, family.Settings(), plan, Path(place), "cpu"):
                pass
            labels = np.resize(few.labels, count)
            images = generate(Path(place), labels, number, "cpu")
        options.cache.mkdir(parents=True, exist_ok=True)
        np.save(kept, images)
    return np.load(kept)


def synthetic(
    train: ImageSet, others: ImageSet, options: argparse.Namespace, number: int, rng: np.random.Generator
) -> np.ndarray:
    """Return a clean or a leaky set."""
    kind, count = options.kind, options.count
    if kind == "train":
        return train.images[rng.permutation(len(train))[:count]]
    if kind.startswith("kde"):
        return controls.jittered(train.images, count, float(kind.partition("-")[2] or 0.6), rng)
    if kind == "gan":
        return overfitted(train, count, options, number)
    if kind == "fresh":
        return others.images[rng.permutation(len(others))[:count]]
    made = generated(others.images, count, rng)
    if kind.startswith("copies-"):
        copies = int(kind.removeprefix("copies-"))
        chosen, bend = rng.choice(len(train), copies, replace=False), elastic(1.0)
        made[:copies] = [to_uint8(bend(train.images[i].astype(np.float64), made[0], rng)) for i in chosen]
    elif kind.startswith("rung:"):
        _, name, *dose = kind.split(":")
        rung = next(rung for rung in LADDER if rung.name == name)
        copies = int(dose[0]) if dose else max(1, rung.dose)
        made[:copies] = make_copies(rung, train.images, rng.choice(len(train), copies, replace=False), rng)
    elif kind.startswith("mixture-"):
        part = round(count * float(kind.removeprefix("mixture-")) / 100)
        made[:part] = overfitted(train, count, options, number)[:part]
    elif kind != "generator":
        raise SystemExit(f"--kind {kind}: unknown; see --help")
    return made


def trial(pool: ImageSet, options: argparse.Namespace, number: int) -> dict:
    """Judge one set and return the statuses of its axes and the findings that are not PASS."""
    rng = np.random.default_rng([options.seed, number])
    patients = rng.permutation(np.unique(pool.patients))
    cuts = np.cumsum([options.patients, options.patients, options.reference])
    train, holdout, reference, others = (of_patients(pool, p) for p in np.split(patients, cuts))
    images = synthetic(train, others, options, number, rng)
    nobody = np.full(len(images), -1)
    made = ImageSet(images, np.zeros(len(images), np.int64), nobody, pool.label_names)
    with_controls = options.controls or number < options.controls_on
    axes = ("privacy", "controls") if with_controls else ("privacy",)
    rules = Rules(privacy=options.policy)
    context = Context(
        Evidence(train, holdout, reference, made),
        rules,
        number,
        controls.control_sets if with_controls else None,
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
    parser.add_argument("--data", type=Path, help="a MedMNIST file or a ZIP file; seeded phantoms without")
    parser.add_argument("--patient", default="patient", help="the ZIP index's column of patients")
    parser.add_argument("--size-px", type=int, default=32, help="of images from a ZIP file")
    parser.add_argument("--kind", default="generator", help="see above")
    parser.add_argument("--gan-images", type=int, default=150_000, help="shown to the over-fitted GAN")
    parser.add_argument("--cache", type=Path, default=Path("false-alarms-cache"))
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--patients", type=int, default=500, help="in train, and in holdout")
    parser.add_argument("--reference", type=int, default=400)
    parser.add_argument("--count", type=int, default=1000, help="synthetic images")
    parser.add_argument("--policy", default="standard")
    parser.add_argument("--controls", action="store_true", help="on every trial")
    parser.add_argument("--controls-on", type=int, default=0, metavar="N", help="on the first N trials")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON lines; a rerun goes on where it stopped")
    options = parser.parse_args()
    needed = 2 * options.patients + options.reference + 1200
    pool = load(options.data, needed, options.patient, options.size_px)
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
            low, high = clopper_pearson(count, outcomes.total())
            print(f"{kind}: {axis} {outcome}: {count} of {outcomes.total()} [{low:.3f}, {high:.3f}]")
    for what, count in Counter(line for result in results for line in result["loud"]).most_common():
        print(f"  {count:3d}  {what}")
    print(f"  CPU seconds a trial: {np.mean([result['cpu_seconds'] for result in results]):.1f}")


if __name__ == "__main__":
    main()
