"""The residual scan within a run: what is searched, which words may be found, what a hit ends in."""

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import yaml

from phantomset.data import cohorts
from phantomset.data.errors import ResidualHit
from phantomset.data.records import Cohort
from phantomset.data.residual import scan as residual
from phantomset.data.residual.areas import written
from phantomset.data.residual.vocabulary import prefect_words
from phantomset.data.store.archive import Store
from phantomset.data.workspace import Workspace, write_atomically
from phantomset.pipelines.recipe import Recipe

_BATCH = 2048
_BY_PATTERN = frozenset({"ConvolutionKernel"})
"""Allow-listed elements whose values are no fixed words but follow a narrow pattern."""

_SHIFTED = ("restricted/cohorts/", "restricted/review/")
"""Where dates stand that the recipe retains shifted: the records, and the review of their values."""

HITS = "residual-hits.csv"
"""Where the places of a hit are listed, in ``restricted/review``."""


def hold_clean(recipe: Recipe, workspace: Workspace, cohort: Cohort, key: str) -> None:
    """Hold that no text of the source is found in what ingest wrote, and that the scan is not blind.

    Searched are the store's pixels unpacked, tables, splits, previews, logs and Prefect's database.
    That nothing was found is remembered with the input; where something was, the input and its cohort are
    forgotten, also those of an earlier run that died before its own search ended.

    Args:
        recipe: of the run.
        workspace: of the run.
        cohort: what the input became.
        key: the input's (`ingest_key`).

    Raises:
        ResidualHit: a text was found; its places stand in ``restricted/review/residual-hits.csv``.
    """
    residual.prove()
    source = getattr(recipe.source, "path", None)
    hits = [] if source is None else _hits(recipe, workspace, cohort, Path(source))
    if hits:
        cohorts.forget(workspace, key, cohort)
        raise _refusal(hits, workspace)
    cohorts.note_searched(workspace, key)


def _hits(recipe: Recipe, workspace: Workspace, cohort: Cohort, source: Path) -> list[residual.Hit]:
    return residual.scan(
        source,
        lambda: written(workspace.root, _objects(Store(workspace)), _not_ours(workspace, source)),
        [*_known(recipe, workspace, cohort), *prefect_words(workspace.root)],
        recipe.source.kept_columns,
        _SHIFTED if "modified-dates" in recipe.deidentify.retain else (),
        getattr(getattr(recipe.source, "labels", None), "table", None),
    )


def _objects(store: Store) -> Iterator[np.ndarray]:
    """All pixels of the store, kept out of the cohort or not: compressed, a text would not be seen."""
    images = (image.ravel() for _, image in store.read(store.digests()))
    while batch := list(islice(images, _BATCH)):
        yield np.concatenate(batch)


def _not_ours(workspace: Workspace, source: Path) -> tuple[Path, ...]:
    """What ingest did not write: later stages' work, the reviewer's own list of hits, the source itself."""
    kinds = ("cache", "checkpoints", "synthetic", "findings", "incoming")
    later = [workspace.restricted(kind) for kind in kinds]
    public = [workspace.root / name for name in ("blocked", "releases")]
    return (*later, *public, workspace.restricted("review", HITS), source.absolute())


def _known(recipe: Recipe, workspace: Workspace, cohort: Cohort) -> list[str]:
    """The words that may be found: what the recipe declares, and where the workspace lies."""
    columns = recipe.source.kept_columns | _BY_PATTERN
    declared = {
        value for record in cohort.records for name, value in record.attributes.items() if name in columns
    }
    return [
        yaml.safe_dump(recipe.public(), allow_unicode=True),
        str(workspace.root),
        *cohort.label_names,
        *columns,
        *declared,
        *recipe.deidentify.known_words,
    ]


def _refusal(hits: list[residual.Hit], workspace: Workspace) -> ResidualHit:
    """Write the places down for the data office, and return the error, which names tags and never a text."""
    lines = sorted({f"{hit.origin},{hit.place},{hit.offset}" for hit in hits})
    write_atomically(
        workspace.restricted("review", HITS), "\n".join(["from,in,at", *lines]).encode(), mode=0o600
    )
    counts = Counter((hit.origin, hit.place.partition("/")[0]) for hit in hits)
    named = "; ".join(f"{origin} in {place}: {n:,}" for (origin, place), n in counts.most_common(5))
    return ResidualHit(
        f"RESIDUAL_HIT: {len(hits):,} texts of the source were found in what was written ({named}). Nothing "
        f"was kept. The places stand in restricted/review/{HITS}; `phantomset explain RESIDUAL_HIT` says "
        "what to do."
    )
