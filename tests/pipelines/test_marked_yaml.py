"""YAML is read strictly, and each key has its mark."""

import pytest

from phantomset.data.errors import RecipeError
from phantomset.pipelines.recipes import marked_yaml


def test_values_and_marks() -> None:
    """Values are plain Python; keys and values carry one-based line and column."""
    marked = marked_yaml.read("a: 1\nb:\n  c: [x, 2.5]\n", "r.yaml")
    assert marked.value == {"a": 1, "b": {"c": ["x", 2.5]}}
    assert marked.keys[("b", "c")] == (3, 3)
    assert marked.values[("b", "c", 1)] == (3, 10)
    assert marked.problems == ()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("400_000", 400_000),
        ("0x1F", 31),
        ("-3", -3),
        ("2e-4", 0.0002),
        ("1_0.5", 10.5),
        ("true", True),
        ("False", False),
        ("~", None),
        ("2024-01-01", "2024-01-01"),
        ("'010'", "010"),
        ("'yes'", "yes"),
    ],
)
def test_scalars_mean_what_they_seem(text: str, value: object) -> None:
    """Numbers may have underscores and exponents; dates and quoted text stay text."""
    found = marked_yaml.read(f"a: {text}", "r.yaml").value["a"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("010", "octal"),
        ("1:30", "base 60"),
        ("1:30.5", "base 60"),
        ("yes", "true or false"),
        ("Off", "true or"),
    ],
)
def test_what_yaml_misreads_is_refused(text: str, word: str) -> None:
    """YAML 1.1 reads 010 as 8, 1:30 as 90 and yes as true: each is an error with its place."""
    (problem,) = marked_yaml.read(f"x: 0\na: {text}", "r.yaml").problems
    assert problem.line("r.yaml").startswith("r.yaml:2:4: a: ")
    assert word in problem.message


def test_a_key_twice_is_named_with_its_first_line() -> None:
    """PyYAML keeps the last of two equal keys; here both places are told."""
    (problem,) = marked_yaml.read("a: 1\nb: 2\na: 3\n", "r.yaml").problems
    assert problem.line("r.yaml") == "r.yaml:3:1: a: key is set twice (first on line 1); keep one"


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("a: [1", "1:"),
        ("a: b: c", "1:5: "),
        ("\tb: 1", "1:1: "),
        ("a: \x00", "1:1: "),
        ("a: &x 1\nb: *x", "2:4: "),
        ("---\na: 1\n---\nb: 2", "3:1: "),
        ("[" * 30, "1:21: "),
    ],
)
def test_what_is_no_recipe_text_stops_at_once(text: str, where: str) -> None:
    """Broken YAML, aliases, several documents and deep nesting raise one error with line and column."""
    with pytest.raises(RecipeError, match=f"^r.yaml:{where}"):
        marked_yaml.read(text, "r.yaml")
