"""Quality of the families by one protocol (`protocol`), beside the ceiling of real images in the same run.

    python tests/benchmarks/quality.py --data pneumoniamnist.npz --minutes 10 --seeds 0 1 2 --out quality.json
    python tests/benchmarks/quality.py --data mnist.npz --minutes 2 --families all --out families.json
    python tests/benchmarks/quality.py --data kermany --set source.path=kermany-cxr-64.zip image.size_px=64 \
        --minutes 30 --out kermany.json

The file's parts are pooled and exact duplicates dropped; within each class, seed 0, 70% of the patients
train; all figures are against the withheld 30%. Training sees the 70% alone. As many samples a class as it
has training images. ``--families all`` are those that make images from nothing.

With ``--membership`` the attacks of the privacy validators are made on the samples as well.

With ``--epsilon`` the generator is trained with differential privacy, one image a patient, delta 1e-5.

Results are added to the output after each seed, and the samples are drawn beside it; a stopped run goes on
from its checkpoint beside the output.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from protocol import Spaces, load, measure, membership, shuffled, split, wanted

from phantomset.data.catalogue import load as family_of
from phantomset.data.catalogue import names
from phantomset.data.digest import digest_of
from phantomset.data.records import ImageSet
from phantomset.ganmodels import checkpoint, engine
from phantomset.ganmodels.family import FamilySettings
from phantomset.ganmodels.generate import generate
from phantomset.ganmodels.grid import contact_sheet
from phantomset.ganmodels.plan import PrivacyPlan, TrainingPlan

FAMILIES = "phantomset.ganmodels.families"
COLUMNS = 12


def train_and_sample(
    train: ImageSet, folder: Path, family: str, seed: int, options: argparse.Namespace
) -> tuple[ImageSet, dict[str, Any]]:
    """Return the samples of one training and what the training cost."""
    settings = family_of(FAMILIES, family).Settings(**json.loads(options.settings))
    plan = TrainingPlan(
        budget(train, folder, family, settings, options),
        options.batch_size,
        seed,
        threads=options.threads,
        augment=options.augment,
        class_sampling=options.class_sampling,
        members=options.members,
        privacy=privacy(options),
    )
    begun, cpu = time.monotonic(), time.process_time()
    for report in engine.train(train, family, settings, plan, folder):
        print(
            f"\r{report.images_seen:,} of {report.budget_images:,} images, {report.images_per_second:,.0f}/s",
            end="",
        )
    print()
    kept = checkpoint.finished_checkpoint(folder).guarantee
    cost = {
        "epsilon": None if kept is None else round(kept.epsilon, 3),
        "images": report.images_seen,
        "seconds": round(time.monotonic() - begun),
        "cpu_seconds": round(time.process_time() - cpu),
        "events": [event["code"] for event in checkpoint.finished_checkpoint(folder).events],
    }
    labels = wanted(train, seed)[: options.samples]
    made = generate(folder, labels, seed)
    return ImageSet(made, labels, np.full(len(labels), -1), train.label_names), cost


def privacy(options: argparse.Namespace) -> PrivacyPlan | None:
    """Return the plan of differential privacy. Its noise is no secret here: the data is public."""
    if options.epsilon is None:
        return None
    return PrivacyPlan(options.epsilon, None, clip_norm=options.clip_norm, critic_steps=options.critic_steps)


def budget(
    train: ImageSet, folder: Path, family: str, settings: FamilySettings, options: argparse.Namespace
) -> int:
    """Return the budget in images; minutes are turned into images once and kept beside the checkpoint."""
    if options.images:
        return options.images
    stored = folder.with_suffix(".budget")
    if not stored.exists():
        plan = TrainingPlan(64_000, options.batch_size, threads=options.threads)
        seconds = min(15.0, 10 * options.minutes)
        speed = engine.images_per_second(train, family, settings, plan, seconds=seconds)
        stored.write_text(str(engine.budget_images(options.minutes, speed, options.batch_size)))
    return int(stored.read_text())


def draw(made: ImageSet, path: Path) -> None:
    """Draw the first samples of each class, a row a class."""
    rows = [np.flatnonzero(made.labels == label)[:COLUMNS] for label in range(len(made.label_names))]
    path.write_bytes(contact_sheet(made.images[np.concatenate(rows)], COLUMNS))


def asked_for() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="a MedMNIST-like .npz, or the name of a recipe")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="overrides of the recipe")
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--images", type=int, help="budget in images")
    length.add_argument("--minutes", type=float, help="budget in minutes, turned into images by a probe")
    parser.add_argument("--families", nargs="+", default=["r3gan"], help="names, or all")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--augment", default="none")
    parser.add_argument("--class-sampling", default="natural")
    parser.add_argument(
        "--members", type=int, help="generators that share the budget; default: by the budget"
    )
    parser.add_argument("--samples", type=int, help="default: as many as there are training images")
    parser.add_argument("--membership", action="store_true", help="attack the samples too (P4)")
    parser.add_argument("--epsilon", type=float, help="train with differential privacy, delta 1e-5")
    parser.add_argument("--clip-norm", type=float, default=1.0)
    parser.add_argument("--critic-steps", type=int, default=5)
    parser.add_argument("--settings", default="{}", help="of the family, as JSON")
    parser.add_argument("--out", type=Path, default=Path("quality.json"))
    options = parser.parse_args()
    if options.families == ["all"]:
        options.families = [name for name in names(FAMILIES) if family_of(FAMILIES, name).sample]
    return options


def main() -> None:
    """Measure the ceiling, then train, sample and measure for each family and seed."""
    options = asked_for()
    images = load(options.data, options.set)
    train, withheld = split(images)
    name = f"{Path(options.data).stem}-{digest_of(images.images, images.labels)[:8]}"
    print(f"{name}: {len(train)} train, {len(withheld)} withheld")
    results = json.loads(options.out.read_text()) if options.out.exists() else {}
    spaces: Spaces | None = None
    asked = [
        options.images,
        options.minutes,
        options.batch_size,
        options.augment,
        options.class_sampling,
        options.settings,
        options.members,
    ]
    if options.samples is not None:
        asked += [options.samples]
    if options.epsilon is not None:
        asked += [options.epsilon, options.clip_norm, options.critic_steps]
    cells = [(family, seed) for family in options.families for seed in options.seeds]
    for family, seed in [("ceiling", 0), *cells]:
        key = f"{name} ceiling"
        if family != "ceiling":
            kind = "" if family == "r3gan" else f"{family} "
            key = f"{name} {kind}{digest_of(asked)[:6]} seed {seed}"
        if key not in results:
            spaces = spaces or Spaces(train)
            if family == "ceiling":
                results[key] = measure(shuffled(train), train, withheld, spaces)
            else:
                folder = options.out.with_suffix("") / key.replace(" ", "-")
                folder.parent.mkdir(parents=True, exist_ok=True)
                made, cost = train_and_sample(train, folder, family, seed, options)
                draw(made, folder.with_suffix(".png"))
                results[key] = {"asked": asked, **cost, **measure(made, train, withheld, spaces)}
                if options.membership:
                    results[key]["membership"] = membership(made, train, withheld)
            options.out.write_text(json.dumps(results, indent=2) + "\n")
        print(key, json.dumps(results[key], indent=1))


if __name__ == "__main__":
    main()
