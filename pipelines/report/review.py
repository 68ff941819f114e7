"""The review report for the data office: each value that was kept, what was kept out and why, and a look."""

import csv
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from phantomset.data.quarantine.reasons import REASONS
from phantomset.data.records import Cohort, Split
from phantomset.data.store.archive import Store
from phantomset.data.workspace import Workspace, write_atomically
from phantomset.pipelines.report.page import environment

SHOWN = 96
"""Images of the contact sheet."""

_COLUMNS = 12
_TILE_PX = 64
_VALUES = 200
"""Distinct values listed of one attribute on the page, the commonest; the table beside it lists all."""


def write(workspace: Workspace, cohort: Cohort, split: Split, key: str | None = None) -> Path:
    """Write the report of an ingest into ``restricted/review`` and return where it lies.

    It shows real images and exact figures: it is for the people who may see them.

    Args:
        workspace: of the ingest.
        cohort: what was let in.
        split: into which parts.
        key: which input (`ingest_key`); None: the last one.
    """
    inputs = workspace.restricted("cohorts", "inputs")
    folder = inputs / key if key else max(inputs.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    place = workspace.restricted("review", f"{folder.name[:16]}.html")
    found = _read(folder / "found.json")
    kept = kept_values(cohort)
    doubtful = frozenset(found.get("weak_text", ()))
    html = (
        environment(True)
        .get_template("review.html")
        .render(
            cohort=cohort,
            kept=[(name, distinct, values[:_VALUES]) for name, distinct, values in kept],
            table=_write_values(kept, place.with_suffix(".csv")),
            labels=Counter(cohort.label_names[record.label] for record in cohort.records),
            groups=len({record.group for record in cohort.records}),
            patients=len({record.subject for record in cohort.records}),
            quarantine=[(code, n, REASONS[code]) for code, n in _ordered(_kept_out(cohort, split))],
            ledger=(folder / "quarantine.txt").relative_to(workspace.root),
            copies=len(found.get("exact_copies", [])),
            near=found.get("near_copies", [])[:_VALUES],
            leaks=found.get("own_split_leaks", {}),
            left_out=len(split.left_out),
            parts={
                "train": len(split.train),
                "holdout": len(split.holdout),
                "reference": len(split.reference),
            },
            sheet=_write_sheet(workspace, cohort, doubtful, place.with_suffix(".png")),
            shown=min(SHOWN, len(cohort.records)),
            doubtful=len(doubtful),
        )
    )
    write_atomically(place, html.encode(), mode=0o600)
    return place


def kept_values(cohort: Cohort) -> list[tuple[str, int, list[tuple[str, int]]]]:
    """Return each kept attribute with its number of distinct values, and all of them with their counts, the
    commonest first.
    """
    counts: dict[str, Counter[str]] = {}
    for record in cohort.records:
        for name, value in record.attributes.items():
            counts.setdefault(name, Counter())[value] += 1
    return [(name, len(counts[name]), _ordered(counts[name])) for name in sorted(counts)]


def _write_values(kept: list[tuple[str, int, list[tuple[str, int]]]], place: Path) -> str:
    """Write each attribute's values as CSV, the rarest first: those may name somebody. Return its name."""
    stream = io.StringIO(newline="")
    table = csv.writer(stream)
    table.writerow(("attribute", "value", "images"))
    for name, _, values in kept:
        table.writerows((_quoted(name), _quoted(value), count) for value, count in reversed(values))
    write_atomically(place, stream.getvalue().encode(), mode=0o600)
    return place.name


def _quoted(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


def _kept_out(cohort: Cohort, split: Split) -> dict[str, int]:
    return cohort.quarantine | ({"SPLIT_LINK": len(split.left_out)} if split.left_out else {})


def _write_sheet(workspace: Workspace, cohort: Cohort, doubtful: frozenset[str], place: Path) -> str:
    """Write a picture of some images, first those in doubt, then evenly by digest; return its file's name."""
    first = [i for i, record in enumerate(cohort.records) if record.digest in doubtful][:SHOWN]
    others = [i for i, record in enumerate(cohort.records) if record.digest not in doubtful]
    free = min(SHOWN - len(first), len(others))
    evenly = sorted({round(i * (len(others) - 1) / max(1, free - 1)) for i in range(free)})
    chosen = [*first, *(others[i] for i in evenly)]
    images = Store(workspace).get([cohort.records[i].digest for i in chosen])
    rows = -(-len(images) // _COLUMNS)
    sheet = Image.new("RGB", (_COLUMNS * _TILE_PX, rows * _TILE_PX))
    for number, image in enumerate(images):
        pixels = image[0] if len(image) == 1 else np.moveaxis(image, 0, -1)
        tile = Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB")
        tile = ImageOps.contain(tile, (_TILE_PX - 2, _TILE_PX - 2))
        sheet.paste(tile, (number % _COLUMNS * _TILE_PX, number // _COLUMNS * _TILE_PX))
    sheet.save(place)
    place.chmod(0o600)
    return place.name


def _ordered(counts: "dict[str, int] | Counter[str]") -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_bytes()) if path.exists() else {}
