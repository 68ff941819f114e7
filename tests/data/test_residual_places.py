"""The residual scan over the places where an identifier may stand, and those that it cannot reach."""

from collections.abc import Callable

import numpy as np

from phantomset.data.residual.files import read
from phantomset.data.residual.scan import Area, search
from phantomset.data.residual.tokens import Tokens

from .planted_places import corpus

Make = Callable[..., bytes]


def _tokens(content: bytes, name: str = "x.dcm") -> Tokens:
    tokens = Tokens()
    read(content, name, frozenset(), tokens)
    return tokens


OUT_OF_REACH = {
    "burned-in text (MR, BurnedIn=YES)": "drawn in pixels: kept out by its header",
    "burned-in text (SC RGB)": "drawn in pixels: kept out by its class",
    "burned-in text outside US region": "drawn in pixels: kept out by its class",
    "text in unused high bits (bit 15)": "drawn in bits that are masked",
    "overlay 6000 bits": "drawn in bits that are never read",
    "overlay 6006 bits": "drawn in bits that are never read",
    "icon image pixels": "drawn in pixels that are never read",
}
"""Where a text is drawn it is no bytes that could be sought; `test_planted` compares the pixels instead."""


def test_every_planted_text_would_be_found() -> None:
    """Of the 89 planted places each that carries text is found by this reader, which knows no dictionary; the
    others are these seven, each for its reason.
    """
    blind = []
    for plant, content, _ in corpus():
        tokens = _tokens(content, plant.name)
        tokens.add(plant.name, "file name")
        areas = [Area("a", token, "text") for token in plant.tokens]
        if not search(tokens, areas, frozenset()):
            blind.append(plant.place)
    assert blind == list(OUT_OF_REACH)


def test_pixels_are_no_text_however_many_frames(make_dicom: Make) -> None:
    """What looks like letters within the pixels is not taken, nor are frames that nobody counted; what stands
    after the last pixel is.
    """
    letters = np.frombuffer(b"Winterhalter" * 32, dtype="<u2").reshape(12, 16)
    size = letters.nbytes
    content = make_dicom(letters)
    plain = _tokens(content).words.keys()
    for extra, expected in ((b"", set()), (b"Sommerfeld", {"Sommerfeld"}), (letters.tobytes(), set())):
        longer = (size + len(extra)).to_bytes(4, "little") + content[-size:] + extra
        assert _tokens(content[: -size - 4] + longer).words.keys() - plain == expected
    assert "Winterhalter" not in plain
