"""Memory that a process keeps: asking for the same pages again and again costs time (mallopt(3))."""

import contextlib
import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3

_LARGEST_BLOCK = 32 << 20
"""Larger blocks are always given back: glibc takes no higher threshold."""


def keep_freed(kept_bytes: int) -> None:
    """Let this process keep some ``kept_bytes`` that it freed, for its next blocks of up to 32 MiB.

    It does nothing where the C library is not glibc.
    """
    with contextlib.suppress(AttributeError, OSError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_TRIM_THRESHOLD, kept_bytes)
        libc.mallopt(_M_MMAP_THRESHOLD, min(kept_bytes, _LARGEST_BLOCK))
