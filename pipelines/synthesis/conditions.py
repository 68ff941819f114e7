"""What a generator can be asked for: the class, and with it further attributes.

Each combination of values that the cohort has becomes a class of its own, named ``pneumonia, PatientSex: F,
ViewPosition: PA``. So everything after ingest, from batches to the gate, treats a combination as it treats a
class, and one that no patient had cannot be asked for. The price: combinations learn nothing from one
another, and each needs as many images as a class does.
"""

import dataclasses
import re
from collections.abc import Mapping

import numpy as np

from phantomset.data.digest import digest_of
from phantomset.data.errors import ModelError
from phantomset.data.records import Cohort, Record, Split
from phantomset.pipelines.recipe import LABEL, Recipe

UNKNOWN = "unknown"
"""The value of an attribute that an image does not have."""


def conditions_of(recipe: Recipe) -> tuple[str, ...]:
    """Return the model's conditions; the label table's own column name stands for ``label``."""
    return tuple(recipe.condition(name) for name in recipe.model.conditions)


def where_of(recipe: Recipe) -> dict[str, str]:
    """Return what is asked for, by condition; the label table's own column name stands for ``label``."""
    return {recipe.condition(name): value for name, value in recipe.generate.where.items()}


def conditioned(cohort: Cohort, conditions: tuple[str, ...]) -> Cohort:
    """Return the cohort with each seen combination of the conditions as a class, records in their order.

    Without conditions the class alone counts, and the cohort comes back as it is.

    Raises:
        ModelError: a condition is neither ``label`` nor an attribute of any record, or ``label`` is missing:
            labels that exist and are not used would be lost in silence.
    """
    if not conditions:
        return cohort
    known = sorted({name for record in cohort.records for name in record.attributes})
    unknown = [name for name in conditions if name != LABEL and name not in known]
    if unknown:
        raise ModelError(
            f"model.conditions: no image has {', '.join(map(repr, unknown))}; there are "
            f"{', '.join([LABEL, *known])}. Attributes are kept by source.attributes."
        )
    if LABEL not in conditions:
        raise ModelError(
            f"model.conditions: leaves out {LABEL!r}, the class itself. Add it, or name the column that "
            "matters in source.labels.column."
        )
    values = [_values(record, cohort, conditions) for record in cohort.records]
    seen = sorted(set(values), key=lambda each: _place(each, cohort, conditions))
    places = {combination: place for place, combination in enumerate(seen)}
    records = tuple(
        dataclasses.replace(record, label=places[combination])
        for record, combination in zip(cohort.records, values, strict=True)
    )
    names = tuple(_named(combination, conditions) for combination in seen)
    return dataclasses.replace(cohort, records=records, label_names=names)


