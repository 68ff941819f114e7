"""A file in a folder becomes a choice in the recipe: there is no list to edit."""

import difflib
import importlib
import pkgutil
from typing import Any

from phantomset.data.errors import RecipeError

CONSTANTS = {
    "phantomset.data.sources": "SOURCE",
    "phantomset.ganmodels.families": "FAMILY",
    "phantomset.validators.checks": "CHECK",
    "phantomset.pipelines.publishers": "PUBLISHER",
}
"""Which constant a module of each catalogue must define."""


def names(package: str) -> tuple[str, ...]:
    """Return the sorted names in a catalogue, without importing any of its modules."""
    folder = importlib.import_module(package)
    return tuple(sorted(item.name for item in pkgutil.iter_modules(folder.__path__) if item.name[0] != "_"))


def load(package: str, name: str) -> Any:
    """Return the constant of the module ``name`` in the catalogue ``package``.

    Raises:
        RecipeError: there is no such module; the message names the nearest one.
    """
    known = names(package)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(known)}"
        raise RecipeError(f"{name!r} is not known to {package.rsplit('.', 1)[1]}{hint}")
    return getattr(importlib.import_module(f"{package}.{name}"), CONSTANTS[package])
