"""Visits to a phantom hospital: who comes, how often, to which scanner, and what the scanner makes of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from scipy import ndimage  # pyright: ignore[reportMissingTypeStubs]
from scipy.special import ndtr  # pyright: ignore[reportMissingTypeStubs]

from phantomset.data.phantoms.anatomy import VISIT, Array, Parameters, draw_anatomy, draw_fields, picture
from phantomset.data.seeds import stream

STORED_PX = 64
"""Side of the images in the files."""

_FOLLOW_UPS = (0.60, 0.25, 0.10, 0.05)
"""Shares of the patients with 1, 2, 3 and 4 images: 1.6 on average."""

_LOYALTY = 0.85
"""Share of the visits that go to the patient's usual scanner."""

_BATCH = 128
"""Images drawn at once: small enough for the processor's cache."""


@dataclass(frozen=True, slots=True)
class Scanner:
    """A made-up machine: how it turns attenuation into grey, and how it fills in a header.

    Attributes:
        low, high: attenuations that become black and white.
        gamma: bend of the film curve between them; above 1 is darker.
        noise: strength of its quantum noise.
        field: how much of the body is seen; above 1 is more.
        inverted: stores MONOCHROME1.
        slope, intercept: from stored to modality values.
    """

    maker: str
    model: str
    modality: str
    low: float
    high: float
    gamma: float
    noise: float
    field: float = 1.0
    inverted: bool = False
    slope: float = 1.0
    intercept: float = 0.0


SCANNERS = (
    Scanner("Aurelia Imaging", "Lumen 4", "DX", 0.02, 1.05, 1.00, 1.0),
    Scanner("Borealis Medical", "ClearView DR", "DX", 0.05, 1.00, 0.88, 0.8, field=1.05),
    Scanner("Kestrel Radiology", "CR-90", "CR", -0.02, 1.12, 1.16, 1.4, inverted=True, intercept=-1024.0),
    Scanner("Novatide", "Mobile XR", "DX", 0.03, 0.96, 1.06, 1.2, field=0.95, slope=0.5),
)
"""The scanners of the phantom hospital."""

_USE = (0.38, 0.28, 0.20, 0.14)
"""Shares of the patients who usually go to each."""


@dataclass(frozen=True, slots=True)
class Visits:
    """Who comes, when, and to which scanner; one entry an image.

    Attributes:
        patients: ``(N,)`` int64, the patient of each image, 0 upwards, in order.
        follow_ups: ``(N,)`` int64, 0 for the first image of a patient.
        scanners: ``(N,)`` int64, positions in `SCANNERS`.
        findings: ``(N,)`` int64, positions in `FINDINGS`; the same for all images of a patient.
    """

    patients: Array
    follow_ups: Array
    scanners: Array
    findings: Array
    anatomy: Parameters
    poses: Parameters
    fields: Array
    seed: int

    def __len__(self) -> int:
        return len(self.patients)


def visits(patients: int, seed: int = 0) -> Visits:
    """Return the plan of a phantom cohort; the same seed gives the same cohort."""
    if patients < 1:
        raise ValueError(f"phantoms: {patients} patients; at least 1")
    chance = stream(seed, "phantom", "hospital").random((patients, 2))
    images = 1 + np.searchsorted(np.cumsum(_FOLLOW_UPS)[:-1], chance[:, 0], side="right")
    usual = np.searchsorted(np.cumsum(_USE)[:-1], chance[:, 1], side="right")
    who = np.repeat(np.arange(patients), images)
    rng = stream(seed, "phantom", "visits")
    spread = np.clip(rng.standard_normal((len(who), len(VISIT))), -2.5, 2.5)
    luck = rng.random((len(who), 2))
    elsewhere = (luck[:, 1] * len(SCANNERS)).astype(np.int64)
    anatomy = draw_anatomy(stream(seed, "phantom", "anatomy"), patients)
    return Visits(
        patients=who,
        follow_ups=np.arange(len(who)) - np.repeat(np.cumsum(images) - images, images),
        scanners=np.where(luck[:, 0] < _LOYALTY, usual[who], elsewhere),
        findings=anatomy["finding"][who].astype(np.int64),
        anatomy=anatomy,
        poses={
            name: (mean + deviation * spread[:, column]).astype(np.float32)
            for column, (name, (mean, deviation)) in enumerate(VISIT.items())
        },
        fields=draw_fields(stream(seed, "phantom", "texture"), patients),
        seed=seed,
    )


def unit_batches(plan: Visits) -> Iterator[Array]:
    """Yield batches ``(B, 64, 64)`` float32 in [0, 1], bright is dense."""
    for start in range(0, len(plan), _BATCH):
        rows = slice(start, start + _BATCH)
        who = plan.patients[rows]
        body = {name: value[who] for name, value in plan.anatomy.items()}
        pose = {name: value[rows] for name, value in plan.poses.items()}
        machines = [SCANNERS[int(index)] for index in plan.scanners[rows]]
        pose["zoom"] = pose["zoom"] / _column(machines, "field").reshape(-1)
        rays = picture(body, pose, plan.fields[who], STORED_PX)
        yield _film(rays, pose, machines, stream(plan.seed, "phantom", "noise", start))


def _film(rays: Array, visit: Parameters, machines: list[Scanner], rng: np.random.Generator) -> Array:
    """Focus, film curve, scatter that lifts the blacks, slope, and quantum noise in two grain sizes."""
    focus = ndtr(visit["focus"]).reshape(-1, 1, 1)
    soft = (1 - focus) * _blurred(rays, 1.2) + focus * _blurred(rays, 2.8)
    low, high = _column(machines, "low"), _column(machines, "high")
    unit = np.power(np.clip((soft - low) / (high - low), 1e-4, 1), _column(machines, "gamma"))
    veiled = np.sqrt(np.square(unit) + 0.06)
    unit = 0.5 + 0.85 * np.exp(visit["contrast"]).reshape(-1, 1, 1) * (veiled - 0.55)
    grain = rng.standard_normal((2, *rays.shape), dtype=np.float32)
    # A blurred field keeps 1 / (2 sigma sqrt(pi)) of its deviation.
    mottle = 0.015 * 4.25 * _blurred(grain[0], 1.2) + 0.012 * 10.6 * _blurred(grain[1], 3.0)
    loud = _column(machines, "noise") * np.exp(visit["mottle"]).reshape(-1, 1, 1)
    return np.clip(unit + loud * mottle, 0, 1).astype(np.float32)


def _blurred(pictures: Array, sigma_px: float) -> Array:
    return np.asarray(cast(Any, ndimage).gaussian_filter(pictures, (0, sigma_px, sigma_px)))


def _column(machines: list[Scanner], name: str) -> Array:
    return np.array([getattr(machine, name) for machine in machines], dtype=np.float32).reshape(-1, 1, 1)
