"""What a run's averaged networks make on the way, beside real images."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from phantomset.data.records import ImageSet, ImageSpec
from phantomset.ganmodels import stability
from phantomset.ganmodels.coverage import coverage
from phantomset.ganmodels.family import Family, FamilySettings
from phantomset.ganmodels.generate import Sampler
from phantomset.ganmodels.grid import contact_sheet
from phantomset.ganmodels.plan import TrainingPlan
from phantomset.ganmodels.shards import Crew
from phantomset.ganmodels.sheet import beside, of_each_class, some
from phantomset.ganmodels.translate import Translator

GRID_COLUMNS, GRID_CLASSES = 10, 12
"""Of a contact sheet: images of a class, and classes at most."""

HELD_OUT_SAMPLES, SPECTRUM_SAMPLES, CLASS_SAMPLES = 256, 512, 14
"""Images at most by which coverage of held-out ones is told, the spectrum, and the spread of each class."""


class Samples:
    """Images from the averages as they stand, from noise that never changes within a run.

    Attributes:
        held_out: what their coverage is told by; None without such images, or where nothing is looked at.
        are_made: whether the family makes images from nothing; else it translates.
        are_watched: whether they are compared with real images on the way: games go wrong, and sample fast.
    """

    def __init__(
        self,
        images: ImageSet,
        family: Family,
        settings: FamilySettings,
        plan: TrainingPlan,
        averages: Mapping[str, nn.Module],
        device: torch.device,
        crew: Crew,
        held_out: ImageSet | None,
        has_critic: bool,
    ) -> None:
        self._images, self._family, self._settings = images, family, settings
        self._plan, self._crew = plan, crew
        spec = ImageSpec(*images.images.shape[1:])
        self._sampler = Sampler(family, settings, averages, spec, device) if family.sample else None
        self._translator = Translator(family, settings, averages, device) if family.translate else None
        self.are_made = self._sampler is not None
        self.are_watched = self.are_made and has_critic and plan.privacy is None
        self.held_out = None
        if held_out is not None and len(held_out) > 1 and self.are_watched:
            self.held_out = some(held_out, HELD_OUT_SAMPLES)

    def sheet(self) -> tuple[bytes, np.ndarray, np.ndarray]:
        """Return a contact sheet as PNG, and what of it compares with real images, beside as many of these.

        The sheet has a row of ten for each of the first twelve classes; of a translation also its source. The
        arrays are ``(N, C, H, W)`` uint8, alike in their classes.
        """
        rows = min(len(self._images.label_names), GRID_CLASSES)
        shown = of_each_class(self._images, np.repeat(np.arange(rows), GRID_COLUMNS))
        if self._sampler is not None:
            made = sheet = self._made(shown.labels, "grid")
        else:
            assert self._translator is not None  # noqa: S101 - a family samples or translates
            source = self._family.source(shown.images)
            made = self._translator.images(source, shown.labels, self._plan.seed, self._crew)
            sheet = beside(source, made, GRID_COLUMNS)
        wanted = self._family.becomes(self._settings, shown.labels)
        real = self._family.target(of_each_class(self._images, wanted[wanted >= 0]).images)
        return contact_sheet(sheet, GRID_COLUMNS), made[wanted >= 0], real

    def class_spreads(self) -> dict[str, float]:
        """Return by class how far its samples lie apart over how far its real images do; near 1 in health."""
        names = self._images.label_names
        real = of_each_class(self._images, np.repeat(np.arange(len(names)), CLASS_SAMPLES))
        made = self._made(real.labels, "classes")
        return {
            name: stability.spread(made[real.labels == label], real.images[real.labels == label])
            for label, name in enumerate(names)
        }

    def excess(self) -> float:
        """Return the samples' excess over real images in the highest bands of the spectrum, log10."""
        real = some(self._images, SPECTRUM_SAMPLES)
        return stability.drift(self._made(real.labels, "spectrum"), real.images)

    def coverage(self, held_out: ImageSet) -> float:
        """Return how much of the held-out images' variety as many samples cover, 0 to 1."""
        made = self._made(held_out.labels, "coverage")
        return coverage(torch.from_numpy(made), torch.from_numpy(held_out.images))

    def _made(self, labels: np.ndarray, purpose: str) -> np.ndarray:
        assert self._sampler is not None  # noqa: S101 - asked for only where samples are made
        return self._sampler.images(labels, self._plan.seed, self._crew, purpose=purpose)
