"""Releases that would not be let out today: what they were let out by has failed since."""

from collections.abc import Iterator, Mapping

from phantomset.data.workspace import Workspace
from phantomset.pipelines.releases import release, retraction


def fallen(workspace: Workspace, failed: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence for each release that stands under a FAIL and was not taken back.

    Args:
        workspace: whose releases.
        failed: the day of the FAIL, by the digest of the set that was let out.
    """
    for item in release.list_releases(workspace):
        day = failed.get(str(item.manifest.get("set")))
        if day and not retraction.of(workspace.root / "releases", item.name, item.version):
            yield sentence(f"{item.name}/v{item.version}", day)


def sentence(named: str, day: str) -> str:
    """Return what to say of a release NAME/vN that stands under a FAIL, and what to do."""
    return (
        f"{named} would not be let out today: it, or another set of the same patients and model section, "
        f'ended FAIL on {day}. Take it back: phantomset releases retract {named} --reason "..."'
    )
