"""Can patients be recognised again on this data, and is a set noticed that shows them again?

    python tests/benchmarks/reidentification.py --data nih-cxr14-1000-96.zip --patient patient_id
    python tests/benchmarks/reidentification.py --data ham10000-nv-mel-150.zip --patient lesion_id
    python tests/benchmarks/reidentification.py --patients 400 --reference 500        (phantoms)

First the verification model alone: it learns from two thirds of all patients who have several images, and
its AUC is that of telling same from different patients among the others, over ``--draws`` draws. Below .95
the check says NOT EVALUATED, with that AUC. Where it qualifies, K training patients are shown again in a set
of fresh patients, by another image that is in no part; counted is how often the check alarms.
"""

import argparse
import json
from dataclasses import replace

import numpy as np
from pools import ask_for_data, divided, load

from phantomset.data.records import ImageSet
from phantomset.validators import gate
from phantomset.validators.checks import reidentification
from phantomset.validators.context import Context
from phantomset.validators.finding import Evidence, Rules
from phantomset.validators.measures.rates import clopper_pearson
from phantomset.validators.verification import fit_verifier

SHOWN_AGAIN = (0, 20, 40, 80, 120)


def qualification(pool: ImageSet, options: argparse.Namespace) -> dict:
    """Return the AUC of each draw, all patients being reference patients."""
    patients, counts = np.unique(pool.patients, return_counts=True)
    models = [fit_verifier(pool, np.random.default_rng([options.seed, n])) for n in range(options.draws)]
    areas = [model.auc for model in models if model is not None]
    return {
        "patients": len(patients),
        "with several images": int((counts > 1).sum()),
        "AUC": [round(area, 4) for area in areas],
        "mean": round(float(np.mean(areas)), 4) if areas else None,
    }


def shown_again(
    train: ImageSet, others: ImageSet, count: int, rng: np.random.Generator
) -> tuple[ImageSet, ImageSet]:
    """Return T without one image of each of ``count`` patients who have several, and a set with these."""
    patients, images = np.unique(train.patients, return_counts=True)
    chosen = rng.permutation(patients[images > 1])[:count]
    if len(chosen) < count:
        raise SystemExit(f"{len(chosen)} training patients have several images; {count} needed: --patients.")
    moved = np.array([rng.choice(np.flatnonzero(train.patients == patient)) for patient in chosen], dtype=int)
    pixels = np.concatenate([train.images[moved], others.images[count:]])
    kept = train.take(np.setdiff1d(np.arange(len(train)), moved))
    return kept, replace(others, images=pixels, patients=np.full(len(others), -1))


def noticed(pool: ImageSet, options: argparse.Namespace, count: int) -> dict:
    """Return how often the check alarms when so many training patients are shown again."""
    said = []
    for number in range(options.draws):
        train, holdout, reference, others = divided(pool, options, number)
        kept, made = shown_again(train, others, count, np.random.default_rng([options.seed, number, 5]))
        (finding,) = reidentification.CHECK.run(
            Context(Evidence(kept, holdout, reference, made), Rules(), number)
        )
        said.append(finding.status)
    low, high = clopper_pearson(said.count("FAIL"), len(said))
    interval = f"[{low:.2f}, {high:.2f}]"
    return {
        "alarms": said.count("FAIL"),
        "not evaluated": said.count("NOT_EVALUATED"),
        "of": len(said),
        "interval": interval,
    }


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ask_for_data(parser)
    parser.add_argument("--draws", type=int, default=10)
    options = parser.parse_args()
    pool = load(options)
    answer = {"suite": gate.suite(), **qualification(pool, options)}
    if answer["mean"] is not None and answer["mean"] >= reidentification.LEAST_AUC:
        answer["shown again"] = {count: noticed(pool, options, count) for count in SHOWN_AGAIN}
    print(json.dumps(answer, indent=1))


if __name__ == "__main__":
    main()
