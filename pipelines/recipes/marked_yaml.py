"""YAML read strictly: plain values, and for each key the line and column where it stands."""

import re
from dataclasses import dataclass
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from phantomset.data.errors import RecipeError

Path = tuple[str | int, ...]
"""Where a value stands: keys and, in lists, zero-based positions."""

Mark = tuple[int, int]
"""Line and column, one-based."""

MAX_DEPTH = 20
"""A recipe nests five deep; more is a mistake or an attack on the reader's stack."""

_INT, _FLOAT, _BOOL = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float", "tag:yaml.org,2002:bool"
_NULL, _STRING = "tag:yaml.org,2002:null", "tag:yaml.org,2002:str"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong in a text: where, under which key, and what."""

    mark: Mark
    path: Path
    message: str

    def line(self, name: str) -> str:
        """Return ``name:line:column: dotted.key: message``."""
        key = ".".join(map(str, self.path))
        return f"{name}:{self.mark[0]}:{self.mark[1]}: " + (f"{key}: " if key else "") + self.message


@dataclass(frozen=True, slots=True)
class Marked:
    """A text as plain values, the marks of keys and of values, and what is wrong with it as YAML."""

    value: Any
    keys: dict[Path, Mark]
    values: dict[Path, Mark]
    problems: tuple[Problem, ...]


class _Loader(yaml.SafeLoader):
    """PyYAML's YAML 1.1, with floats such as 2e-4 seen as floats."""


_Loader.add_implicit_resolver(  # pyright: ignore[reportUnknownMemberType]
    _FLOAT, re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def read(text: str, name: str) -> Marked:
    """Return the values of a YAML document with the mark of each key.

    Refused, because YAML 1.1 reads them as something that nobody meant: a key set twice, integers with a
    leading zero (``010`` is 8), numbers with a colon (``1:30`` is 90), ``yes``/``no``/``on``/``off`` as
    truth, and anchors and merge keys.

    Raises:
        RecipeError: the text is no YAML at all; ``name:line:column`` and the parser's reason.
    """
    try:
        _refuse_the_unusual(text, name)
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{mark.line + 1}:{mark.column + 1}" if mark else "1:1"
        raise RecipeError(f"{name}:{where}: not YAML: {error.problem or error.context}") from None
    except yaml.YAMLError:
        raise RecipeError(f"{name}:1:1: not YAML: it holds characters that no text has") from None
    reader = _Reader()
    value = reader.value(node, ()) if node is not None else None
    return Marked(value, reader.keys, reader.values, tuple(reader.problems))


def _refuse_the_unusual(text: str, name: str) -> None:
    """Stop at aliases (a small text may unfold to gigabytes) and at nesting that would exhaust the stack."""
    depth = documents = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        documents += isinstance(event, yaml.DocumentStartEvent)
        message = ""
        if isinstance(event, yaml.AliasEvent):
            message = "anchors and aliases are not used in recipes"
        elif documents > 1:
            message = "a recipe is one YAML document"
        elif depth > MAX_DEPTH:
            message = f"nested deeper than {MAX_DEPTH} levels"
        if message:
            mark = _mark(event)
            raise RecipeError(Problem(mark, (), message).line(name))


class _Reader:
    """Turns nodes into values and keeps the marks."""

    def __init__(self) -> None:
        self.keys: dict[Path, Mark] = {}
        self.values: dict[Path, Mark] = {}
        self.problems: list[Problem] = []

    def value(self, node: Node, path: Path) -> Any:
        self.values[path] = _mark(node)
        if isinstance(node, MappingNode):
            return self._mapping(node, path)
        if isinstance(node, SequenceNode):
            return [self.value(item, (*path, position)) for position, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: MappingNode, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                self.problems.append(
                    Problem(_mark(key_node), path, "a key must be a word, not a list or section")
                )
                continue
            key = str(key_node.value)
            if key_node.tag.endswith(":merge"):
                self.problems.append(Problem(_mark(key_node), path, "merge keys are not used in recipes"))
            elif key in found:
                first = self.keys[(*path, key)][0]
                self.problems.append(
                    Problem(
                        _mark(key_node), (*path, key), f"key is set twice (first on line {first}); keep one"
                    )
                )
            else:
                self.keys[(*path, key)] = _mark(key_node)
                found[key] = self.value(value_node, (*path, key))
        return found

    def _scalar(self, node: Node, path: Path) -> Any:
        text = str(node.value)
        if not isinstance(node, ScalarNode) or node.tag not in (_INT, _FLOAT, _BOOL, _NULL, _STRING):
            return text  # dates and the like stay what was written
        message = _ambiguous(node.tag, text)
        if message:
            self.problems.append(Problem(_mark(node), path, message))
            return None
        if node.tag == _INT:
            return int(text.replace("_", ""), 0)
        if node.tag == _FLOAT:
            plain = text.replace("_", "").lower()
            return float(plain.replace(".inf", "inf").replace(".nan", "nan"))
        if node.tag == _BOOL:
            return text.lower() == "true"
        return None if node.tag == _NULL else text


def _ambiguous(tag: str, text: str) -> str | None:
    """Say why a number or a truth value is not what it seems, or None."""
    if tag in (_INT, _FLOAT) and ":" in text:
        return f"{text} would be read in base 60; write a plain number, or quote it"
    if tag == _INT and re.fullmatch(r"[-+]?0[0-9_]+", text):
        return f"{text} would be read as octal; write it without the leading 0, or quote it"
    if tag == _BOOL and text.lower() not in ("true", "false"):
        return f"{text} would be read as true or false; write true or false, or quote it"
    return None


def _mark(found: Node | yaml.Event) -> Mark:
    mark = found.start_mark
    return (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
