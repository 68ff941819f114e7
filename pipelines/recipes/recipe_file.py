"""Recipes as files: read with line and column, overridden from the command line, listed, shown."""

import difflib
import re
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import BaseModel, ValidationError

from phantomset.data import catalogue
from phantomset.data.errors import RecipeError
from phantomset.pipelines.recipe import FAMILIES, SOURCES, ModelSettings, Recipe
from phantomset.pipelines.recipes import marked_yaml

SHIPPED = "phantomset.pipelines.recipes"

MAX_BYTES = 1_000_000
"""A recipe is a page; a file above this is something else by mistake."""


@dataclass(frozen=True, slots=True)
class RecipeFile:
    """A recipe that was read: the recipe, and which keys were set on the command line."""

    recipe: Recipe
    overridden: tuple[str, ...]


def shipped() -> dict[str, str]:
    """Return the names of the shipped recipes with their one-line summaries, without validating them."""
    found: dict[str, str] = {}
    for entry in sorted(resources.files(SHIPPED).iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".yaml"):
            plain = yaml.safe_load(entry.read_text(encoding="utf-8"))
            found[entry.name.removesuffix(".yaml")] = str(plain.get("summary", ""))
    return found


def text_of(name: str) -> tuple[str, str, Path]:
    """Return a recipe's text, the name to print in messages, and the folder that its paths start from.

    ``name`` is a file, or the name of a shipped recipe; paths in a shipped recipe start from the working
    folder.

    Raises:
        RecipeError: neither exists, or the file cannot be read as text.
    """
    path = Path(name)
    if not path.is_file() and "/" not in name and not name.endswith((".yaml", ".yml")):
        known = shipped()
        if name in known:
            text = resources.files(SHIPPED).joinpath(f"{name}.yaml").read_text(encoding="utf-8")
            return text, f"{name}.yaml", Path.cwd()
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"shipped are {', '.join(known)}"
        raise RecipeError(f"recipe {name!r}: no such file and no shipped recipe of that name; {hint}")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise RecipeError(f"{name}: {path.stat().st_size:,} bytes; a recipe has at most {MAX_BYTES:,}")
        return path.read_text(encoding="utf-8"), name, path.absolute().parent
    except FileNotFoundError:
        raise RecipeError(
            f"{name}: no such recipe file; `phantomset recipes list` names the shipped ones"
        ) from None
    except UnicodeDecodeError:
        raise RecipeError(f"{name}: not YAML: the file is not UTF-8 text") from None
    except OSError as error:
        raise RecipeError(f"{name}: cannot be read ({error.strerror})") from None


def read(name: str, overrides: Sequence[str] = ()) -> RecipeFile:
    """Return the recipe of a file or a shipped name, with ``KEY=VALUE`` overrides applied.

    Raises:
        RecipeError: everything that is wrong, one line each, sorted by where it stands.
    """
    text, shown, folder = text_of(name)
    return parse(text, shown, folder, overrides)


def parse(text: str, shown: str, folder: Path, overrides: Sequence[str] = ()) -> RecipeFile:
    """Return the recipe in a text; see `read`."""
    marked = marked_yaml.read(text, shown)
    whole: Any = marked.value
    if not isinstance(whole, dict):
        found = "is empty" if whole is None else "is not made of `key: value` lines"
        raise RecipeError(
            f"{shown}:1:1: the recipe {found}; `phantomset recipes show phantom` prints an example"
        )
    tree = cast(dict[str, Any], whole)
    _absolute(tree, folder)
    _leave_settings_of_another_family(tree, overrides)
    problems = [(problem.mark, problem.line(shown)) for problem in marked.problems]
    blamed = {problem.path for problem in marked.problems}
    changed: dict[marked_yaml.Path, str] = {}
    for override in overrides:
        try:
            path = _override(tree, override)
            changed[path] = f"--set {'.'.join(map(str, path))}"
        except RecipeError as error:
            problems.append(((0, 0), str(error)))
    try:
        recipe = Recipe.model_validate(tree)
    except ValidationError as error:
        for at, entry in _one_branch(tree, error):
            if at not in blamed:
                problems.append(_placed(marked, changed, shown, at, _message(tree, at, entry)))
    else:
        if not problems:
            return RecipeFile(recipe, tuple(".".join(map(str, path)) for path in changed))
    raise RecipeError("\n".join(dict.fromkeys(line for _, line in sorted(problems))))


