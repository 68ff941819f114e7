"""What checks and controls look at: the four sets, and everything computed from them once."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from phantomset.data.seeds import seed_of, stream
from phantomset.validators.classifier import Classifier
from phantomset.validators.crossfit import DRAWS, redrawn
from phantomset.validators.distances import Candidates, Measured, Table, measure
from phantomset.validators.extractors import Extractor, fit_extractors
from phantomset.validators.features import Space, fit_spaces
from phantomset.validators.finding import Evidence, EvidenceError, Rules
from phantomset.validators.lessons import Side, teach
from phantomset.validators.measures.density import log_density
from phantomset.validators.policy import EXPOSED_SHARE
from phantomset.validators.scores import (
    ImageView,
    Nearer,
    Nearness,
    Panel,
    SetView,
    View,
    attack_scores,
    panel,
    restricted,
    subset,
    whole,
)
from phantomset.validators.verification import Verifier, fit_verifier
from phantomset.validators.weights import Weights

DENSITY_SPACE = "pca"
SYNTHETIC = "synthetic"


class Context:
    """Evidence and rules, with features, distances and scores made at first use and kept.

    Nothing here is fitted on T, H or S.
    """

    def __init__(
        self,
        evidence: Evidence,
        rules: Rules,
        seed: int,
        extra_sets: Callable[["Context"], dict[str, Candidates]] | None = None,
        brought: Sequence[Weights] = (),
    ) -> None:
        """Take the evidence.

        Args:
            evidence: T, H, R and S.
            rules: the privacy policy and the fidelity profile.
            seed: of every random step.
            extra_sets: names the sets that the controls want to be looked at too.
            brought: extractors whose weights somebody brings.
        """
        self.evidence = evidence
        self.rules = rules
        self.seed = seed
        self.brought = tuple(brought)
        self.extra_sets = {} if extra_sets is None else extra_sets(self)
        self._features: dict[tuple[str, str], np.ndarray] = {}
        self._taught: dict[Side, np.ndarray] = {}

    def rng(self, *names: str | int) -> np.random.Generator:
        """Return the generator of a named step of this judgement."""
        return stream(self.seed, "validate", *names)

    def seed_of(self, *names: str | int) -> int:
        """Return the seed of a named step, for what is not numpy."""
        return seed_of(self.seed, "validate", *names)

    # Who is who -----------------------------------------------------------------------------------

    @cached_property
    def real(self) -> np.ndarray:
        """Images of T, then of H, ``(N, C, H, W)`` uint8."""
        return np.concatenate([self.evidence.train.images, self.evidence.holdout.images])

    @cached_property
    def members(self) -> Panel:
        """The patients of `real`."""
        return panel(self.evidence.train.patients, self.evidence.holdout.patients, self.rng("panel"))

    @cached_property
    def train_patients(self) -> int:
        """n_T."""
        return len(np.unique(self.evidence.train.patients))

    @cached_property
    def holdout_patients(self) -> int:
        """n_H."""
        return len(np.unique(self.evidence.holdout.patients))

    @cached_property
    def reference_patients(self) -> int:
        """n_R."""
        return len(np.unique(self.evidence.reference.patients))

    @cached_property
    def exposed(self) -> int:
        """How many exposed patients the family must notice: 3% of T, at least 1."""
        return max(1, int(np.ceil(EXPOSED_SHARE * self.train_patients)))

    def draws(self) -> Iterator["Context"]:
        """Yield this context and, where the rules ask for it, one for each further draw of R and H.

        Each draw costs the representations of all real images and their distances to S anew.
        """
        yield self
        for number in range(1, DRAWS if self.rules.cross_fit else 1):
            evidence = redrawn(self.evidence, self.rng("cross-fit", number))
            yield Context(evidence, replace(self.rules, cross_fit=False), self.seed_of("cross-fit", number))

    # Privacy: distances ---------------------------------------------------------------------------

    @cached_property
    def spaces(self) -> dict[str, Space]:
        """The representations, fitted on R."""
        return {space.name: space for space in fit_spaces(self.evidence.reference.images)}

    def measured(self, space: Space, sets: Sequence[Candidates]) -> Measured:
        """Return the distances of all real images to some sets in a space."""
        reference, kernels = self.evidence.reference, space.name == DENSITY_SPACE
        return measure(space, self.real, reference, sets, kernels)

    @cached_property
    def verifier(self) -> Verifier | None:
        """The model that recognises patients, fitted on R; None where too few of R's patients repeat."""
        return fit_verifier(self.evidence.reference, self.rng("reidentification", "fit"))

    @cached_property
    def synthetic_tail(self) -> int:
        """How many of the last synthetic images give way to planted ones in the controls."""
        return min(max(10, self.exposed), len(self.evidence.synthetic) // 2)

    @cached_property
    def _views(self) -> tuple[dict[str, SetView], ImageView]:
        """All sets as the patients see them, and S image by image, from one pass in each space.

        A space's tables are let go as soon as they are reduced: with 70,000 images one takes gigabytes.
        """
        sets = {
            SYNTHETIC: Candidates(self.evidence.synthetic.images, self.synthetic_tail),
            **self.extra_sets,
        }
        by_set: dict[str, dict[str, View]] = {name: {} for name in sets}
        by_image: dict[str, Table] = {}
        kept: dict[str, Measured] = {}
        for space in self.spaces.values():
            measured = self.measured(space, tuple(sets.values()))
            stays = measured.tables[0].head
            for (name, part), table in zip(sets.items(), measured.tables, strict=True):
                by_set[name][space.name] = self._view(part, table, stays)
            by_image[space.name] = measured.tables[0].without_tail()
            if space.name == DENSITY_SPACE:
                kept[space.name] = measured
        density = kept[DENSITY_SPACE]
        log_reference = log_density(density.kernel_r, len(self.evidence.reference))
        views = {
            name: self._set_view(part, by_set[name], table, log_reference)
            for (name, part), table in zip(sets.items(), density.tables, strict=True)
        }
        return views, self._image_view(by_image, density.tables[0], log_reference)

    def _image_view(self, tables: dict[str, Table], density: Table, log_reference: np.ndarray) -> ImageView:
        kernels = density.kernel_head + density.kernel_tail.sum(1, dtype=np.float64)
        return ImageView(
            q={name: table.head for name, table in tables.items()},
            closest={name: table.head_index for name, table in tables.items()},
            votes={name: (table.votes, table.vote_q) for name, table in tables.items()},
            log_ratio=log_density(kernels, len(self.evidence.synthetic)) - log_reference,
            members=self.members,
        )

    def _who_looks(self, part: Candidates) -> tuple[np.ndarray | slice, Panel]:
        """Return which real images look at a set, and whose they are."""
        if part.rows is None:
            return slice(None), self.members
        rows = np.flatnonzero(part.rows)
        return rows, subset(self.members, rows)

    def _view(self, part: Candidates, found: Table, stays: np.ndarray) -> View:
        """Reduce a table to patients; of its tail remains what is nearer than ``stays (N,)``, S's head."""
        rows, members = self._who_looks(part)
        owner = np.full(len(self.real), -1)
        owner[rows] = members.owner
        return View(
            members.least(found.head[rows]),
            Nearer.than(members.least(stays[rows]), members.least(found.tail[rows])),
            owner[found.votes],
            found.vote_q,
        )

    def _set_view(
        self, part: Candidates, views: dict[str, View], density: Table, log_reference: np.ndarray
    ) -> SetView:
        rows, members = self._who_looks(part)
        return SetView(
            spaces=views,
            members=members,
            kernel_head=density.kernel_head[rows],
            kernel_tail=np.ascontiguousarray(density.kernel_tail[rows].T),
            log_reference=log_reference[rows],
            size=len(part.images),
            tail=part.tail,
        )

    def view(self, name: str = SYNTHETIC) -> SetView:
        """Return how the patients see S, or one of the extra sets."""
        return self._views[0][name]

    @cached_property
    def nearness(self) -> Nearness:
        """What each patient has nearest in S."""
        return whole(self.view())

    @property
    def by_image(self) -> ImageView:
        """S as the single images of T and H see it."""
        return self._views[1]

    def closest_pairs(self, space: str, count: int) -> list[tuple[int, int, float]]:
        """Return the closest pairs of T's images and synthetic ones: both positions, and q, nearest first."""
        view, train = self.by_image, len(self.evidence.train)
        rows = np.argsort(view.q[space][:train], kind="stable")[:count]
        return [(int(row), int(view.closest[space][row]), float(view.q[space][row])) for row in rows]

    def nearness_of(self, rows: np.ndarray) -> Nearness:
        """What the patients of some images of `real`, ``(N,) bool``, have nearest in S, by these alone."""
        return restricted(self.by_image, rows)

    @cached_property
    def scores(self) -> dict[str, np.ndarray]:
        """One score a patient for each attack on S."""
        return attack_scores(self.nearness)

    # Fidelity: features ---------------------------------------------------------------------------

    @cached_property
    def _fitted(self) -> tuple[dict[str, Extractor], Classifier | None]:
        evidence = self.evidence
        return fit_extractors(
            evidence.reference,
            evidence.holdout,
            self.seed_of("extractors"),
            self.rng("extractors"),
            self.brought,
        )

    @property
    def extractors(self) -> dict[str, Extractor]:
        """The feature extractors, fitted on R, each with its qualification on H."""
        return self._fitted[0]

    @property
    def reference_classifier(self) -> Classifier | None:
        """The classifier of R's labels; None with one class."""
        return self._fitted[1]

    def features(self, extractor: str, part: str) -> np.ndarray:
        """Return features ``(N, D)`` of a part of the evidence: train, holdout, reference or synthetic.

        Raises:
            EvidenceError: a feature is not a finite number.
        """
        key = (extractor, part)
        if key not in self._features:
            found = self.extractors[extractor].features(getattr(self.evidence, part).images)
            if not np.isfinite(found).all():
                raise EvidenceError(
                    f"The {extractor} extractor's features of the {part} images are not finite: look for "
                    "damaged weights, and for images unlike all others."
                )
            self._features[key] = found
        return self._features[key]

    def need(self, images: int, *parts: str) -> None:
        """Go on only if each of some parts of the evidence has so many images.

        Raises:
            EvidenceError: one has fewer.
        """
        found = {part: len(getattr(self.evidence, part)) for part in parts}
        if min(found.values()) < images:
            counts = ", ".join(f"{count} {part}" for part, count in found.items())
            raise EvidenceError(f"There are {counts} images; at least {images} of each kind are needed.")

    def equal_features(self, extractor: str) -> dict[str, np.ndarray]:
        """Return features of synthetic, train and holdout images, equally many of each, drawn at random.

        Fidelity figures depend on the sizes of the sets; so S, and T as its ceiling, meet H at one size.
        """
        parts = {part: self.features(extractor, part) for part in ("synthetic", "train", "holdout")}
        size = min(map(len, parts.values()))
        return {
            part: found[np.sort(self.rng("equal", part).choice(len(found), size, replace=False))]
            for part, found in parts.items()
        }

    # Utility: classifiers -------------------------------------------------------------------------

    def taught(self, *sides: Side) -> list[np.ndarray]:
        """Return class probabilities on H, ``(seeds, N, K)``, of classifiers trained on S, T or both."""
        new: list[Side] = [side for side in sides if side not in self._taught]
        if new:
            self._taught.update(teach(self.evidence, new, self.rng, self.seed_of))
        return [self._taught[side] for side in sides]
