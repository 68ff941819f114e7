"""The reports themselves: a view and its pictures, put into a template."""

import re
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from phantomset.data.records import ImageSet
from phantomset.pipelines.draft import Draft, is_let_out
from phantomset.pipelines.report import plots, words
from phantomset.pipelines.report.restricted import attack_part, finding_rows, neighbour_part, picture_part
from phantomset.pipelines.report.thresholds import thresholds
from phantomset.pipelines.report.view import public_view, quarantine_rows
from phantomset.validators.finding import Evidence

GRID_CLASSES, HALF_ROW = 12, 5


def public_html(draft: Draft) -> str:
    """Return the public report as one HTML page that needs nothing else.

    It shows statuses, rounded counts and, for fidelity and utility alone, rounded figures. Images, all
    synthetic, are on it only where the set is let out.
    """
    grid, hidden = sample_grid(draft.synthetic) if is_let_out(draft) else ([], 0)
    return _render("public.html", draft, grid=grid, hidden_classes=hidden)


def restricted_html(draft: Draft, evidence: Evidence) -> str:
    """Return the data office's report: every figure, exact counts, and the closest real images beside their
    likeness.

    It holds pixels of real people: the caller writes it with mode 0600 into the restricted part, and nowhere
    else.
    """
    grid, hidden = sample_grid(draft.synthetic)
    counts = draft.counts
    ingest = [("files found", f"{counts.files:,}"), ("images let in", f"{counts.images:,}")]
    ingest += [("patients", "not known" if counts.patients is None else f"{counts.patients:,}")]
    unit = "images" if counts.patients is None else "patients"
    ingest += [(f"{unit} in {part}", f"{count:,}") for part, count in counts.parts.items()]
    return _render(
        "restricted.html",
        draft,
        grid=grid,
        hidden_classes=hidden,
        reasons=draft.verdict.reasons,
        power=draft.verdict.power,
        findings=finding_rows(draft.verdict.findings),
        thresholds=thresholds(draft),
        ingest=ingest,
        notes=draft.notes,
        quarantine=quarantine_rows(counts.quarantine, "{:,}".format),
        dropped=[(rule, f"{count:,}") for rule, count in sorted(counts.dropped.items())],
        **neighbour_part(evidence),
        **picture_part(draft.verdict.findings),
        **attack_part(draft.verdict.findings, evidence),
    )


def markdown(draft: Draft) -> str:
    """Return the public verdict in Markdown, for an orchestrator's page and for the terminal."""
    return _render("verdict.md", draft)


def sample_grid(synthetic: ImageSet) -> tuple[list[tuple[str, list[str]]], int]:
    """Return label and images of each class, and how many classes are not shown.

    The images are data URIs of two half rows: side by side where there is room, else one above the other.
    """
    rows: list[tuple[str, list[str]]] = []
    present = [label for label in range(len(synthetic.label_names)) if (synthetic.labels == label).any()]
    for label in present[:GRID_CLASSES]:
        own = np.flatnonzero(synthetic.labels == label)
        halves = (synthetic.images[own[start : start + HALF_ROW]] for start in (0, HALF_ROW))
        uris = [plots.png_uri(plots.strip(half, HALF_ROW)) for half in halves if len(half)]
        rows.append((synthetic.label_names[label], uris))
    return rows, max(len(present) - GRID_CLASSES, 0)


def environment(autoescape: bool) -> Any:
    """Return jinja2's environment of the templates; an unknown name is an error, not an empty place."""
    templates = FileSystemLoader(Path(__file__).parent / "templates")
    # HTML is escaped; what goes into Markdown passes through the filter `md`.
    made: Any = Environment(loader=templates, autoescape=autoescape, undefined=StrictUndefined)  # noqa: S701
    made.filters.update(md=markdown_text, capital=words.capital)
    made.globals.update(
        status_words=words.STATUS,
        axis_names=words.AXES,
        axis_text=words.AXIS_TEXT,
        limits_text=words.LIMITS,
        not_evidence=words.NOT_EVIDENCE,
        attacks=words.REPRESENTATIONS | words.ATTACKS,
    )
    return made


def markdown_text(text: str) -> str:
    r"""Return a text that Markdown shows as it is, on one line.

    >>> markdown_text("a|b <i>")
    'a\\|b &lt;i\\>'
    """
    escaped = re.sub(r"([\\`*_\[\]|>#])", r"\\\1", " ".join(text.split()))
    return escaped.replace("<", "&lt;")


def _render(template: str, draft: Draft, **more: Any) -> str:
    view = public_view(draft, in_house=template == "restricted.html")
    made = environment(autoescape=template.endswith(".html"))
    curve = plots.loss_curves(draft.curve) if template.endswith(".html") else ""
    text = made.get_template(template).render(view=view, curve=curve, suite=draft.verdict.suite, **more)
    return text.strip() + "\n"
