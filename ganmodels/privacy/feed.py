"""Who is shown in a differentially private step."""

import numpy as np
import torch

from phantomset.data.records import ImageSet
from phantomset.data.seeds import stream
from phantomset.ganmodels.feed import Feed


class PatientFeed(Feed):
    """In each step every patient is drawn by chance alone, and one image of each who was drawn.

    Poisson sampling of patients: a batch has ``batch_size`` images on average and none in particular. With at
    most one image of a patient in a step, shortening each image's gradient bounds what a patient can do.
    """

    def __init__(self, images: ImageSet, batch_size: int, secret: int, device: torch.device) -> None:
        super().__init__(images, batch_size, secret, "natural", device)
        _, owner, self._counts = np.unique(images.patients, return_inverse=True, return_counts=True)
        self._members = np.argsort(owner, kind="stable")
        self._first = np.cumsum(self._counts) - self._counts
        self._secret = secret
        self.rate = batch_size / len(self._counts)

    def positions(self, step: int) -> np.ndarray:
        """Return ``(B,)`` int64, B by chance: which images a step draws."""
        rng = stream(self._secret, "patients", step)
        drawn = np.flatnonzero(rng.random(len(self._counts)) < self.rate)
        which = (rng.random(len(drawn)) * self._counts[drawn]).astype(np.int64)
        return self._members[self._first[drawn] + which]