def _one_branch(tree: dict[str, Any], error: ValidationError) -> list[tuple[marked_yaml.Path, Any]]:
    """Return each error with its true path; where a value may have several forms, those of the nearest form.

    pydantic tries every form of a union and puts its name into the path (``labels.TableLabels.kye``).
    """
    forms: dict[marked_yaml.Path, dict[str, list[tuple[marked_yaml.Path, Any]]]] = {}
    for entry in error.errors(include_url=False):
        place: list[str | int] = []
        form, union = "", None
        node: Any = tree
        for position, part in enumerate(entry["loc"]):
            is_last = position == len(entry["loc"]) - 1
            inside = _child(node, part)
            if inside is _NOTHING and not (is_last and entry["type"] == "missing" and isinstance(node, dict)):
                union = tuple(place) if union is None else union
                form += f"/{part}"
                continue
            place.append(part)
            node = inside
        found = forms.setdefault(tuple(place) if union is None else union, {})
        found.setdefault(form, []).append((tuple(place), entry))
    nearest = [min(branches.values(), key=len) for branches in forms.values()]
    return [problem for branch in nearest for problem in branch]


_NOTHING = object()


def _child(node: Any, part: str | int) -> Any:
    """Return what stands under a key or at a position, or `_NOTHING`."""
    if isinstance(node, dict):
        return cast(dict[Any, Any], node).get(part, _NOTHING)
    items = cast(list[Any], node) if isinstance(node, list) else []
    return items[part] if isinstance(part, int) and part < len(items) else _NOTHING


def _absolute(tree: dict[str, Any], folder: Path) -> None:
    """Let ``source.path`` and brought weights start from the recipe's folder; a source's other paths start
    from that one."""
    section = tree.get("source")
    source = cast(dict[str, Any], section) if isinstance(section, dict) else {}
    if isinstance(source.get("path"), str):
        source["path"] = str(folder / Path(source["path"]).expanduser())
    gate = tree.get("gate")
    brought = cast(dict[str, Any], gate).get("extractors") if isinstance(gate, dict) else None
    for each in cast(list[Any], brought) if isinstance(brought, list) else []:
        entry = cast(dict[str, Any], each) if isinstance(each, dict) else {}
        if isinstance(entry.get("weights"), str):
            entry["weights"] = str(folder / Path(entry["weights"]).expanduser())


def _leave_settings_of_another_family(tree: dict[str, Any], overrides: Sequence[str]) -> None:
    """Take the file's ``model.settings`` away where another family is asked for: they are of its own."""
    model, given = (
        tree.get("model"),
        {key: text for key, _, text in (each.partition("=") for each in overrides)},
    )
    if "model.family" in given and isinstance(model, dict):
        section = cast(dict[str, Any], model)
        if given["model.family"].strip() != section.get("family", ModelSettings().family):
            section.pop("settings", None)


def _override(tree: dict[str, Any], override: str) -> marked_yaml.Path:
    """Put one ``KEY=VALUE`` into the tree and return its path."""
    key, equals, text = override.partition("=")
    path = tuple(key.strip().split("."))
    if not equals or not all(path):
        raise RecipeError(f"--set {override}: write KEY=VALUE, such as --set model.budget.images=200_000")
    value = _value(text, f"--set {key}")
    section: Any = tree
    for part in path[:-1]:
        if not isinstance(section.get(part), dict):
            if section.get(part) is not None:
                raise RecipeError(f"--set {key}: {part!r} is a value, not a section with keys")
            section[part] = {}
        section = section[part]
    section[path[-1]] = value
    if path in (("source",), ("source", "path"), ("gate",), ("gate", "extractors")):
        _absolute(tree, Path.cwd())
    return path


