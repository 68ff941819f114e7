"""What the sections of a recipe must agree on, beyond what each holds of itself."""

from typing import Any, LiteralString

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

Recipe = Any
"""The recipe: its module asks this one."""


def refusal(kind: LiteralString, reason: str) -> PydanticCustomError:
    """Return an error of a field in our own words."""
    return PydanticCustomError(kind, "{reason}", {"reason": reason})


def _refusal_at(place: tuple[str, ...], reason: str) -> ValidationError:
    """Return an error of a field of a section."""
    detail = InitErrorDetails(type=refusal("value", reason), loc=place, input=None)
    return ValidationError.from_exception_data("recipe", [detail])


def require(recipe: Recipe) -> None:
    """Hold that the sections agree.

    Raises:
        ValidationError: they do not.
    """
    _private_throughout(recipe)
    _conditions_are_named_once(recipe)
    _attributes_are_used(recipe)


def _private_throughout(recipe: Recipe) -> None:
    """Hold that nothing beside the training tells of the patients for whom it accounts."""
    if recipe.model.privacy is None:
        return
    if recipe.generate.classes == "as-real":
        reason = (
            "'as-real' copies the balance of the patients' classes, for which model.privacy does not "
            "account; say generate.classes: uniform, or numbers that were chosen without the data"
        )
        raise _refusal_at(("generate", "classes"), reason)
    if recipe.generate.through is not None:
        raise _refusal_at(("generate", "through"), "that translation was learned without model.privacy")
    if recipe.model.rare != "refuse":
        reason = (
            "'leave-out' goes by how many patients there are of each class, for which model.privacy does not "
            "account; name the classes in source.labels.classes instead"
        )
        raise _refusal_at(("model", "rare"), reason)
    if recipe.translate is not None:
        raise _refusal_at(("translate",), "goes without model.privacy: translations have no private form")


def _conditions_are_named_once(recipe: Recipe) -> None:
    """Hold that no condition stands twice: of two values for it one would be lost in silence."""
    named = (("model", "conditions"), recipe.model.conditions), (("generate", "where"), recipe.generate.where)
    for place, names in named:
        alike: dict[str, list[str]] = {}
        for name in names:
            alike.setdefault(recipe.condition(name).casefold(), []).append(name)
        for twice in (group for group in alike.values() if len(group) > 1):
            reason = f"{' and '.join(map(repr, twice))} name the same condition; name it once"
            raise _refusal_at(place, reason)


def _attributes_are_used(recipe: Recipe) -> None:
    """Hold that each attribute that a table is read for is a condition, or is there for the gate alone.

    Else labels would be read and not used, and nobody would notice that nothing can be asked for by them.
    What a DICOM file says of itself is kept unasked, and every value of it is a subgroup.
    """
    asked: tuple[str, ...] | None = getattr(recipe.source, "attributes", None)
    alone = recipe.gate.subgroups
    strange = [name for name in alone if name not in (asked or ())]
    if strange:
        advice = (
            "no table of attributes is read for this source (all that DICOM files say of themselves make "
            "subgroups unasked); leave it out"
            if asked is None
            else "add it to source.attributes"
        )
        raise _refusal_at(("gate", "subgroups"), f"the source is not read for {strange[0]!r}: {advice}")
    unused = [name for name in asked or () if name not in (*recipe.model.conditions, *alone)]
    if unused:
        reason = (
            f"{unused[0]!r} would be read and not used. Name it in model.conditions, so that images can be "
            "asked for by it, or in gate.subgroups, so that the gate alone looks at its patients apart"
        )
        raise _refusal_at(("source", "attributes"), reason)
