"""The snippets that load a release are run: those of the how-to page, and those of each publisher."""

import gc
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from phantomset.data import catalogue
from phantomset.data.workspace import Workspace
from phantomset.pipelines.releases import release

from .drafts import draft, images

PUBLISHERS = "phantomset.pipelines.publishers"
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "use-a-release.md"
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)

pytestmark = [
    pytest.mark.filterwarnings("ignore:NvImgCodec:UserWarning"),  # MONAI tries a decoder for CUDA
    pytest.mark.filterwarnings("ignore:ConjunctiveGraph"),  # rdflib, inside mlcroissant
    pytest.mark.filterwarnings("ignore:The inplace keyword"),  # pandas, inside mlcroissant
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release in every form."""
    recipe = draft().recipe
    formats = list(catalogue.names(PUBLISHERS))
    recipe = {**recipe, "publish": {**recipe["publish"], "formats": formats}}
    workspace = Workspace.open(tmp_path_factory.mktemp("workspace"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHANTOMSET_KEY_FILE", str(tmp_path_factory.mktemp("config") / "key"))
        return release.publish(workspace, draft(synthetic=images(12, 1), recipe=recipe)).path


@pytest.fixture
def inside(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Stand in the release's folder; readers that leave files open are forgiven."""
    import datasets

    monkeypatch.chdir(folder)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    datasets.disable_progress_bars()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        names: dict[str, Any] = {}
        yield names
        names.clear()
        gc.collect()


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda text: re.findall(r"(?:from|import) (\w+)", text)[0])
def test_the_page_loads_the_release(snippet: str, inside: dict[str, Any]) -> None:
    """Each snippet of "Load it in a minute" runs as it is printed, and finds the twelve images."""
    exec(snippet, inside)  # noqa: S102 - text of our own page
    found = inside.get("records") or inside.get("images")
    if found is None:
        found = inside["table"]
    if "pixels" in inside:
        assert inside["pixels"].shape == (16, 16)
    assert sum(1 for _ in found) == 12 if "table" not in inside else len(inside["table"]) == 12


@pytest.mark.parametrize("name", catalogue.names(PUBLISHERS))
def test_the_card_loads_the_release(name: str, inside: dict[str, Any]) -> None:
    """Each publisher's lines for the dataset card run in the release's folder."""
    loading = catalogue.load(PUBLISHERS, name).loading.replace("NAME", "chest-demo")
    exec(loading, inside)  # noqa: S102 - text of our own publisher
    assert loading in (Path("README.md").read_text())
