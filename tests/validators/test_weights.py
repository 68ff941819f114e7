"""Extractors from weights that somebody brings: what they compute, what is refused, how they take part."""

import hashlib
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save, save_file
from torch import nn
from torchvision import models

from phantomset.data.errors import RecipeError
from phantomset.validators import audit
from phantomset.validators.checks.coverage import CHECK as COVERAGE
from phantomset.validators.context import Context
from phantomset.validators.finding import Rules
from phantomset.validators.weights import Weights, load

from .conftest import make_evidence

SMALL = "torchvision/shufflenet_v2_x0_5"


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return models.get_model("shufflenet_v2_x0_5", weights=None, num_classes=7).eval()


def brought(path: Path, **changes: object) -> Weights:
    digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "0" * 64
    return replace(Weights("mine", SMALL, path, digest, size_px=32), **changes)  # type: ignore[arg-type]


@pytest.fixture
def file(network: nn.Module, tmp_path: Path) -> Path:
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors"


def test_features_are_what_the_last_linear_layer_is_given(network: nn.Module, file: Path) -> None:
    """Equal to the network with the identity in that layer's place, on normalised, enlarged grey images."""
    images = np.random.default_rng(0).integers(0, 256, (40, 1, 16, 16), dtype=np.uint8)
    headless = models.get_model("shufflenet_v2_x0_5", weights=None, num_classes=7).eval()
    headless.load_state_dict(network.state_dict())
    headless.fc = nn.Identity()
    x = torch.from_numpy(images).float().expand(-1, 3, -1, -1) / 255
    x = nn.functional.interpolate(x, (32, 32), mode="bilinear", antialias=True)
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        wanted = headless((x - mean.view(3, 1, 1)) / deviation.view(3, 1, 1)).double().numpy()
    np.testing.assert_allclose(load(brought(file))(images), wanted, atol=1e-5)


def test_the_head_may_be_missing(network: nn.Module, file: Path, tmp_path: Path) -> None:
    """Weights without the classifier give the same features."""
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)
    wanted = load(brought(file))(images)
    body = {name: value for name, value in network.state_dict().items() if not name.startswith("fc.")}
    save_file(body, tmp_path / "a.safetensors")
    np.testing.assert_array_equal(load(brought(tmp_path / "a.safetensors"))(images), wanted)


def test_architectures_of_monai(tmp_path: Path) -> None:
    """A residual network for one channel: grey images go in as they are, RGB as their mean."""
    from monai.networks.nets.resnet import resnet10

    path = tmp_path / "w.safetensors"
    save_file(resnet10(spatial_dims=2, n_input_channels=1, num_classes=2).state_dict(), path)
    made = brought(path, architecture="monai/resnet10", mean=(0.5,), deviation=(0.25,))
    images = np.random.default_rng(0).integers(0, 256, (3, 1, 16, 16), dtype=np.uint8)
    found = load(made)(images)
    assert found.shape == (3, 512)
    np.testing.assert_allclose(load(made)(images.repeat(3, axis=1)), found, atol=1e-6)


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (Path.touch, (self.path,))


def test_nothing_in_a_file_is_run(tmp_path: Path) -> None:
    """A pickle is refused whatever it would do, by any name, and the message says how to convert it."""
    torch.save({"state_dict": Trap(tmp_path / "ran")}, tmp_path / "a.pt")
    (tmp_path / "b.safetensors").write_bytes(pickle.dumps(Trap(tmp_path / "ran")))
    torch.save({"conv1.0.weight": torch.zeros(1)}, tmp_path / "harmless.pth")
    for name in ("a.pt", "b.safetensors", "harmless.pth"):
        with pytest.raises(
            RecipeError, match=r"gate\.extractors: mine: the file.*safetensors\.torch\.save_file"
        ):
            load(brought(tmp_path / name))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "changes", "message"),
    [
        (None, {}, "is no file"),
        (b"1", {"sha256": "1" * 64}, "SHA-256 is 6b86b273.* the recipe names 1111"),
        (b"no weights", {}, "cannot be read as safetensors"),
        (save({"a": torch.zeros(1)}), {}, "are missing and 1 are too many"),
        (save({"conv1.0.weight": torch.zeros(1, 3, 3, 3)}), {}, "shapes of the file do not fit"),
        (
            save({"a": torch.zeros(1)}),
            {"architecture": "torchvision/resnet17"},
            "'torchvision/resnet17' is not",
        ),
        (save({"a": torch.zeros(1)}), {"architecture": "timm/vit"}, "'timm/vit' is not known"),
        (
            save({"a": torch.zeros(1)}),
            {"architecture": "monai/DenseNetX"},
            "'monai/DenseNetX' is not known",
        ),
        (save({"a": torch.zeros(1)}), {"architecture": "torchvision/squeezenet1_1"}, "no linear layer"),
    ],
)
def test_what_does_not_fit_is_refused(
    content: bytes | None, changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    """A missing file, another digest, other content, an unknown or unfit architecture: one sentence each."""
    path = tmp_path / "w.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RecipeError, match=message):
        load(brought(path, **changes))


def test_channels_that_do_not_fit(file: Path) -> None:
    """Two means for three channels are refused."""
    with pytest.raises(RecipeError, match="takes 3 channels; mean and deviation need 1 or 3"):
        load(brought(file, mean=(0.5, 0.5)))


def test_it_takes_part_once_qualified(file: Path) -> None:
    """It stands beside the suite's own with its own qualification, at 48 dimensions, and is judged by it.

    The suite's own figures stay as they were.
    """
    case = make_evidence(60, 60, 60, 60)
    context, plain = Context(case, Rules(), 0, brought=[brought(file)]), Context(case, Rules(), 0)
    assert list(context.extractors) == ["classifier", "texture", "mine"]
    mine = context.extractors["mine"]
    assert set(mine.seen or {}) == {"blur", "noise", "contrast", "chequerboard", "few distinct images"}
    assert context.features("mine", "holdout").shape == (len(case.holdout), 48)
    np.testing.assert_array_equal(
        context.features("texture", "holdout"), plain.features("texture", "holdout")
    )
    judged = {f.group: f for f in COVERAGE.run(context) if f.metric == "coverage of the holdout"}
    assert set(judged) == {"classifier", "texture", "mine"}
    assert (judged["mine"].status == "INCONCLUSIVE") == (not mine.qualified)
    assert judged["texture"] == next(f for f in COVERAGE.run(plain) if f.group == "texture")


def test_weights_that_changed_on_the_way_pass_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is read again when it is used: another one makes fidelity inconclusive."""
    monkeypatch.setattr("phantomset.validators.classifier.STEPS", 5)
    case, named = make_evidence(60, 60, 60, 60), brought(file)
    file.write_bytes(b"another")
    found = audit.examine(Context(case, Rules(), 0, brought=[named]), ("fidelity",))
    assert {(f.check, f.status) for f in found} >= {("coverage", "INCONCLUSIVE")}
    empty = replace(case, synthetic=case.synthetic.take(np.arange(0)))
    assert audit.judge(empty, Rules(), 0, brought=[named]).digest != audit.judge(empty, Rules(), 0).digest
