"""One protocol for the quality of any labelled synthetic set, beside the ceiling of real images.

- TSTR / TRTR: a small CNN trained on synthetic or on real images for 400 steps, tested on the withheld real
  ones; AUC, balanced accuracy and accuracy, mean of two classifier seeds.
- Coverage, density, precision, recall (k = 5) and the ratio of Fréchet distances (synthetic against withheld
  halves, over withheld against withheld halves; 1 is as close as real) in three spaces: the CNN's last layer
  (clf), local binary patterns and Haar energies (tex), 2 x 2 means of pixels (pix).
- Nearest-neighbour ratio: median over samples of the distance to the nearest of the train images over that
  to the nearest of equally many withheld ones; 1 is no preference, under .95 is copying.
- Membership, on request: the greatest AUC and TPR of the attacks that `phantomset audit` makes, and
  their joint upper bounds (P4); of the withheld patients two thirds are the holdout, a third the reference.
- Noise drift: log10 excess of power in the highest frequency bands; 0 is real.
"""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score
from torch import nn

from phantomset.data.ingest import ingest
from phantomset.data.records import ImageSet
from phantomset.data.store.training_cache import image_set
from phantomset.data.workspace import Workspace
from phantomset.ganmodels import stability
from phantomset.ganmodels.plan import is_bf16
from phantomset.pipelines.recipes import recipe_file
from phantomset.validators.checks import strength
from phantomset.validators.context import Context
from phantomset.validators.finding import Evidence, Rules
from phantomset.validators.measures.frechet import frechet
from phantomset.validators.measures.neighbours import nearest
from phantomset.validators.measures.prdc import prdc

MOST_COMPARED = 2_000
CLASSIFIER_STEPS = 400
SPACE_SEED = 1234


def load(data: str, overrides: Sequence[str] = ()) -> ImageSet:
    """Return the images of a MedMNIST-like file, or of what a recipe reads, in their order.

    The parts of a file are pooled, and exact duplicates dropped; each image is a patient. ``data`` is else
    the name of a recipe, with ``overrides`` of its keys, such as ``source.path=FILE``.
    """
    if data.endswith(".npz"):
        return _pooled(Path(data))
    recipe = recipe_file.read(data, list(overrides)).recipe
    with tempfile.TemporaryDirectory() as place:
        os.environ.setdefault("PHANTOMSET_KEY_FILE", f"{place}/key")
        workspace = Workspace.open(Path(place, "workspace"))
        cohort = ingest(
            recipe.source, recipe.image, recipe.deidentify, workspace, duplicates=recipe.duplicates
        )[0]
        return image_set(workspace, cohort, range(len(cohort.records)))


def _pooled(path: Path) -> ImageSet:
    with np.load(path, allow_pickle=False) as stored:
        parts = [part for part in ("train", "val", "test") if f"{part}_images" in stored]
        images = np.concatenate([stored[f"{part}_images"] for part in parts])
        labels = np.concatenate([stored[f"{part}_labels"].reshape(-1) for part in parts]).astype(np.int64)
    images = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    first = np.sort(np.unique(images.reshape(len(images), -1), axis=0, return_index=True)[1])
    names = tuple(str(label) for label in range(int(labels.max()) + 1))
    return ImageSet(np.ascontiguousarray(images[first]), labels[first], np.arange(len(first)), names)


def split(images: ImageSet, share: float = 0.7) -> tuple[ImageSet, ImageSet]:
    """Return the patients to train on, 70% of each class, and the withheld 30%; or other shares."""
    rng = np.random.default_rng(0)
    own: dict[int, list[int]] = {}
    for place, patient in enumerate(images.patients.tolist()):
        own.setdefault(patient, []).append(place)
    firsts = np.array([places[0] for places in own.values()])
    parts: tuple[list[int], list[int]] = [], []
    for label in range(len(images.label_names)):
        members = rng.permutation(firsts[images.labels[firsts] == label])
        cut = int(share * len(members))
        for part, chosen in zip(parts, (members[:cut], members[cut:]), strict=True):
            part += [place for first in chosen for place in own[images.patients[first]]]
    train, withheld = (images.take(np.array(part)) for part in parts)
    return train, withheld


