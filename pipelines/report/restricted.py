"""The parts of the restricted report that show exact figures and real images."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from phantomset.data.records import ImageSet
from phantomset.pipelines.report import marks, plots, words
from phantomset.pipelines.report.pairs import MAX_REAL, MAX_SYNTHETIC, Neighbours, neighbours
from phantomset.validators.finding import Evidence, Finding

PAIRS = 12
SHOWN = {"holdout": "unseen images", "synthetic": "synthetic images"}
WHISKER_PX = 130


@dataclass(frozen=True, slots=True)
class FindingRow:
    """One finding as the table shows it. ``at``, ``low_at`` .. are places on the small picture, in pixels."""

    axis: str
    metric: str
    group: str
    reading: str
    value: str
    unit: str
    interval: str
    baseline: str
    limit: str
    direction: str
    n: str
    status: str
    advice: str
    least: str
    greatest: str
    at: float | None
    low_at: float | None
    high_at: float | None
    base_at: float | None


@dataclass(frozen=True, slots=True)
class Pair:
    """A real image and the synthetic image most like it, side by side in one picture.

    Attributes:
        name: what a person calls it who marks it (`marks`); "" where it cannot be marked.
    """

    uri: str
    distance: str
    labels: str
    name: str = ""


def finding_rows(findings: Iterable[Finding]) -> list[FindingRow]:
    """Return every finding with all that it carries, in the gate's order; what explains several, once."""
    rows: list[FindingRow] = []
    told = ""
    for finding in findings:
        row = _row(finding)
        rows.append(replace(row, reading="") if row.reading == told else row)
        told = row.reading
    return rows


def neighbour_part(evidence: Evidence) -> dict[str, Any]:
    """Return the plot of nearest distances, their quantiles and the closest pairs, of train and holdout."""
    if 0 in (len(evidence.train), len(evidence.holdout), len(evidence.synthetic)):
        return {"distances": "", "quantiles": [], "pair_groups": [], "sampled": ""}
    synthetic = evidence.synthetic.images
    train = neighbours(evidence.train.images, synthetic)
    holdout = neighbours(evidence.holdout.images, synthetic)
    cut = len(synthetic) > MAX_SYNTHETIC or max(len(evidence.train), len(evidence.holdout)) > MAX_REAL
    return {
        "distances": plots.distance_histogram(train.distance, holdout.distance),
        "quantiles": [_quantiles("training", train.distance), _quantiles("unseen", holdout.distance)],
        "pair_groups": [
            ("Closest training images", _pairs(evidence.train, evidence.synthetic, train)),
            ("Closest unseen images", _pairs(evidence.holdout, evidence.synthetic, holdout)),
        ],
        "sampled": f"Drawn from at most {MAX_REAL:,} real images a part and {MAX_SYNTHETIC:,} synthetic ones."
        if cut
        else "",
    }


def picture_part(findings: Iterable[Finding]) -> dict[str, Any]:
    """Return the pictures of fidelity: what is covered, and how sharp and bright the images are."""
    drawn: dict[str, Any] = {"coverage": "", "appearance": []}
    for finding in findings:
        told = finding.details
        if finding.check == "coverage" and "covered" in told:
            real, made = np.array(told["holdout"]), np.array(told["synthetic"])
            drawn["coverage"] = plots.coverage_map(real, np.array(told["covered"]), made)
        elif finding.check == "appearance" and "edges" in told:
            what, unit = finding.metric.partition(",")[0], finding.unit
            shares = {name: np.array(told[part]) for part, name in SHOWN.items()}
            uri = plots.outlines(np.array(told["edges"]), shares, f"{what} ({unit})")
            drawn["appearance"].append((what, uri))
    return drawn


def attack_part(findings: Iterable[Finding], evidence: Evidence) -> dict[str, Any]:
    """Return the closest training pairs of each attack, each with its difference image.

    A pair that several attacks name is shown where it is named first; the others say under which name.
    """
    first: dict[tuple[int, int], str] = {}
    groups: list[tuple[str, list[Pair], list[str]]] = []
    for attack, named in marks.pairs(findings).items():
        shown: list[Pair] = []
        again: list[str] = []
        for name, (row, column, figure) in named.items():
            known = first.setdefault((row, column), name)
            if known == name:
                shown.append(_attacked(evidence, row, column, figure, name))
            else:
                again.append(f"{name} is {known} ({figure:.3f})")
        groups.append((attack, shown, again))
    return {"attack_groups": groups}


def _attacked(evidence: Evidence, row: int, column: int, q: float, name: str) -> Pair:
    """Return real image, synthetic image and their difference: grey is none, dark and bright are more."""
    real, synthetic = evidence.train.images[row], evidence.synthetic.images[column]
    difference = (synthetic.astype(np.int16) - real) // 2 + 128
    three = np.stack([real, synthetic, difference.astype(np.uint8)])
    labels = (
        evidence.train.label_names[int(evidence.train.labels[row])],
        evidence.synthetic.label_names[int(evidence.synthetic.labels[column])],
    )
    uri = plots.png_uri(plots.strip(three, 3, most_px=256))
    return Pair(uri, f"{q:.3f}", " | ".join(dict.fromkeys(labels)), name)


def _row(finding: Finding) -> FindingRow:
    low, high = finding.low, finding.high
    return FindingRow(
        axis=finding.axis,
        metric=finding.metric,
        group=finding.group,
        reading=words.how_to_read(finding.check, finding.metric),
        value=finding.details.get("words") or _exact(finding.value) or "none",
        unit=finding.unit if finding.value is not None else "",
        interval=f"{_exact(low)} to {_exact(high)}" if low is not None and high is not None else "",
        baseline=_exact(finding.baseline),
        limit=finding.limit,
        direction=finding.direction,
        n=f"{finding.n:,}" if finding.n else "",
        status=finding.status,
        advice=finding.advice,
        least=_exact(finding.bounds[0]) if finding.bounds else "",
        greatest=_exact(finding.bounds[1]) if finding.bounds else "",
        at=_at(finding.value, finding.bounds),
        low_at=_at(low, finding.bounds) if high is not None else None,
        high_at=_at(high, finding.bounds) if low is not None else None,
        base_at=_at(finding.baseline, finding.bounds),
    )


def _exact(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _at(value: float | None, bounds: tuple[float, float] | None) -> float | None:
    """Return where a value stands on the small picture, 5 px off its ends; None where it has no place."""
    if value is None or bounds is None or not np.isfinite([value, *bounds]).all() or bounds[0] >= bounds[1]:
        return None
    share = min(max((value - bounds[0]) / (bounds[1] - bounds[0]), 0.0), 1.0)
    return round(5 + share * (WHISKER_PX - 10), 1)


def _quantiles(name: str, distance: np.ndarray) -> list[str]:
    return [
        name,
        f"{len(distance):,}",
        *(f"{value:.3f}" for value in np.quantile(distance, [0, 0.01, 0.05, 0.5])),
    ]


def _pairs(real: ImageSet, synthetic: ImageSet, found: Neighbours) -> list[Pair]:
    pairs: list[Pair] = []
    for place in np.argsort(found.distance, kind="stable")[:PAIRS]:
        left, right = found.real[place], found.nearest[place]
        both = np.stack([real.images[left], synthetic.images[right]])
        labels = (real.label_names[real.labels[left]], synthetic.label_names[synthetic.labels[right]])
        pairs.append(
            Pair(
                plots.png_uri(plots.strip(both, 2, most_px=256)),
                f"{found.distance[place]:.3f}",
                " | ".join(dict.fromkeys(labels)),
            )
        )
    return pairs
