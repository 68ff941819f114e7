"""What made a result: versions of packages, and digests of our own code."""

import functools
import platform
from importlib import metadata, resources

from phantomset.data.digest import digest_of

PACKAGES = (
    "phantomset",
    "torch",
    "torchvision",
    "monai",
    "numpy",
    "scipy",
    "pandas",
    "pydicom",
    "scikit-learn",
)


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that shape a result."""
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in PACKAGES}


@functools.cache
def code_digest(room: str) -> str:
    """Return the digest of a room's source files, such as "ganmodels": other code is another result."""
    found: list[tuple[str, bytes]] = []
    folders = [("", resources.files(f"phantomset.{room}"))]
    while folders:
        prefix, folder = folders.pop()
        for entry in folder.iterdir():
            name = f"{prefix}/{entry.name}"
            if entry.is_dir() and entry.name != "__pycache__":
                folders.append((name, entry))
            elif name.endswith(".py"):
                found.append((name, entry.read_bytes()))
    return digest_of([[name, digest_of(content)] for name, content in sorted(found)])
