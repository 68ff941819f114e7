"""Memory that a process keeps when it frees it."""

import platform
import subprocess
import sys

import pytest

BLOCKS = """
import resource, sys
from phantomset.data.allocator import keep_freed
if sys.argv[1] == "kept":
    keep_freed(256 << 20)
def faults():
    for _ in range(4):
        blocks = [b"x" * (8 << 20) for _ in range(16)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
before = faults()
print(faults() - before)
"""
"""Four times sixteen blocks of 8 MiB, and what they cost once the process has had as many before."""


def _faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", BLOCKS, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_freed_blocks_are_used_again_without_asking_the_system() -> None:
    """128 MiB are 32,768 pages of 4 KiB, or 64 of 2 MiB: four times asked for anew, or all are kept."""
    assert _faults("given back") >= 4 * 64
    assert _faults("kept") < 64
