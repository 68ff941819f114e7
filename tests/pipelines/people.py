"""People who sign, each with a key of their own."""

from pathlib import Path

from phantomset.pipelines.releases import signing


def key(path: Path) -> signing.Signer:
    """Make a key at ``path`` and return who signs with it."""
    signing.new_key(path, "")
    found = signing.signer(path)
    assert found is not None
    return found
