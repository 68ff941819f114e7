"""The dataset card: README.md with the front matter that Hugging Face reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from phantomset.pipelines.draft import Draft
from phantomset.pipelines.publisher import Publisher, class_folders
from phantomset.pipelines.report.page import environment
from phantomset.pipelines.report.view import public_view

_CC = ("cc0-1.0", *(f"cc-by{part}-4.0" for part in ("", "-sa", "-nc", "-nd", "-nc-sa", "-nc-nd")))
HUB_LICENCES = frozenset(
    {*_CC, "apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "odc-by", "odbl", "pddl", "unlicense"}
)
"""Licences that the hub knows by their name; any other is "other" with its name beside it."""

TAKEN_FOR_MISSING = frozenset(
    {"", "NA", "N/A", "n/a", "NaN", "nan", "-nan", "-NaN", "None", "NULL", "null", "<NA>", "#N/A", "#NA"}
)
"""Labels that pandas, and with it Hugging Face, reads as "no value" unless it is told otherwise."""


@dataclass(frozen=True, slots=True)
class Portion:
    """One part of the set as Hugging Face loads it: a pattern of files, how many images, how many bytes."""

    part: str
    path: str
    images: int
    size_bytes: int


SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def card(
    draft: Draft, version: int, publishers: Sequence[Publisher], portions: Sequence[Portion] = ()
) -> str:
    """Return the README.md of a release: what it is, how to load it, what was measured, what was not.

    ``portions`` are the parts that Hugging Face loads; none where the release has no form for it.
    """
    terms: dict[str, Any] = draft.recipe.get("publish", {})
    text = (
        environment(autoescape=False)
        .get_template("card.md")
        .render(
            view=public_view(draft),
            front=yaml.safe_dump(_front(draft, portions), sort_keys=False, allow_unicode=True, width=1_000),
            version=version,
            images=len(draft.synthetic),
            licence=str(terms.get("licence", "")) or "not named: ask the provider",
            source_terms=str(terms.get("source_terms", "")),
            summary=str(draft.recipe.get("summary", "")),
            family=str(draft.recipe.get("model", {}).get("family", "not named")),
            policy=draft.verdict.rules.privacy,
            profile=draft.verdict.rules.fidelity,
            suite=draft.verdict.suite,
            folders=class_folders(draft.synthetic.label_names),
            missing=[name for name in draft.synthetic.label_names if name in TAKEN_FOR_MISSING],
            publishers=publishers,
            portions=portions,
        )
    )
    return text.strip() + "\n"


def _front(draft: Draft, portions: Sequence[Portion]) -> dict[str, Any]:
    """Return the front matter. Images are declared only where Hugging Face can load them."""
    count = len(draft.synthetic)
    front: dict[str, Any] = {
        "pretty_name": draft.name,
        **_licence(str(draft.recipe.get("publish", {}).get("licence", ""))),
        "task_categories": ["image-classification"],
        "size_categories": [next((name for limit, name in SIZES if count < limit), "n>1M")],
        "annotations_creators": ["machine-generated"],
        "source_datasets": ["original"],
        "tags": ["synthetic", "phantomset"],
    }
    if portions:
        names = {str(index): label for index, label in enumerate(draft.synthetic.label_names)}
        files = [{"split": portion.part, "path": portion.path} for portion in portions]
        total = sum(portion.size_bytes for portion in portions)
        front["configs"] = [{"config_name": "default", "data_files": files, "default": True}]
        front["dataset_info"] = {
            "features": [
                {"name": "image", "dtype": "image"},
                {"name": "label", "dtype": {"class_label": {"names": names}}},
            ],
            "splits": [
                {"name": portion.part, "num_bytes": portion.size_bytes, "num_examples": portion.images}
                for portion in portions
            ],
            "download_size": total,
            "dataset_size": total,
        }
    return front


def _licence(licence: str) -> dict[str, str]:
    if not licence:
        return {}
    known = licence.casefold()
    return {"license": known} if known in HUB_LICENCES else {"license": "other", "license_name": licence}
