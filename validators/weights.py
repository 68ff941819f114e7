"""Extractors whose weights somebody brings: a local file with its digest, an architecture by its name.

Nothing is downloaded and nothing in the file is run: safetensors, never a pickle. The network's features are
what its last linear layer is given.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from phantomset.data.digest import digest_of_file
from phantomset.data.errors import RecipeError
from phantomset.validators import dinov2

BATCH = 32
LIBRARIES = ("torchvision", "monai")
CONVERT = (
    "A file of torch (.pt, .pth) is a pickle, which can run anything when it is read. Convert one that you "
    "trust, once: safetensors.torch.save_file(torch.load('w.pt', weights_only=True), 'w.safetensors')"
)
"""What to do about weights in another form."""


@dataclass(frozen=True, slots=True)
class Weights:
    """One extractor that was brought.

    Attributes:
        name: as findings name it.
        architecture: ``torchvision/resnet50``, ``monai/DenseNet121``, ``dinov2/vit`` and so on.
        path: of the file, safetensors.
        sha256: of the file.
        size_px: side to which images are brought.
        mean, deviation: of the pixels in [0, 1] that the network was trained with, by channel.
    """

    name: str
    architecture: str
    path: Path
    sha256: str
    size_px: int = 224
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    deviation: tuple[float, ...] = (0.229, 0.224, 0.225)

    @property
    def identity(self) -> tuple[Any, ...]:
        """What its figures depend on: not the place of the file."""
        return self.name, self.architecture, self.sha256, self.size_px, self.mean, self.deviation


def load(brought: Weights) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function from uint8 images ``(N, C, H, W)`` to features ``(N, D)`` float64.

    Raises:
        RecipeError: the file is missing, has another digest, is no file of weights, does not fit the
            architecture, or makes no numbers of an image; or there is no such architecture.
    """
    state = _read(brought)
    if brought.architecture == dinov2.NAME:
        try:
            state = dinov2.translated(state, brought.size_px)
        except (ValueError, RuntimeError, IndexError) as error:
            raise _wrong(brought, str(error)) from None
    network, head = _fitted(brought, state)
    channels = _channels(state)
    if len(brought.mean) not in (1, channels) or len(brought.deviation) not in (1, channels):
        raise _wrong(
            brought, f"the network takes {channels} channels; mean and deviation need 1 or {channels}"
        )

    def features(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            parts = (images[first : first + BATCH] for first in range(0, len(images), BATCH))
            return np.concatenate(
                [_before(network, head, _signal(brought, part, channels)) for part in parts]
            )

    _try(brought, features, channels)
    return features


def _try(brought: Weights, features: Callable[[np.ndarray], np.ndarray], channels: int) -> None:
    """Look at one image: a wrong size or damaged weights show now, and not after the training."""
    side = brought.size_px
    try:
        found = features(np.zeros((1, channels, side, side), np.uint8))
    except (RuntimeError, AssertionError, ValueError):
        raise _wrong(brought, f"this architecture takes no images of {side} px (size_px)") from None
    if not np.isfinite(found).all():
        raise _wrong(brought, "its features are no finite numbers, so the file is damaged")


def _read(brought: Weights) -> dict[str, Tensor]:
    """Return the tensors of the file, once its digest is right."""
    if not brought.path.is_file():
        raise _wrong(brought, f"{brought.path} is no file")
    found = digest_of_file(brought.path)
    if found != brought.sha256:
        raise _wrong(brought, f"the file's SHA-256 is {found}, and the recipe names {brought.sha256}")
    try:
        return safetensors.torch.load_file(brought.path)
    except (safetensors.SafetensorError, OSError):
        raise _wrong(brought, f"the file cannot be read as safetensors. {CONVERT}") from None


def _fitted(brought: Weights, state: dict[str, Tensor]) -> tuple[nn.Module, nn.Linear]:
    """Return the network with the weights, and its last linear layer. Only that one may be missing."""
    head_name = _head_name(brought, _build(brought, state, classes=2))
    classes = len(state[f"{head_name}.weight"]) if f"{head_name}.weight" in state else 2
    network = _build(brought, state, classes)
    try:
        missing, unexpected = network.load_state_dict(state, strict=False)
    except RuntimeError:
        raise _wrong(brought, "shapes of the file do not fit this architecture") from None
    lacking = [name for name in missing if not name.startswith(f"{head_name}.")]
    if lacking or unexpected:
        raise _wrong(brought, f"{len(lacking)} tensors are missing and {len(unexpected)} are too many for it")
    head = network.get_submodule(head_name)
    assert isinstance(head, nn.Linear)  # noqa: S101 - that is how it was found
    return network.eval().requires_grad_(False), head


def _build(brought: Weights, state: dict[str, Tensor], classes: int) -> nn.Module:
    library, _, name = brought.architecture.partition("/")
    channels = _channels(state)
    with torch.random.fork_rng(devices=[]):
        try:
            if brought.architecture == dinov2.NAME:
                return dinov2.build(state, brought.size_px)
            if library == "torchvision":
                from torchvision import models

                more = {}
                if name in ("inception_v3", "googlenet"):  # their side classifiers may have been left out
                    has_sides = any(key.lower().startswith("aux") for key in state)
                    more = {"init_weights": False, "aux_logits": has_sides}
                return models.get_model(name, weights=None, num_classes=classes, **more)
            if library == "monai" and name.startswith(("DenseNet", "resnet")):
                from monai.networks import nets

                if name.startswith("DenseNet"):
                    return getattr(nets, name)(spatial_dims=2, in_channels=channels, out_channels=classes)
                return getattr(nets, name)(spatial_dims=2, n_input_channels=channels, num_classes=classes)
        except (AttributeError, ValueError):
            pass
    raise _wrong(
        brought,
        f"{brought.architecture!r} is not known: torchvision/ and a classifier of torchvision.models, monai/ "
        f"and a DenseNet or resnet, or {dinov2.NAME}",
    )


def _head_name(brought: Weights, network: nn.Module) -> str:
    linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise _wrong(brought, "this architecture has no linear layer, before which features could be taken")
    return linear[-1]


def _channels(state: dict[str, Tensor]) -> int:
    """Return how many channels the first convolution takes."""
    return next((value.shape[1] for value in state.values() if value.ndim == 4), 3)


def _signal(brought: Weights, images: np.ndarray, channels: int) -> Tensor:
    """Return images ``(B, channels, size, size)`` as the network was trained to see them."""
    x = torch.from_numpy(np.ascontiguousarray(images)).float() / 255
    if x.shape[1] != channels:
        x = x.mean(1, keepdim=True).expand(-1, channels, -1, -1)
    size = (brought.size_px, brought.size_px)
    x = nn.functional.interpolate(x, size=size, mode="bilinear", antialias=True, align_corners=False)
    mean, deviation = (torch.tensor(each).view(1, -1, 1, 1) for each in (brought.mean, brought.deviation))
    return (x - mean) / deviation


def _before(network: nn.Module, head: nn.Linear, x: Tensor) -> np.ndarray:
    """Return what the last linear layer is given, ``(B, D)`` float64."""
    seen: list[Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    try:
        network(x)
    finally:
        hook.remove()
    return seen[-1].flatten(1).double().numpy()


def _wrong(brought: Weights, reason: str) -> RecipeError:
    return RecipeError(
        f"gate.extractors: {brought.name}: {reason}. Name a file of weights for {brought.architecture} with "
        "its SHA-256 (sha256sum FILE)."
    )
