"""Patients whose distances are computed once, so that hundreds of splits and sets can be judged on them.

Imported by the other benchmarks; runs nothing by itself.
"""

import argparse
import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from pools import divided, generated, of_nobody

from phantomset.data.digest import digest_of
from phantomset.data.records import ImageSet
from phantomset.validators import gate
from phantomset.validators.context import DENSITY_SPACE, Context
from phantomset.validators.distances import Candidates, Measured, Table, measure
from phantomset.validators.features import Space, fit_spaces
from phantomset.validators.finding import Evidence, Rules
from phantomset.validators.verification import Verifier, fit_verifier

MOST_FRESH = 1500
GENERATED = 1500


@dataclass(frozen=True)
class World:
    """One draw of patients.

    Attributes:
        population: those who can be in train or holdout.
        reference: R; everything that is fitted is fitted on it once.
        candidates: images of which synthetic sets are drawn.
        kinds: which of the candidates are ``fresh`` patients, and which are from a ``generator``.
        spaces, verifier: fitted on R.
        path: where its distances are kept.
    """

    population: ImageSet
    reference: ImageSet
    candidates: ImageSet
    kinds: dict[str, np.ndarray]
    spaces: dict[str, Space]
    verifier: Verifier | None
    path: Path

    @classmethod
    def open(cls, pool: ImageSet, options: argparse.Namespace, number: int) -> "World":
        """Return the world of that number."""
        train, holdout, reference, others = divided(pool, options, number)
        rng = np.random.default_rng([options.seed, number, 1])
        fresh = others.take(rng.permutation(len(others))[:MOST_FRESH])
        made = of_nobody(generated(others.images, GENERATED, rng), others, rng)
        population, candidates = _joined(train, holdout), _joined(fresh, made)
        spaces = {space.name: space for space in fit_spaces(reference.images)}
        sets = (population, reference, candidates)
        name = digest_of("world", gate.suite(), *(part.images for part in sets))[:16]
        path = options.cache / f"world-{name}.npz"
        kinds = {"fresh": np.arange(len(fresh)), "generator": np.arange(len(fresh), len(candidates))}
        return cls(population, reference, candidates, kinds, spaces, fit_verifier(reference, rng), path)

    @functools.cached_property
    def found(self) -> dict[str, Measured]:
        """By space, distances of the population to all candidates, as the tail of one table.

        Measured when they are first asked for, or from the cache: trials with controls ask for none.
        """
        if not self.path.exists():
            _measure(self.population, self.reference, self.candidates, self.spaces, self.path)
        return _read(self.path, self.spaces, len(self.candidates))


def _joined(one: ImageSet, other: ImageSet) -> ImageSet:
    return ImageSet(
        np.concatenate([one.images, other.images]),
        np.concatenate([one.labels, other.labels]),
        np.concatenate([one.patients, other.patients]),
        one.label_names,
    )


def _measure(
    population: ImageSet, reference: ImageSet, candidates: ImageSet, spaces: dict[str, Space], path: Path
) -> None:
    everything = (Candidates(candidates.images, tail=len(candidates)),)
    arrays = {}
    for name, space in spaces.items():
        # Sets are drawn from these columns later: all of them count, no shortlist.
        full = replace(space, coarse=None)
        found = measure(full, population.images, reference, everything, name == DENSITY_SPACE)
        arrays[name] = found.tables[0].tail
        if name == DENSITY_SPACE:
            arrays["kernels"] = found.tables[0].kernel_tail.astype(np.float32)
            arrays["kernel_r"] = found.kernel_r
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".part").open("wb") as stream:
        np.savez(stream, **arrays)
    path.with_suffix(".part").rename(path)


def _read(path: Path, spaces: dict[str, Space], size: int) -> dict[str, Measured]:
    found = {}
    with np.load(path) as file:
        for name in spaces:
            is_density = name == DENSITY_SPACE
            q = file[name]
            kernels = file["kernels"] if is_density else np.zeros((1, 1), np.float32)
            table = Table(
                head=np.full(len(q), np.inf),
                head_index=np.full(len(q), -1),
                tail=q,
                votes=np.zeros(size, np.int64),
                vote_q=np.full(size, np.inf, np.float32),
                kernel_head=np.zeros(len(q)),
                kernel_tail=kernels,
            )
            found[name] = Measured(file["kernel_r"] if is_density else np.zeros(len(q)), (table,))
    return found


class Remembered(Context):
    """A context that looks its distances up in a world instead of measuring them."""

    def __init__(
        self, world: World, is_train: np.ndarray, columns: np.ndarray, rules: Rules, seed: int
    ) -> None:
        """Take a split and a set.

        Args:
            world: where to look.
            is_train: ``(N,)`` bool over the population's images; the others are the holdout.
            columns: ``(M,)`` which candidates make up the synthetic set.
            rules, seed: as for any context.
        """
        population, made = world.population, world.candidates.take(columns)
        synthetic = ImageSet(made.images, made.labels, np.full(len(made), -1), made.label_names)
        evidence = Evidence(population.take(is_train), population.take(~is_train), world.reference, synthetic)
        super().__init__(evidence, rules, seed)
        self._world, self._columns = world, columns
        self._rows = np.concatenate([np.flatnonzero(is_train), np.flatnonzero(~is_train)])
        # What the world has fitted, in the place of what would be fitted at first use.
        self.__dict__.update(spaces=world.spaces, verifier=world.verifier)

    def measured(self, space: Space, sets: Sequence[Candidates]) -> Measured:
        """Return the remembered distances; there is one set, the synthetic one."""
        found, (part,) = self._world.found[space.name], sets
        everything, here = found.tables[0], np.ix_(self._rows, self._columns)
        kernels = None
        if space.name == DENSITY_SPACE:
            kernels = torch.from_numpy(everything.kernel_tail[here])
        table = Table.empty(len(self._rows), len(self._columns), part.tail)
        table.take(0, torch.from_numpy(everything.tail[here]), kernels)
        return Measured(found.kernel_r[self._rows], (table,))
