"""The recipe as a value: digests, what may be shown of it, its schema."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from phantomset.pipelines.recipe import Recipe

PLAIN = {
    "name": "small",
    "source": {
        "format": "dicom",
        "path": "/hospital/ward-7",
        "labels": {"table": "labels-of-smith.csv", "key": "file", "column": "finding"},
    },
    "image": {"size_px": 28},
}


def recipe(**changes: object) -> Recipe:
    return Recipe.model_validate({**PLAIN, **changes})


def test_every_default_is_filled_in() -> None:
    """The plain form names every key, and reads back as an equal recipe."""
    plain = recipe().plain()
    assert plain["model"]["family"] == "r3gan"
    assert plain["model"]["budget"]["images"] == 400_000
    assert plain["model"]["settings"]["latent"] == 64
    assert Recipe.model_validate(plain) == recipe()


def test_where_the_source_lies_is_not_in_the_digest() -> None:
    """The same recipe on another machine has the same digest; any other change is another digest."""
    elsewhere = recipe(source={**PLAIN["source"], "path": "/data/x"})
    assert elsewhere.digest == recipe().digest
    assert recipe(seed=1).digest != recipe().digest
    assert recipe(gate={"privacy": "strict"}).digest != recipe().digest


def test_no_path_is_shown() -> None:
    """What may be shown, and what an orchestrator is given, holds no path and no file name of the source."""
    for shown in (str(recipe().public()), str(recipe().without_paths().plain())):
        assert "ward-7" not in shown
        assert "smith" not in shown
    assert recipe().without_paths().source.model_dump()["path"] == Path("kept-back")


def test_a_recipe_is_frozen() -> None:
    """Nothing relaxes a rule after the recipe was read."""
    with pytest.raises(ValidationError):
        recipe().gate.privacy = "standard"


def test_the_schema_knows_every_source_and_family() -> None:
    """An editor, or a run form, sees the keys of each format and accepts what the reader accepts."""
    schema = Recipe.model_json_schema()
    text = str(schema)
    assert "finding" not in text
    for key in ("labels", "gamma_start", "licence"):
        assert f"'{key}'" in text
    assert schema["additionalProperties"] is False
