"""Memory that does not suffice: how it is told from other errors, and what a user can do about it."""

import contextlib
import re
from collections.abc import Generator

from phantomset.data.errors import ModelError

# oneDNN, which computes convolutions on a CPU, keeps back what the system said. Its words may have another
# cause; then smaller parts do not help either, and the run ends in words of ours all the same. A primitive's
# descriptor is not of them: it is refused for what is asked, whatever the memory.
_WORDS = re.compile(
    "(can't|cannot) allocate memory|out of memory|not enough memory|bad_alloc"
    "|could not execute a primitive|could not create a (memory object|primitive(?! descriptor))",
    re.IGNORECASE,
)


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error says that memory did not suffice, on the device or in the machine."""
    return isinstance(error, MemoryError) or _WORDS.search(str(error)) is not None


@contextlib.contextmanager
def enough_memory(doing: str) -> Generator[None]:
    """Tell in words that memory did not suffice, where there is no batch that could be made smaller.

    Raises:
        ModelError: it did not.
    """
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        if not is_out_of_memory(error):
            raise
        raise ModelError(
            f"{doing}: out of memory. Choose a smaller image.size_px, a family with smaller networks, or "
            "fewer --threads. What was saved is kept."
        ) from None
