"""Names made from content: worked out here from the bytes that they stand for."""

import hashlib

import numpy as np
import pytest

from phantomset.data.digest import digest_of


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.arange(12, dtype=np.uint16).reshape(3, 4)[:, ::2],
        np.arange(6, dtype=np.float64).reshape(2, 3).T,
        np.arange(3, dtype=">i4"),
        np.zeros((0, 4), dtype=np.uint8),
        np.array([True, False]),
    ],
    ids=["plain", "strided", "transposed", "big-endian", "empty", "bool"],
)
def test_an_array_is_named_by_dtype_shape_and_little_endian_bytes(array: np.ndarray) -> None:
    """However it lies in memory."""
    little = array.astype(array.dtype.newbyteorder("<"))
    content = f"{little.dtype.str}{array.shape}".encode() + little.tobytes(order="C")
    assert digest_of(array) == hashlib.sha256(content + b"\0").hexdigest()
    inside = hashlib.sha256(content).hexdigest()
    assert digest_of([array]) == hashlib.sha256(f'["{inside}"]'.encode() + b"\0").hexdigest()


def test_bytes_and_text_are_told_apart() -> None:
    """Bytes by themselves behind a word of their own, text as JSON, each part closed by a zero."""
    expected = hashlib.sha256(b'bytes:ab\0"ab"\0{"a":1}\0').hexdigest()
    assert digest_of(b"ab", "ab", {"a": 1}) == expected
