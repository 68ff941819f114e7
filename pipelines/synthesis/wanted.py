"""How many images of which class to make."""

import numpy as np

from phantomset.data.errors import ModelError
from phantomset.data.seeds import stream
from phantomset.pipelines.recipe import Recipe
from phantomset.pipelines.synthesis.conditions import chosen, conditions_of, where_of


def require_known(recipe: Recipe, label_names: tuple[str, ...]) -> None:
    """Hold that the recipe asks for classes that were seen, and does not contradict itself.

    Raises:
        ModelError: it asks for a class, a condition or a combination that the cohort does not have, or for a
            number of images of a class that ``generate.where`` leaves out.
    """
    if isinstance(recipe.generate.classes, dict):
        unknown = sorted(set(recipe.generate.classes) - set(label_names))
        if unknown:
            raise ModelError(
                f"generate.classes: the source has no class {', '.join(map(repr, unknown))}; "
                f"it has {', '.join(label_names)}"
            )
    fitting = chosen(label_names, conditions_of(recipe), where_of(recipe))
    kept = {label_names[label] for label in fitting}
    left = {name: count for name, count in _numbers(recipe).items() if count and name not in kept}
    if left:
        listed = ", ".join(f"{count:,} of {name!r}" for name, count in left.items())
        raise ModelError(
            f"generate: classes asks for {listed}, which generate.where leaves out; numbers are exact. Name "
            "in generate.classes only what generate.where lets through, or give shares, or 'uniform'."
        )


def _numbers(recipe: Recipe) -> dict[str, int]:
    """Return how many images of which class, where the recipe says numbers, which are exact."""
    classes = recipe.generate.classes
    if not isinstance(classes, dict):
        return {}
    numbers = {name: count for name, count in classes.items() if isinstance(count, int)}
    return numbers if len(numbers) == len(classes) else {}


def wanted_labels(recipe: Recipe, label_names: tuple[str, ...], real: np.ndarray) -> np.ndarray:
    """Return the labels to make, ``(count,) int64``, in a seeded order that says nothing of the source's.

    "as-real" shares them out as in the training part ``real`` (N,) int64, "uniform" evenly, shares as given,
    each by largest remainder; numbers are exact. ``generate.where`` leaves the classes that fit it.

    Raises:
        ModelError: nothing fits.
    """
    counts = _counts(recipe, label_names, real)
    labels = np.repeat(np.arange(len(label_names), dtype=np.int64), counts)
    return stream(recipe.drawn_by, "generate", "order").permutation(labels)


def _counts(recipe: Recipe, label_names: tuple[str, ...], real: np.ndarray) -> np.ndarray:
    """Return how many images of each class, ``(K,) int64``."""
    count, classes = recipe.generate.count, recipe.generate.classes
    fitting = np.zeros(len(label_names))
    fitting[list(chosen(label_names, conditions_of(recipe), where_of(recipe)))] = 1
    if classes == "as-real":
        weights = np.bincount(real, minlength=len(label_names)) * fitting
    elif classes == "uniform":
        weights = fitting
    else:
        weights = np.array([classes.get(name, 0) for name in label_names]) * fitting
    if not weights.sum():
        raise ModelError(
            "generate: no class is left to make. generate.classes and generate.where exclude each other."
        )
    exact = count * weights / weights.sum()
    counts = np.floor(exact + 1e-9).astype(np.int64)
    counts[np.argsort(counts - exact, kind="stable")[: count - counts.sum()]] += 1
    return counts
