"""Chance that nobody may guess."""

import hashlib

import numpy as np
import torch
from torch import Tensor


class HiddenNoise:
    """A stream of random numbers that follows from a secret, a name and a step.

    It is started from 128 bits. torch's generator on a CPU is started from the lower 32 bits of its seed
    alone: all its streams could be tried, and the noise be taken off again. Salmon et al., "Parallel random
    numbers: as easy as 1, 2, 3", SC 2011 (Philox).
    """

    def __init__(self, secret: int, name: str, step: int, device: torch.device) -> None:
        digest = hashlib.sha256(f"{secret}:{name}:{step}".encode()).digest()
        self._rng = np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
        self._device = device

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        """Return the next numbers, standard normal, as float32 of that shape, on the device."""
        return torch.from_numpy(self._rng.standard_normal(shape, dtype=np.float32)).to(self._device)

    def uniform(self, shape: tuple[int, ...]) -> Tensor:
        """Return the next numbers, even in [0, 1), as float32 of that shape, on the device."""
        return torch.from_numpy(self._rng.random(shape, dtype=np.float32)).to(self._device)
