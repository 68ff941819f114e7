"""Which questions would notice a set of which one image in twenty comes from a GAN that learned by heart?

    python tests/benchmarks/blind_spot.py --data pneumoniamnist.npz

A GAN is trained on 64 training patients alone; 50 of its images stand among 950 of a generator that knows
nobody of train or holdout. For each idea the p of one column of the attack family is told: for the mixture,
for the clean set, and for 500 images of the GAN alone; medians over ``--draws``, in each of which train is
drawn anew around the 64. Columns are made without a look at the labels, as in the family, whose least p needs
about .0001. Before them stands what an oracle would count that knows which images are the GAN's.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from pools import OVERFITTED_PATIENTS, ask_for_data, divided, generated, load, overfitted
from scipy import stats

from phantomset.validators import gate
from phantomset.validators.distances import Candidates, measure
from phantomset.validators.features import fit_spaces

SPACES = ("hp", "white", "pca", "learned")
MIXED, ALONE = 50, 500
WIDTH = 0.1
"""Of the kernels of the mixture test, in calibrated distance."""


def explaining_weights(q: np.ndarray, steps: int = 15) -> np.ndarray:
    """Return weights ``(P,)`` of patients in the mixture of kernels that explains a set best, by EM."""
    kernels = np.exp(-(q**2 - q.min(0) ** 2) / (2 * WIDTH**2))
    weights = np.full(len(q), 1 / len(q))
    for _ in range(steps):
        shares = kernels * weights[:, None]
        weights = (shares / shares.sum(0)).mean(1)
    return weights


def summed(weights: np.ndarray, is_train: np.ndarray) -> float:
    """Return the normal p of the sum of weights over T, as a column of the family has it."""
    n, train = len(weights), int(is_train.sum())
    variance = train * (n - train) / (n - 1) * weights.var()
    return float(stats.norm.sf((weights[is_train].sum() - train * weights.mean()) / np.sqrt(variance)))


def columns(q: dict[str, np.ndarray], is_train: np.ndarray) -> Iterator[tuple[str, float]]:
    """Yield each idea's name and p for a set, from distances ``(P, M)`` by space."""
    n = len(is_train)
    votes = np.stack([values.argmin(0) for values in q.values()])
    agree = (votes[:, None] == votes[None]).sum(1)
    named = np.take_along_axis(votes, agree.argmax(0)[None], 0)[0]
    yield "two spaces agree", summed(np.bincount(named[agree.max(0) >= 2], minlength=n), is_train)
    yield "votes added up", summed(np.bincount(votes.ravel(), minlength=n), is_train)
    for name, values in q.items():
        yield f"{name}: votes", summed(np.bincount(values.argmin(0), minlength=n), is_train)
        near = np.argpartition(values, 3, axis=0)[:3]
        yield f"{name}: votes of three", summed(np.bincount(near.ravel(), minlength=n), is_train)
        yield f"{name}: explaining weights", summed(explaining_weights(values), is_train)
        top = np.argsort(np.partition(values, 5, axis=1)[:, :5].mean(1))[:32]
        hits = int(is_train[top].sum())
        yield f"{name}: five nearest, top 32", float(stats.hypergeom.sf(hits - 1, n, is_train.sum(), 32))


def main() -> None:
    """Train the GAN unless it is kept, measure, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ask_for_data(parser)
    parser.add_argument("--gan-images", type=int, default=40_000)
    parser.add_argument("--draws", type=int, default=5)
    options = parser.parse_args()
    print(f"suite {gate.suite()}")
    train, holdout, reference, others = divided(load(options), options, 0)
    rng = np.random.default_rng([options.seed, 9])
    clean = generated(others.images, options.count, rng)
    gan = overfitted(train, options.gan_images, options.count, 0, options.cache)
    images = np.concatenate([clean, gan])
    real, owner = (
        np.concatenate([train.images, holdout.images]),
        np.concatenate([train.patients, holdout.patients]),
    )
    spaces = {space.name: space for space in fit_spaces(reference.images)}
    patients, first = np.unique(owner, return_index=True)  # one image a patient
    known = np.isin(patients, np.unique(train.patients)[:OVERFITTED_PATIENTS])
    everything = [Candidates(images, tail=len(images))]
    q = {name: measure(spaces[name], real[first], reference, everything).tables[0].tail for name in SPACES}
    trained = np.isin(patients, train.patients)
    for name, values in q.items():
        closest = values[:, len(clean) :].argmin(0)
        shares = f"{known[closest].mean():.2f}, a training patient: {trained[closest].mean():.2f}"
        print(f"{name}: nearest to an image of the GAN is one of its {known.sum()} patients: {shares}")
        votes = round(MIXED * trained[closest].mean())
        p = stats.binom.sf(votes - 1, MIXED, trained.mean())
        print(
            f"{name}: an oracle that sees the mixture's {MIXED} alone would count {votes} votes, p = {p:.2g}"
        )
    found = defaultdict(list)
    for _ in range(options.draws):
        is_train = known.copy()
        rest = np.flatnonzero(~known)
        size = len(np.unique(train.patients)) - known.sum()
        is_train[rng.permutation(rest)[:size]] = True
        kept, leaked = rng.permutation(len(clean)), len(clean) + rng.permutation(len(gan))
        sets = {
            "mixture": np.concatenate([kept[MIXED:], leaked[:MIXED]]),
            "clean": kept,
            "GAN alone": leaked[:ALONE],
        }
        for kind, rows in sets.items():
            for name, p in columns({space: values[:, rows] for space, values in q.items()}, is_train):
                found[name, kind].append(p)
    for (name, kind), p in sorted(found.items()):
        print(f"{name:32s} {kind:10s} {np.median(p):.2g}")


if __name__ == "__main__":
    main()
