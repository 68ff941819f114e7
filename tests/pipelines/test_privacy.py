"""Differential privacy and brought weights, from the recipe to the release."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file
from torchvision import models

from phantomset.data.errors import ModelError, RecipeError
from phantomset.data.keys import VARIABLE
from phantomset.pipelines import stages
from phantomset.pipelines.recipe import Recipe
from phantomset.pipelines.stages import Job

PRIVATE = {"budget": {"images": 400}, "batch_size": 40, "family": "vanilla", "privacy": {"epsilon": 8.0}}
EVENLY = {"count": 30, "classes": "uniform"}


def test_the_promise_goes_from_the_recipe_to_the_release(
    job: Callable[..., Job], small: Callable[..., Recipe], judges: Any
) -> None:
    """Epsilon as it was spent, rounded up, stands in the public verdict and on the card of the release.

    Digits have no patients, so the promise is for images. Nobody is held out to watch the critic.
    """
    outcome = stages.run(job(small(model=PRIVATE, generate=EVENLY)))
    assert outcome.released is not None
    told = json.loads((outcome.released / "verdict.json").read_text())["differential_privacy"]
    assert told["unit"] == "image"
    assert told["delta"] == 1e-5
    assert 7.8 < told["epsilon"] <= 8.0
    card = (outcome.released / "README.md").read_text()
    assert f"epsilon {told['epsilon']:g} and delta 1e-05: whether any one image was in the training" in card
    assert outcome.judgement is not None
    assert len(judges.evidence.train) == len(outcome.judgement.draft.origin.patients["train"])


def test_without_privacy_nothing_is_promised(job: Callable[..., Job], judges: Any) -> None:
    """The public verdict says that there is none."""
    outcome = stages.run(job())
    assert outcome.released is not None
    assert json.loads((outcome.released / "verdict.json").read_text())["differential_privacy"] is None


def test_equal_runs_are_equal_and_another_key_is_another_set(
    job: Callable[..., Job], small: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The same recipe under the same key gives the same set in any workspace; another key another."""
    recipe = small(model=PRIVATE, generate=EVENLY)
    sets = [stages.run(job(recipe, place), "generate").synthetic for place in ("one", "two")]
    monkeypatch.setenv(VARIABLE, str(tmp_path / "other" / "key"))
    sets.append(stages.run(job(recipe, "three"), "generate").synthetic)
    digests = [made.digest for made in sets if made is not None]
    assert digests[0] == digests[1] != digests[2]


def test_a_delta_that_gives_a_person_away_is_refused_before_training(
    job: Callable[..., Job], small: Callable[..., Recipe]
) -> None:
    """Exit 2 once the number of patients is known, with the largest delta that means something."""
    model = PRIVATE | {"privacy": {"epsilon": 8.0, "delta": 0.01}}
    work = job(small(model=model, generate=EVENLY))
    with pytest.raises(ModelError, match=r"model\.privacy\.delta: 0\.01 with .* training patients") as caught:
        stages.run(work)
    assert caught.value.exit_code == 2
    assert not list(work.workspace.restricted("checkpoints").iterdir())


@pytest.fixture
def weights(tmp_path: Path) -> dict[str, Any]:
    """The section of an extractor whose weights lie on this disk."""
    save_file(models.get_model("shufflenet_v2_x0_5", weights=None).state_dict(), tmp_path / "w.safetensors")
    digest = hashlib.sha256((tmp_path / "w.safetensors").read_bytes()).hexdigest()
    path = str(tmp_path / "w.safetensors")
    return {
        "name": "mine",
        "architecture": "torchvision/shufflenet_v2_x0_5",
        "weights": path,
        "sha256": digest,
    }


def test_brought_weights_reach_the_judges(
    job: Callable[..., Job], small: Callable[..., Recipe], judges: Any, weights: dict[str, Any]
) -> None:
    """By name, architecture and digest; where the file lies changes no digest and is shown to nobody."""
    recipe = small(gate={"extractors": [weights]})
    outcome = stages.run(job(recipe))
    (brought,) = judges.options["brought"]
    assert brought.identity[:3] == ("mine", weights["architecture"], weights["sha256"])
    moved = small(gate={"extractors": [weights | {"weights": "/elsewhere/w.safetensors"}]})
    assert moved.digest == recipe.digest != small().digest
    assert outcome.released is not None
    told = "".join(
        path.read_text() for path in outcome.released.rglob("*") if path.suffix in {".md", ".json"}
    )
    assert weights["weights"] not in told
    assert weights["weights"] not in str(recipe.public())


def test_weights_that_are_not_there_end_the_run_before_training(
    job: Callable[..., Job], small: Callable[..., Recipe], weights: dict[str, Any]
) -> None:
    """A missing file and a wrong digest: exit 2, and nothing was trained."""
    for change in ({"weights": "/no/such/file.safetensors"}, {"sha256": "0" * 64}):
        work = job(small(gate={"extractors": [weights | change]}))
        with pytest.raises(RecipeError, match=r"gate\.extractors: mine: ") as caught:
            stages.run(work)
        assert caught.value.exit_code == 2
        assert not list(work.workspace.restricted("checkpoints").iterdir())
