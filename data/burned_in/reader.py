"""Text in a picture, read by the networks that lie in the rapidocr package: the extra ``[ocr]``.

What was read never leaves this module: of each place it tells how many letters and digits stand there, and
how sure that is. Nothing is downloaded: the weights are named by path, and held against their SHA-256 first.

Source: PP-OCRv6 (PaddleOCR), small detection and recognition networks, as ONNX files of rapidocr.
"""

import functools
import hashlib
import importlib
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Any

import numpy as np

from phantomset.data.deidentify import Box
from phantomset.data.errors import SourceError

INSTALL = "python -m pip install 'phantomset[ocr]'"
"""The command that brings the extra."""

WEIGHTS = {
    "PP-OCRv6_det_small.onnx": "090f04abcd9d9a7498bc4ebf677e4cb9bdce1fe4197ddb7e529f1ef44e1ff94f",
    "PP-OCRv6_rec_small.onnx": "6f327246b50388f3c176ae304bd95767ea6dc0c9ae92153ef8cbe210b3c14884",
}
"""The networks that find lines and that read them, by file name, with the SHA-256 that was measured."""

_PACKAGES = ("rapidocr", "onnxruntime", "cv2")


@dataclass(frozen=True, slots=True)
class TextBox:
    """A place where something like text stands.

    Attributes:
        box: the rectangle around it, as shares of the picture: left, top, right, bottom.
        characters: letters and digits that were read there.
        confidence: of the reading, 0 to 1.
    """

    box: Box
    characters: int
    confidence: float


def is_installed() -> bool:
    """Return whether the extra ``[ocr]`` is there."""
    return all(util.find_spec(package) is not None for package in _PACKAGES)


def version() -> str:
    """Return what reads, such as "rapidocr 3.10.0"; another version is another outcome."""
    return f"rapidocr {metadata.version('rapidocr')}"


def read(picture: np.ndarray) -> list[TextBox]:
    """Return the places of text in a picture, from top to bottom.

    It reads best in small windows: `tiles` cuts a picture into these.

    Args:
        picture: ``(H, W)`` or ``(H, W, 3)`` uint8, RGB.

    Raises:
        SourceError: the weights are not those that were measured.
    """
    colour = np.repeat(picture[..., None], 3, axis=2) if picture.ndim == 2 else picture[..., ::-1]
    found = _engine()(np.ascontiguousarray(colour))
    if found.boxes is None or found.txts is None:
        return []
    height, width = picture.shape[:2]
    read_there = zip(found.boxes, found.txts, found.scores, strict=True)
    return [
        TextBox(_around(corners, width, height), sum(map(str.isalnum, text)), float(score))
        for corners, text, score in read_there
    ]


def hold_weights() -> None:
    """Hold that the networks are those that were measured.

    Raises:
        SourceError: a file is missing or another.
    """
    for name, expected in WEIGHTS.items():
        path = _folder() / name
        found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no such file"
        if found != expected:
            raise SourceError(
                f"deidentify.burned_in_text: {name} of {version()} has another digest than the one that was "
                f"measured (found {found[:12]}, expected {expected[:12]}). Install it again: {INSTALL}"
            )


def _folder() -> Path:
    found = util.find_spec("rapidocr")
    assert found is not None and found.origin is not None  # noqa: S101 - `is_installed` was asked first
    return Path(found.origin).parent / "models"


@functools.cache
def _engine() -> Any:
    """The networks, once a process, on one thread: files are read by many processes side by side."""
    hold_weights()
    engine: Any = importlib.import_module("rapidocr")  # an extra: absent where this is type-checked
    return engine.RapidOCR(
        params={
            "Det.model_path": str(_folder() / "PP-OCRv6_det_small.onnx"),
            "Rec.model_path": str(_folder() / "PP-OCRv6_rec_small.onnx"),
            "Global.use_cls": False,
            "Global.text_score": 0.0,
            "Global.log_level": "critical",
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
    )


def _around(corners: np.ndarray, width: int, height: int) -> Box:
    """The upright rectangle around four corners, in shares of the picture."""
    left, top = np.clip(corners.min(axis=0) / (width, height), 0, 1)
    right, bottom = np.clip(corners.max(axis=0) / (width, height), 0, 1)
    return float(left), float(top), float(right), float(bottom)
