"""The residual scan's own reader of JPEG streams: comments and application segments, wherever they stand."""

import re
import struct

from phantomset.data.residual.tokens import PICTURE, Tokens

_MARKER = re.compile(rb"\xff[^\0\xff\xd0-\xd7]")


def take_jpeg(content: bytes, tokens: Tokens) -> None:
    """Take the segments of a JPEG stream that carry text, and what follows its end."""
    place = 2
    # In coded data 0xFF is followed by 0 or a restart's number: whatever else follows, it is a marker.
    while found := _MARKER.search(content, place):
        kind, place = found[0][1], found.end()
        if kind == 0xD9:
            tokens.add_runs(content[place:], PICTURE)
            return
        if kind in (0x01, 0xD8) or place + 2 > len(content):
            continue
        length = struct.unpack_from(">H", content, place)[0]
        if kind == 0xFE or 0xE0 <= kind <= 0xEF:
            tokens.add_runs(content[place + 2 : place + length], PICTURE)
        place += max(2, length)