class Classifier(nn.Module):
    """Three convolutions and a layer of 64, for any image size."""

    def __init__(self, channels: int, height: int, width: int, classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64 * (height // 4) * (width // 4), 64),
            nn.ReLU(),
        )
        self.last = nn.Linear(64, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits ``(B, K)``."""
        return self.last(self.body(x))


def signal(images: np.ndarray) -> torch.Tensor:
    """Return uint8 images as float in [-1, 1]."""
    return torch.from_numpy(images).float().div(127.5).sub(1).to(memory_format=torch.channels_last)


def fit(images: ImageSet, seed: int) -> Classifier:
    """Return a classifier trained on the images, class-weighted, one cycle of the learning rate."""
    torch.manual_seed(seed)
    classes = len(images.label_names)
    net = Classifier(*images.images.shape[1:], classes).to(memory_format=torch.channels_last)
    counts = np.bincount(images.labels, minlength=classes)
    weight = torch.tensor(len(images) / (classes * np.maximum(counts, 1)), dtype=torch.float32)
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=1e-2)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-3, CLASSIFIER_STEPS, pct_start=0.1)
    x, y = signal(images.images), torch.from_numpy(images.labels)
    rng = np.random.default_rng(seed)
    order = np.concatenate([rng.permutation(len(y)) for _ in range(-(-CLASSIFIER_STEPS * 64 // len(y)))])
    for step in range(CLASSIFIER_STEPS):
        index = torch.from_numpy(order[step * 64 : step * 64 + 64])
        with torch.autocast("cpu", torch.bfloat16, is_bf16("auto", torch.device("cpu"))):
            loss = nn.functional.cross_entropy(net(x[index]).float(), y[index], weight)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        cycle.step()
    return net.eval()


@torch.inference_mode()
def features(net: nn.Module, images: np.ndarray) -> np.ndarray:
    """Return what ``net`` makes of the images, ``(N, D)``, in float32."""
    return torch.cat([net(signal(images[i : i + 512])) for i in range(0, len(images), 512)]).numpy()


def utility(train: ImageSet, test: ImageSet) -> dict[str, float]:
    """Return AUC, balanced accuracy and accuracy on ``test`` of classifiers trained on ``train``."""
    rows = []
    for seed in (0, 1):
        logits = features(fit(train, seed), test.images).astype(np.float64)
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        scores = shares[:, 1] if shares.shape[1] == 2 else shares
        guess = shares.argmax(axis=1)
        rows.append(
            (
                roc_auc_score(test.labels, scores, multi_class="ovr"),
                balanced_accuracy_score(test.labels, guess),
                accuracy_score(test.labels, guess),
            )
        )
    return dict(
        zip(("auc", "balanced_accuracy", "accuracy"), np.mean(rows, axis=0).round(4).tolist(), strict=True)
    )


def texture(images: np.ndarray) -> np.ndarray:
    """Return ``(N, 76)``: uniform local binary patterns (40) and log Haar energies (36), in 2 x 2 cells."""
    grey = images.astype(np.float64).mean(axis=1)
    patterns = _patterns(grey)
    columns = [(cell == code).mean(axis=(1, 2)) for cell in _cells(patterns) for code in range(10)]
    level = grey
    for _ in range(3):
        level = level[:, : level.shape[1] // 2 * 2, : level.shape[2] // 2 * 2]
        a, b, c, d = level[:, ::2, ::2], level[:, ::2, 1::2], level[:, 1::2, ::2], level[:, 1::2, 1::2]
        for band in (a - b + c - d, a + b - c - d, a - b - c + d):
            columns += [np.log(np.square(cell / 2).mean(axis=(1, 2)) + 1e-3) for cell in _cells(band)]
        level = (a + b + c + d) / 2
    return np.stack(columns, axis=1)


def _cells(maps: np.ndarray) -> list[np.ndarray]:
    return [cell for rows in np.array_split(maps, 2, axis=1) for cell in np.array_split(rows, 2, axis=2)]


def _patterns(grey: np.ndarray) -> np.ndarray:
    """Return LBP(8, 1), uniform: ones among 8 neighbours on a circle, 9 where they change more than twice."""
    height, width = grey.shape[1:]
    padded = np.pad(grey, ((0, 0), (2, 2), (2, 2)), mode="edge")
    bits = []
    for turn in range(8):
        down, right = -np.sin(np.pi * turn / 4), np.cos(np.pi * turn / 4)
        top, left = int(np.floor(round(down, 9))), int(np.floor(round(right, 9)))
        share_down, share_right = down - top, right - left
        at = lambda y, x: padded[:, 2 + y : 2 + y + height, 2 + x : 2 + x + width]  # noqa: E731
        value = (1 - share_down) * ((1 - share_right) * at(top, left) + share_right * at(top, left + 1))
        value = value + share_down * (
            (1 - share_right) * at(top + 1, left) + share_right * at(top + 1, left + 1)
        )
        bits.append(value >= grey - 1e-9)
    ring = np.stack(bits)
    changes = (ring != np.roll(ring, 1, axis=0)).sum(axis=0)
    return np.where(changes <= 2, ring.sum(axis=0), 9)


def block_means(images: np.ndarray) -> np.ndarray:
    """Return the means of 2 x 2 pixels in [0, 1], ``(N, C H W / 4)``."""
    n, c, h, w = images.shape
    even = images[:, :, : h // 2 * 2, : w // 2 * 2].reshape(n, c, h // 2, 2, w // 2, 2)
    return even.mean(axis=(3, 5)).reshape(n, -1) / 255.0


class Spaces:
    """The three spaces, fitted on the training part."""

    def __init__(self, train: ImageSet) -> None:
        self._body = fit(train, SPACE_SEED).body
        fitted = texture(train.images[:: max(1, len(train) // 10_000)])
        self._mean, self._deviation = fitted.mean(axis=0), np.maximum(fitted.std(axis=0), 1e-6)

    def of(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return features by space."""
        return {
            "clf": features(self._body, images).astype(np.float64),
            "tex": (texture(images) - self._mean) / self._deviation,
            "pix": block_means(images),
        }


def like(images: ImageSet, wanted: np.ndarray) -> ImageSet:
    """Return the first images of each class, as many as ``wanted`` (N,) has of it."""
    counts = np.bincount(wanted, minlength=len(images.label_names))
    return images.take(
        np.concatenate([np.flatnonzero(images.labels == k)[:count] for k, count in enumerate(counts)])
    )


def closeness(made: np.ndarray, real: np.ndarray) -> dict[str, float]:
    """Return PRDC and the ratio of Fréchet distances of features ``(N, D)``, equally many on both sides."""
    near = prdc(real, made)
    rng, ours, theirs = np.random.default_rng(0), [], []
    half = min(len(real), len(made)) // 2
    for _ in range(5):
        order, other = rng.permutation(len(real)), rng.permutation(len(made))
        ours.append(frechet(made[other[:half]], real[order[:half]]))
        theirs.append(frechet(real[order[:half]], real[order[half : 2 * half]]))
    return {name: round(value, 4) for name, value in near._asdict().items()} | {
        "fd_ratio": round(float(np.mean(ours) / np.mean(theirs)), 3)
    }


def measure(made: ImageSet, train: ImageSet, withheld: ImageSet, spaces: Spaces) -> dict[str, Any]:
    """Return all figures of a labelled set."""
    rng = np.random.default_rng(0)
    compared = withheld.take(np.sort(rng.permutation(len(withheld))[:MOST_COMPARED]))
    ours, theirs = spaces.of(like(made, compared.labels).images), spaces.of(compared.images)
    count = len(compared)
    flat = [
        part.reshape(len(part), -1).astype(np.float64)
        for part in (
            made.images[rng.permutation(len(made))[: len(made) // 2]],
            train.images[rng.permutation(len(train))[:count]],
            compared.images,
        )
    ]
    to_train, to_withheld = (nearest(flat[0], other)[0][:, 0] for other in flat[1:])
    return {
        "utility": utility(made, withheld),
        **{name: closeness(ours[name], theirs[name]) for name in ours},
        "nearest_ratio": round(float(np.median(to_train / np.maximum(to_withheld, 1e-9))), 4),
        "nearer_to_train": round(float((to_train < to_withheld).mean()), 4),
        "noise_drift": round(stability.drift(made.images[:512], shuffled(train).images[:512]), 3),
    }


def membership(made: ImageSet, train: ImageSet, withheld: ImageSet) -> dict[str, dict[str, Any]]:
    """Return how strong the strongest attack on who was trained on is: point and joint upper 95% bound."""
    holdout, reference = split(withheld, 2 / 3)
    context = Context(Evidence(train, holdout, reference, made), Rules(), seed=0)
    bounded = [finding for finding in strength.CHECK.run(context) if finding.limit]
    return {
        finding.metric: {
            "point": round(finding.value, 4),
            "bound": round(finding.high, 4),
            "limit": finding.limit,
        }
        for finding in bounded
    }


def wanted(train: ImageSet, seed: int) -> np.ndarray:
    """Return the labels to make ``(N,)``: as many of each class as were learned, in a seeded order."""
    return np.random.default_rng(seed).permutation(train.labels)


def shuffled(images: ImageSet) -> ImageSet:
    """Return the images in a seeded order."""
    return images.take(np.random.default_rng(0).permutation(len(images)))