def _value(text: str, shown: str) -> Any:
    """Read the value of an override as YAML would; text that YAML reads as something else stays text."""
    try:
        marked = marked_yaml.read(text, shown)
    except RecipeError:
        if text[:1] in ("{", "["):
            raise RecipeError(f"{shown}: cannot be read as YAML") from None
        return text
    if marked.problems:
        raise RecipeError(f"{shown}: {marked.problems[0].message}")
    value: Any = marked.value
    if isinstance(value, dict | list) and text[:1] not in ("{", "["):
        return text
    return text if isinstance(value, str) and text[:1] not in "\"'" else cast(Any, value)


def _placed(
    marked: marked_yaml.Marked,
    changed: dict[marked_yaml.Path, str],
    shown: str,
    at: marked_yaml.Path,
    message: str,
) -> tuple[marked_yaml.Mark, str]:
    """Return where a problem stands and its line: at the key if the key is wrong, else at the value."""
    for length in range(len(at), 0, -1):
        if at[:length] in changed:
            rest = ".".join(map(str, at[length:]))
            return (0, 0), f"{changed[at[:length]]}: " + (f"{rest}: " if rest else "") + message
    marks = marked.keys if message.startswith("unknown key") else marked.values
    known = next((at[:length] for length in range(len(at), -1, -1) if at[:length] in marks), ())
    if known != at:  # a missing key: point at the section that lacks it
        marks = marked.keys
    mark = marks.get(known, (1, 1))
    return mark, marked_yaml.Problem(mark, at, message).line(shown)


def _message(tree: dict[str, Any], at: marked_yaml.Path, entry: Any) -> str:
    """Put pydantic's message into the words of this house."""
    kind, context = entry["type"], entry.get("ctx", {})
    if kind == "extra_forbidden":
        keys = _keys_at(tree, at[:-1])
        near = difflib.get_close_matches(str(at[-1]), keys, n=1)
        if near:
            return f"unknown key; did you mean {near[0]!r}?"
        return f"unknown key; known here are {', '.join(keys)}" if keys else "unknown key"
    if kind == "missing":
        return entry["msg"] if "is missing" in entry["msg"] else "is missing"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return "is a section with keys of its own, not a single value"
    if kind == "string_pattern_mismatch" and at == ("name",):
        return (
            "is made of lower-case letters, digits and dashes, at most 63, and starts with a letter or digit"
        )
    message = re.sub(r"^(Value error,|Input|String|List|Tuple|Dictionary) ", "", str(entry["msg"]))
    if isinstance(entry["input"], str | int | float) and "found" not in message and "reason" not in context:
        message += f" (found {entry['input']!r})"
    return message


def _keys_at(tree: dict[str, Any], at: marked_yaml.Path) -> list[str]:
    """Return the keys that the section at this path may have, in all of its forms."""
    models: list[type[BaseModel]] = [Recipe]
    for position, part in enumerate(at):
        if at[: position + 1] == ("source",):
            models = [catalogue.load(SOURCES, tree["source"]["format"]).Settings]
        elif at[: position + 1] == ("model", "settings"):
            models = [catalogue.load(FAMILIES, tree["model"].get("family", "r3gan")).Settings]
        else:
            fields = [model.model_fields.get(str(part)) for model in models]
            models = [inner for field in fields if field for inner in _sections(field.annotation)]
    names = [field.alias or name for model in models for name, field in model.model_fields.items()]
    return list(dict.fromkeys(names))


def _sections(annotation: Any) -> list[type[BaseModel]]:
    """Return the models inside an annotation such as ``Labels | None``."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated):
        return [model for inner in typing.get_args(annotation) for model in _sections(inner)]
    return [annotation] if isinstance(annotation, type) and issubclass(annotation, BaseModel) else []
