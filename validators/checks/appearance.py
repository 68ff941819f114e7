"""Are the images as sharp and as bright as real ones?"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from phantomset.validators.context import Context
from phantomset.validators.finding import Check, Finding
from phantomset.validators.measures import appearance

LEAST_IMAGES = 50
BINS = 32


def _run(context: Context) -> Sequence[Finding]:
    names = context.evidence.train.label_names
    groups: list[tuple[str, int | None]] = [("all", None)]
    groups += [(name, label) for label, name in enumerate(names)]
    return [finding for name, label in groups for finding in _of_group(context, name, label)]


def _of_group(context: Context, name: str, label: int | None) -> list[Finding]:
    """Return how far sharpness and grey levels lie from real ones: of all images, or of a class."""
    parts = {part: _images(context, part, label) for part in ("synthetic", "holdout", "train")}
    n = min(map(len, parts.values()))
    if n < LEAST_IMAGES:
        advice = f"{n} images in a part; {LEAST_IMAGES} are needed."
        return [_finding(name, "sharpness", "", None, None, n, {}, advice)]
    sharp = {part: appearance.sharpness(images) for part, images in parts.items()}
    grey = {part: appearance.intensities(images) for part, images in parts.items()}
    made, real = (appearance.apart(sharp[part], sharp["holdout"]) for part in ("synthetic", "train"))
    drawn = _histogram(sharp) if label is None else {}
    sharpness = _finding(name, "sharpness", "log10", made, real, n, drawn)
    made, real = (appearance.levels_apart(grey[part], grey["holdout"]) for part in ("synthetic", "train"))
    drawn = _coarse(grey) if label is None else {}
    return [sharpness, _finding(name, "grey levels", "levels", made, real, n, drawn)]


def _images(context: Context, part: str, label: int | None) -> np.ndarray:
    images = getattr(context.evidence, part)
    return images.images if label is None else images.images[images.labels == label]


def _histogram(values: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return the shares of both sides in equal bins, for a picture."""
    edges = np.histogram_bin_edges(np.concatenate(list(values.values())), BINS)
    shares = {part: np.histogram(found, edges)[0] / len(found) for part, found in values.items()}
    return {"edges": edges.tolist(), **{part: found.tolist() for part, found in shares.items()}}


def _coarse(levels: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return shares of 256 grey levels in as many bins as the other picture has."""
    edges = np.linspace(0, appearance.LEVELS, BINS + 1)
    shares = {part: found.reshape(BINS, -1).sum(1) for part, found in levels.items()}
    return {"edges": edges.tolist(), **{part: found.tolist() for part, found in shares.items()}}


def _finding(
    name: str,
    what: str,
    unit: str,
    value: float | None,
    baseline: float | None,
    n: int,
    details: dict[str, Any],
    advice: str = "",
) -> Finding:
    return Finding(
        check="appearance",
        metric=f"{what}, distance from real images",
        axis="fidelity",
        status="NOT_EVALUATED" if value is None else "REPORTED",
        value=value,
        group=name,
        unit=unit,
        direction="lower is better",
        n=n,
        baseline=baseline,
        advice=advice,
        details=details,
    )


CHECK = Check(
    name="appearance",
    question="Are the images as sharp and as bright as real ones?",
    axis="fidelity",
    required=False,
    run=_run,
    source="Pech-Pacheco et al. 2000 (sharpness); Wasserstein distances of distributions",
)
