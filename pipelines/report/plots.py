"""Pictures for the reports, as data URIs: SVG for curves, PNG for images. Equal input, equal bytes."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

INK, MUTED, RULE = "#1f2933", "#52606d", "#d5dbe1"
SERIES = ("#1f5f8b", "#b4541a", "#4f6d3a", "#6b4a86")
"""Line colours, told apart in grey print and by people who do not see red or green."""

STYLES = ("-", "--", "-.", ":")

WIDTH_IN, HEIGHT_IN = 4.8, 2.7
"""Small enough that the letters stay readable when a phone shrinks the picture to 350 px."""

MAX_POINTS = 240


def png_uri(pixels: np.ndarray) -> str:
    """Return a data URI of an image ``(H, W)`` or ``(H, W, 3)`` uint8."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG", compress_level=9)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def strip(
    images: np.ndarray, columns: int, height_px: int = 64, most_px: int = 96, gap_px: int = 4
) -> np.ndarray:
    """Return images ``(N, C, H, W)`` uint8 side by side on white, N cut or padded to ``columns``.

    Small images grow to about ``height_px``, each pixel a whole block, so that nothing is smoothed that is
    rough. Those higher than ``most_px`` shrink by a whole factor, blocks averaged, so that a page stays
    small.
    """
    scale, shrink = max(1, round(height_px / images.shape[2])), -(-images.shape[2] // most_px)
    shown = _shrunk(images[:columns], shrink).repeat(scale, axis=2).repeat(scale, axis=3)
    N, C, H, W = shown.shape
    canvas = np.full((H, columns * (W + gap_px) - gap_px, C), 255, np.uint8)
    for index in range(N):
        left = index * (W + gap_px)
        canvas[:, left : left + W] = shown[index].transpose(1, 2, 0)
    return canvas[:, :, 0] if C == 1 else canvas


def _shrunk(images: np.ndarray, factor: int) -> np.ndarray:
    """Return images of the means of ``factor x factor`` blocks; a last part of a block is cut off."""
    if factor == 1 or min(images.shape[2:]) < factor:
        return images
    N, C, H, W = images.shape
    rows, columns = H // factor, W // factor
    whole = images[:, :, : rows * factor, : columns * factor]
    blocks = whole.reshape(N, C, rows, factor, columns, factor)
    return blocks.mean((3, 5)).round().astype(np.uint8)


def loss_curves(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a data URI of the losses over images seen; "" where the rows hold none.

    A row has ``images`` and named numbers, as the engine's ``train.jsonl``; every number whose name holds
    "loss" is drawn, four at most.
    """
    points = [(float(row["images"]), _losses(row)) for row in rows if "images" in row]
    names = sorted({name for _, losses in points for name in losses})[: len(SERIES)]
    if not names:
        return ""
    points = points[:: -(-len(points) // MAX_POINTS)]
    figure, axes = _axes()
    for colour, style, name in zip(SERIES, STYLES, names, strict=False):
        drawn = [
            (seen, losses[name]) for seen, losses in points if name in losses and np.isfinite(losses[name])
        ]
        if drawn:
            x, y = zip(*drawn, strict=True)
            axes.plot(x, y, color=colour, linestyle=style, linewidth=1.4, label=name.replace("_", " "))
    axes.set_xlabel("images seen")
    axes.set_ylabel("loss")
    axes.xaxis.set_major_formatter(_thousands)
    axes.legend(frameon=False, fontsize=8.5, labelcolor=INK)
    return _svg_uri(figure)


def _thousands(value: float, _: int) -> str:
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"


def _losses(row: Mapping[str, Any]) -> dict[str, float]:
    return {
        key: float(value) for key, value in row.items() if "loss" in key and isinstance(value, int | float)
    }


def distance_histogram(train: np.ndarray, holdout: np.ndarray) -> str:
    """Return a data URI of two outlines: nearest-neighbour distances ``(N,)`` of training and unseen images.

    Both are shares of their own part, so that parts of different sizes can be compared.
    """
    edges = np.histogram_bin_edges(np.concatenate([train, holdout]), bins=40)
    parts = {"training images": train, "unseen images": holdout}
    shares = {
        name: np.histogram(values, bins=edges)[0] / max(len(values), 1) for name, values in parts.items()
    }
    return outlines(edges, shares, "distance to the nearest synthetic image")


def outlines(edges: np.ndarray, shares: Mapping[str, np.ndarray], what: str) -> str:
    """Return a data URI of histograms as outlines, four at most: shares ``(B,)`` between ``B + 1`` edges."""
    figure, axes = _axes()
    for colour, style, (name, values) in zip(SERIES, STYLES, shares.items(), strict=False):
        axes.stairs(100 * values, edges, color=colour, linestyle=style, linewidth=1.5, label=name)
    axes.set_xlabel(what)
    axes.set_ylabel("% of images")
    axes.legend(frameon=False, fontsize=8.5, labelcolor=INK)
    return _svg_uri(figure)


def coverage_map(real: np.ndarray, covered: np.ndarray, synthetic: np.ndarray) -> str:
    """Return a data URI of a map: synthetic points ``(M, 2)``, real ones ``(N, 2)`` by whether covered."""
    figure, axes = _axes()
    axes.scatter(*synthetic.T, s=5, color="#b9c2cb", linewidths=0, label="synthetic")
    axes.scatter(*real[covered].T, s=7, color=SERIES[0], linewidths=0, label="real, covered")
    axes.scatter(
        *real[~covered].T, s=16, color=SERIES[1], marker="x", linewidths=1, label="real, not covered"
    )
    axes.set_xlabel("widest direction of the reference images' features")
    axes.set_ylabel("second widest")
    axes.legend(frameon=False, fontsize=8.5, labelcolor=INK, markerscale=1.6)
    return _svg_uri(figure)


def _axes() -> tuple[Any, Any]:
    """Return a figure and its axes without touching pyplot, whose state is global."""
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(WIDTH_IN, HEIGHT_IN), layout="constrained")
    axes: Any = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(RULE)
    axes.tick_params(colors=MUTED, labelsize=8.5, length=3)
    axes.xaxis.label.set(color=MUTED, size=9)
    axes.yaxis.label.set(color=MUTED, size=9)
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def _svg_uri(figure: Any) -> str:
    import matplotlib

    library: Any = matplotlib
    stream = io.BytesIO()
    with library.rc_context({"svg.hashsalt": "phantomset"}):  # else its ids, and so its bytes, are random
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return "data:image/svg+xml;base64," + base64.b64encode(stream.getvalue()).decode()
