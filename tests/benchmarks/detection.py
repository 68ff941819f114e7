"""How often is a leak of known kind and size noticed? With exact intervals.

    python tests/benchmarks/detection.py --data pneumoniamnist.npz --splits 10 --picks 2 --gan-images 40000 \\
        --out pneumonia.jsonl
    python tests/benchmarks/detection.py --data kermany-cxr-64.zip --patient subtype id_in_name \\
        --out kermany.jsonl
    python tests/benchmarks/detection.py --data nih-cxr14-1000-96.zip --patient patient_id --patients 220 \\
        --reference 130 --count 300 --out nih.jsonl
    python tests/benchmarks/detection.py --data ham10000-nv-mel-150.zip --patient lesion_id --patients 450 \\
        --reference 310 --count 600 --out ham.jsonl

Each split deals the patients anew and makes a clean set by a generator that knows none of them. Then copies
of training images, of different patients each time, take the place of its last images: one, or ten, as the
rung of the ladder demands; one to fifty on the rungs that are only reported. And whole sets take its place:
training images themselves (``train``), kernel densities of them (``kde``), and with ``--gan-images`` those of
a GAN that was over-fitted on 64 training patients (``gan``), and the clean set with one image in twenty from
that GAN (``mixture``).

A cell counts as noticed if the copy scan or the attack family alarms at the verdict's own levels; subgroups
would add to it. The family is asked with 999 permutations, as in the controls, and not about less than ten
copies. One pass over all images measures everything of a split. Results are appended split by split: an
interrupted job goes on where it stopped.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pools import ask_for_data, divided, generated, go_on, load, of_nobody, overfitted

from phantomset.data.records import ImageSet
from phantomset.validators.context import Context
from phantomset.validators.controls import jittered
from phantomset.validators.distances import Candidates
from phantomset.validators.finding import Evidence, Rules
from phantomset.validators.ladder import LADDER, Rung, blend, elastic, make_copies, shift, warp
from phantomset.validators.measures.permutation import min_p
from phantomset.validators.measures.rates import clopper_pearson
from phantomset.validators.policy import ALPHA_FAMILY, ALPHA_SCAN
from phantomset.validators.scan import scan
from phantomset.validators.scores import Nearness, attack_scores, concentrated_columns, planted, whole

BEYOND = (
    Rung("negative", lambda image, _other, _rng: 255 - image, 0),
    Rung("upside down", lambda image, _other, _rng: image[:, ::-1], 0),
    Rung("quarter turn", lambda image, _other, _rng: np.rot90(image, 1, (1, 2)), 0),
    Rung("rotation 10 degrees", warp(degrees=10), 0),
    Rung("zoom 1.3", warp(zoom=1.3), 0),
    Rung("shift 5 px", shift(5, -4), 0),
    Rung("blend 40/60", blend(0.4), 0),
    Rung("elastic 3 px", elastic(3), 0),
)
"""What the ladder does not ask for: copies that somebody might try to get past the gate. Square images."""

REPORTED_DOSES = (1, 3, 5, 10, 20, 50)
LEAST_FOR_FAMILY = 10
DRAWS = 999
JITTERS = (0.3, 0.6, 1.0)
WHOLE_SET = 150
COPIES, GAN, FROM_GAN = "copies", "gan", "from gan"


class Planting(Context):
    """A context in which up to fifty images of the set, or one in twenty, can give way to others."""

    @property
    def synthetic_tail(self) -> int:
        """How many of the last synthetic images are kept apart."""
        return max(*REPORTED_DOSES, len(self.evidence.synthetic) // 20)


def rungs_of(options: argparse.Namespace) -> tuple[Rung, ...]:
    """Return what is planted: the ladder or what lies beyond it, or some rungs of these."""
    rungs = BEYOND if options.beyond else LADDER
    return tuple(rung for rung in rungs if rung.name in (options.rungs or [rung.name]))


def doses(rung: Rung) -> tuple[int, ...]:
    """Return how many copies are planted at a time."""
    return (rung.dose,) if rung.dose else REPORTED_DOSES


def pool_size(rung: Rung, picks: int) -> int:
    """Return how many copies are made: as many different ones as the picks need, or the largest dose."""
    return picks * rung.dose if rung.dose else max(REPORTED_DOSES)


def extra_sets(train: ImageSet, options: argparse.Namespace, number: int) -> dict[str, Candidates]:
    """Return everything that is planted or takes the set's place."""
    rng = np.random.default_rng([options.seed, number, 3])
    copies = []
    for rung in rungs_of(options):
        _, first = np.unique(train.patients, return_index=True)
        chosen = rng.permutation(first)[: pool_size(rung, options.picks)]
        copies.append(make_copies(rung, train.images, chosen, rng))
    made = np.concatenate(copies)
    sets = {COPIES: Candidates(made, tail=len(made)), "train": Candidates(train.images[:WHOLE_SET])}
    for strength in JITTERS:
        sets[f"kde {strength}"] = Candidates(jittered(train.images, WHOLE_SET, strength, rng))
    if options.gan_images:
        asked = options.gan_images, options.count, number, options.cache, options.gan_family
        images = overfitted(train, *asked)
        some = images[: options.count // 20]
        sets |= {GAN: Candidates(images), FROM_GAN: Candidates(some, tail=len(some))}
    return sets


def picks_of(options: argparse.Namespace, rng: np.random.Generator) -> Iterator[tuple[Rung, int, np.ndarray]]:
    """Yield each rung, dose, and which of all copies are planted."""
    start = 0
    for rung in rungs_of(options):
        size = pool_size(rung, options.picks)
        for _ in range(options.picks if not rung.dose else 1):
            order = start + rng.permutation(size)
            for dose in doses(rung):
                for pick in range(size // dose if rung.dose else 1):
                    yield rung, dose, order[pick * dose : (pick + 1) * dose]
        start += size


def look(near: Nearness, copies: int, rng: np.random.Generator) -> dict:
    """Return the p-values of the scan and, of enough copies, of the attack family."""
    is_train = near.members.is_train
    found = {"scan": scan(near.q, is_train).p}
    if copies >= LEAST_FOR_FAMILY:
        columns = concentrated_columns(attack_scores(near), near)
        found["family"] = min_p(columns, is_train, DRAWS, rng).p
    return found


def split(pool: ImageSet, options: argparse.Namespace, number: int) -> dict:
    """Return what was noticed in one split, cell by cell."""
    train, holdout, reference, others = divided(pool, options, number)
    rng = np.random.default_rng([options.seed, number, 4])
    clean = of_nobody(generated(others.images, options.count, rng), others, rng)
    sets = extra_sets(train, options, number)
    started = time.process_time()
    context = Planting(Evidence(train, holdout, reference, clean), Rules(), number, lambda _: sets)
    own, copies = context.view(), context.view(COPIES)
    cells = [{"cell": "clean", "k": 0, **look(whole(own), options.count, rng)}]
    for rung, dose, picked in picks_of(options, rng):
        cells.append({"cell": rung.name, "k": dose, **look(planted(own, copies, picked), dose, rng)})
    cells += [
        {"cell": name, "k": 0, **look(whole(context.view(name)), options.count, rng)}
        for name in sets
        if name not in (COPIES, FROM_GAN)
    ]
    if GAN in sets:
        picked = np.arange(options.count // 20)
        near = planted(own, context.view(FROM_GAN), picked)
        cells.append({"cell": "mixture", "k": len(picked), **look(near, len(picked), rng)})
    return {"split": number, "cells": cells, "cpu_seconds": round(time.process_time() - started, 1)}


def report(results: list[dict]) -> None:
    """Print, for each cell, how often it was noticed, by what, with the exact 95% interval."""
    cells = defaultdict(list)
    for result in results:
        for cell in result["cells"]:
            cells[cell["cell"], cell["k"]].append(cell)
    for (name, dose), rows in cells.items():
        scanned = [row["scan"] <= ALPHA_SCAN for row in rows]
        family = [row.get("family", 1.0) <= ALPHA_FAMILY for row in rows]
        either = sum(a or b for a, b in zip(scanned, family, strict=True))
        low, high = clopper_pearson(either, len(rows))
        parts = f"scan {sum(scanned)}, family {sum(family)}"
        print(f"{name:30s} k={dose:<3d} {either} of {len(rows)} [{low:.2f}, {high:.2f}]  ({parts})")
    print(f"CPU seconds a split: {np.mean([result['cpu_seconds'] for result in results]):.1f}")


def main() -> None:
    """Run the splits that are not in the file yet, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ask_for_data(parser)
    parser.add_argument("--out", type=Path, required=True, help="JSON lines; a rerun goes on")
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--picks", type=int, default=4, help="of each dose in a split")
    parser.add_argument("--beyond", action="store_true", help="plant what the ladder does not ask for")
    parser.add_argument("--rungs", nargs="*", default=[], help="only these, by name")
    parser.add_argument("--gan-images", type=int, default=0, help="shown to the over-fitted GAN; 0: no GAN")
    parser.add_argument("--gan-family", default="r3gan", help="vanilla learns 64 patients by heart soonest")
    options = parser.parse_args()
    pool = load(options)
    report(go_on(options.out, options.splits, lambda number: split(pool, options, number)))


if __name__ == "__main__":
    main()