def without_rare(recipe: Recipe, cohort: Cohort, split: Split) -> tuple[Cohort, Split]:
    """Return a conditioned cohort and its split without the classes that have too few images to be trained.

    As they are where ``model.rare`` does not ask for it, or nothing is rare. What is left out counts as kept
    out (RARE_CLASS): it is not learned, and nothing is compared with it.

    Raises:
        ModelError: fewer than two classes are left, the recipe names one that is not, or ``generate.where``
            asks for none but rare ones.
    """
    from phantomset.ganmodels.engine import FEWEST_IMAGES

    names = cohort.label_names
    counts = np.bincount([cohort.records[each].label for each in split.train], minlength=len(names))
    labels = {int(old): new for new, old in enumerate(np.flatnonzero(counts >= FEWEST_IMAGES))}
    if recipe.model.rare == "refuse" or len(labels) == len(names):
        return cohort, split
    _require_enough(recipe, names, labels, counts)
    kept = [place for place, record in enumerate(cohort.records) if record.label in labels]
    places = {old: new for new, old in enumerate(kept)}

    def part(positions: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(places[each] for each in positions if each in places)

    records = tuple(
        dataclasses.replace(cohort.records[each], label=labels[cohort.records[each].label]) for each in kept
    )
    lost = len(cohort.records) - len(records)
    note = (
        f"{len(names) - len(labels)} of {len(names)} classes or combinations of conditions have too few "
        "training images and are left out (model.rare): the set holds none of them."
    )
    remaining = tuple(names[label] for label in labels)
    return dataclasses.replace(
        cohort,
        records=records,
        label_names=remaining,
        quarantine=cohort.quarantine | {"RARE_CLASS": lost},
        notes=(*cohort.notes, note),
        unused=tuple(record for record in cohort.records if record.label not in labels),
    ), Split(
        digest_of("without rare", split.digest, list(remaining)),
        split.cohort,
        part(split.train),
        part(split.holdout),
        part(split.reference),
        part(split.left_out),
    )


def _require_enough(
    recipe: Recipe, names: tuple[str, ...], kept: Mapping[int, int], counts: np.ndarray
) -> None:
    """Hold that two classes are left, all that the recipe names, and something of what is asked for."""
    if len(kept) < 2:
        raise ModelError(
            f"model.rare: {len(kept) or 'no'} class has enough training images, and two must be left; "
            f"{names[counts.argmax()]!r} has most, {counts.max()}. Leave a condition out, or bring more "
            "images."
        )
    classes = recipe.generate.classes
    named = {*(classes if isinstance(classes, dict) else ()), *recipe.gate.leave_out}
    gone = sorted(named & {name for label, name in enumerate(names) if label not in kept})
    if gone:
        raise ModelError(
            f"model.rare: leaves out {', '.join(map(repr, gone))} for want of training images, which "
            "generate.classes or gate.leave_out names. Take the name away there, or bring more images."
        )
    asked = chosen(names, conditions_of(recipe), where_of(recipe))
    if not set(asked) & set(kept):
        listed = "; ".join(f"{names[label]!r} has {counts[label]}" for label in asked)
        raise ModelError(
            f"generate.where: asks for what is left out for want of training images (model.rare): {listed}. "
            "Ask for more, leave a condition out, or bring more images."
        )


def _values(record: Record, cohort: Cohort, conditions: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(
        cohort.label_names[record.label] if name == LABEL else record.attributes.get(name, UNKNOWN)
        for name in conditions
    )


def _place(combination: tuple[str, ...], cohort: Cohort, conditions: tuple[str, ...]) -> tuple[object, ...]:
    """Order classes as the cohort does, attributes by their text."""
    return tuple(
        cohort.label_names.index(value) if name == LABEL else value
        for value, name in zip(combination, conditions, strict=True)
    )


def _named(combination: tuple[str, ...], conditions: tuple[str, ...]) -> str:
    parts = [
        value if name == LABEL else f"{name}: {value}"
        for value, name in zip(combination, conditions, strict=True)
    ]
    return ", ".join(parts)


def chosen(
    label_names: tuple[str, ...], conditions: tuple[str, ...], where: Mapping[str, str]
) -> tuple[int, ...]:
    """Return the classes that fit ``where``: a value for some of the conditions.

    Args:
        label_names: of the conditioned cohort.
        conditions: of the model; none is ``label`` alone.
        where: condition to value, both in any case.

    Raises:
        ModelError: a key is no condition, or no image had that value or that combination.
    """
    conditions = conditions or (LABEL,)
    keys = {name.casefold(): place for place, name in enumerate(conditions)}
    unknown = [key for key in where if key.casefold() not in keys]
    if unknown:
        example = dict(zip(conditions, _read(label_names[0], conditions), strict=True))[LABEL]
        raise ModelError(
            f"generate.where: {', '.join(map(repr, unknown))} is no condition of this model; "
            f"there are {', '.join(conditions)}. {LABEL!r} is the class, such as {LABEL}={example}; further "
            "conditions are named in model.conditions."
        )
    wanted = {keys[key.casefold()]: value.casefold() for key, value in where.items()}
    found: list[int] = []
    for label, name in enumerate(label_names):
        values = _read(name, conditions)
        if all(values[place].casefold() == value for place, value in wanted.items()):
            found.append(label)
    if not found:
        asked = ", ".join(f"{key}={value}" for key, value in where.items())
        raise ModelError(
            f"generate.where: no image was seen with {asked}; a generator cannot be asked for what it never "
            f"saw. Seen are: {'; '.join(label_names[:20])}{'; ...' if len(label_names) > 20 else ''}"
        )
    return tuple(found)


def _read(name: str, conditions: tuple[str, ...]) -> list[str]:
    """Return the values in a combination's name, in the order of the conditions.

    Values of attributes hold no comma, so what they leave is the class's own name.
    """
    values, label = dict[str, str](), f", {name}"
    for condition in conditions:
        match = re.search(rf", {re.escape(condition)}: ([^,]*)", label)
        if condition != LABEL and match is not None:
            values[condition] = match[1]
            label = label.replace(match[0], "", 1)
    return [values.get(condition, label.removeprefix(", ")) for condition in conditions]
