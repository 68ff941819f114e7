"""A small seeded classifier: the utility judge, and the feature extractor that knows the classes of R."""

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

LARGEST_PX = 64
STEPS, BATCH = 300, 64
PEAK_RATE, DECAY = 3e-3, 1e-2
CHANNELS = (16, 32, 32, 48)
SHIFT_PX = 2
INFERENCE_BATCH = 256

_first_weights = threading.Lock()
"""They are drawn from torch's global generator, which threads share."""


@dataclass(frozen=True, slots=True)
class Classifier:
    """A trained network: what it sees in uint8 images ``(N, C, H, W)`` of K classes."""

    network: nn.Module

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Return class probabilities ``(N, K)`` float64."""
        return self._apply(images, lambda x: self.network(x).softmax(1))

    def outputs(self, images: np.ndarray) -> np.ndarray:
        """Return the class outputs before the softmax, ``(N, K)`` float64."""
        return self._apply(images, self.network)

    def activations(self, images: np.ndarray) -> np.ndarray:
        """Return what the last convolution sees on average and the class outputs, ``(N, 48 + K)`` float64."""
        return self._apply(images, self._seen_and_told)

    def _seen_and_told(self, x: Tensor) -> Tensor:
        seen, last, shape = (self.network.get_submodule(part) for part in ("net", "final", "reshape"))
        x = seen(x)
        return torch.cat([x.mean((2, 3)), shape(last(x))], 1)

    def _apply(self, images: np.ndarray, function: Callable[[Tensor], Tensor]) -> np.ndarray:
        batches = (images[i : i + INFERENCE_BATCH] for i in range(0, len(images), INFERENCE_BATCH))
        with torch.inference_mode():
            return np.concatenate([function(_pixels(batch)).double().numpy() for batch in batches])


def train_classifier(images: np.ndarray, labels: np.ndarray, classes: int, seed: int) -> Classifier:
    """Return a MONAI `Classifier` network trained on uint8 images ``(N, C, H, W)`` and labels ``(N,)``.

    300 steps of 64 images, AdamW with one cycle of the learning rate, shifts of up to 2 px: about two
    seconds at 28 px. The same seed and thread count give the same network; torch's global generator is
    left as it was.

    Raises:
        ValueError: fewer than two classes, or fewer images than a batch norm can do with.
    """
    if classes < 2 or len(images) < 2 or len(np.unique(labels)) < 2:
        raise ValueError(
            f"train_classifier: {len(images)} images of {len(np.unique(labels))} classes; 2 needed."
        )
    x, y = _pixels(images), torch.from_numpy(np.asarray(labels, np.int64))
    with _first_weights, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _build(tuple(x.shape[1:]), classes)
    optimiser = torch.optim.AdamW(network.parameters(), lr=PEAK_RATE, weight_decay=DECAY)
    rng = torch.Generator().manual_seed(seed)
    network.train()
    for step in range(STEPS):
        for group in optimiser.param_groups:
            group["lr"] = PEAK_RATE * _cycle(step / STEPS)
        chosen = torch.randint(len(x), (BATCH,), generator=rng)
        down, right = torch.randint(-SHIFT_PX, SHIFT_PX + 1, (2,), generator=rng).tolist()
        batch = torch.roll(x[chosen], (down, right), (2, 3))
        loss = nn.functional.cross_entropy(network(batch), y[chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return Classifier(network.eval())


def _cycle(progress: float) -> float:
    """Rise over the first 30%, then fall to nothing along a cosine."""
    if progress < 0.3:
        return 0.04 + 0.96 * progress / 0.3
    return 0.5 * (1 + math.cos(math.pi * (progress - 0.3) / 0.7))


def _build(shape: tuple[int, ...], classes: int) -> nn.Module:
    from monai.networks.nets.classifier import Classifier as Network  # seconds to import

    # Half size at the first and the last two layers; images over 48 px once more.
    strides = (2, 2 if min(shape[1:]) > 48 else 1, 2, 2)
    network = Network(shape, classes, CHANNELS, strides, num_res_units=0, act="RELU", norm="BATCH")
    return network.to(memory_format=torch.channels_last)  # a fifth faster on CPUs


def _pixels(images: np.ndarray) -> Tensor:
    """Return ``(N, C, h, w)`` float32 in [-1, 1], averaged down to at most 64 px a side."""
    x = torch.from_numpy(np.ascontiguousarray(images)).float() / 127.5 - 1
    shrink = max(x.shape[2:]) / LARGEST_PX
    if shrink > 1:
        size = tuple(max(12, round(side / shrink)) for side in x.shape[2:])
        x = nn.functional.interpolate(x, size=size, mode="area")
    return x.contiguous(memory_format=torch.channels_last)
