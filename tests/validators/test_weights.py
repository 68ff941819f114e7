"""Extractors from weights that somebody brings: what they compute, what is refused, how they take part."""

import hashlib
import pickle
from collections.abc import Callable
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


def dinov2() -> dict[str, torch.Tensor]:
    """Return seeded tensors by Hugging Face's names: 2 blocks of 2 heads, patches of 14, images of 28 px."""
    rng = np.random.default_rng(0)

    def some(*shape: int, around: float = 0) -> torch.Tensor:
        return torch.from_numpy((around + 0.1 * rng.standard_normal(shape)).astype(np.float32))

    state = {
        "embeddings.cls_token": some(1, 1, 128),
        "embeddings.mask_token": some(1, 128),
        "embeddings.position_embeddings": some(1, 5, 128),
        "embeddings.patch_embeddings.projection.weight": some(128, 3, 14, 14),
        "embeddings.patch_embeddings.projection.bias": some(128),
    }
    for block in ("encoder.layer.0.", "encoder.layer.1."):
        state |= {f"{block}norm1.weight": some(128, around=1), f"{block}norm1.bias": some(128)}
        for name in ("attention.query", "attention.key", "attention.value", "output.dense"):
            state[f"{block}attention.{name}.weight"] = some(128, 128)
            state[f"{block}attention.{name}.bias"] = some(128)
        state[f"{block}layer_scale1.lambda1"] = some(128, around=0.5)
        state |= {f"{block}norm2.weight": some(128, around=1), f"{block}norm2.bias": some(128)}
        state |= {f"{block}mlp.fc1.weight": some(256, 128), f"{block}mlp.fc1.bias": some(256)}
        state |= {f"{block}mlp.fc2.weight": some(128, 256), f"{block}mlp.fc2.bias": some(128)}
        state[f"{block}layer_scale2.lambda1"] = some(128, around=0.5)
    return state | {"layernorm.weight": some(128, around=1), "layernorm.bias": some(128)}


def as_facebook_names_it(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors by facebookresearch's names; queries, keys and values are one there."""
    blocks = {}
    for i in range(2):
        there, here = f"encoder.layer.{i}.", f"blocks.{i}."
        for part in ("weight", "bias"):
            own = [state[f"{there}attention.attention.{name}.{part}"] for name in ("query", "key", "value")]
            blocks[f"{here}attn.qkv.{part}"] = torch.cat(own)
            blocks[f"{here}attn.proj.{part}"] = state[f"{there}attention.output.dense.{part}"]
            for name in ("norm1", "norm2", "mlp.fc1", "mlp.fc2"):
                blocks[f"{here}{name}.{part}"] = state[f"{there}{name}.{part}"]
        for number in (1, 2):
            blocks[f"{here}ls{number}.gamma"] = state[f"{there}layer_scale{number}.lambda1"]
    return blocks | {
        "cls_token": state["embeddings.cls_token"],
        "mask_token": state["embeddings.mask_token"],
        "pos_embed": state["embeddings.position_embeddings"],
        "patch_embed.proj.weight": state["embeddings.patch_embeddings.projection.weight"],
        "patch_embed.proj.bias": state["embeddings.patch_embeddings.projection.bias"],
        "norm.weight": state["layernorm.weight"],
        "norm.bias": state["layernorm.bias"],
    }


@pytest.mark.parametrize("renamed", [dict, as_facebook_names_it])
@pytest.mark.parametrize(
    ("side", "wanted"),
    [
        (28, [[0.595627, -0.705538, 1.042195, -0.681015], [-1.804141, -0.11123, 1.660625, 0.201409]]),
        (42, [[-0.668207, -0.085226, -0.049559, 0.174127], [-0.605397, 0.226477, -0.389282, -0.553098]]),
    ],
)
def test_dinov2_is_that_of_transformers(
    side: int, wanted: list[list[float]], renamed: Callable[[dict], dict], tmp_path: Path
) -> None:
    """The class token of two seeded images at 28 px, and at 42 px by interpolated positions.

    The numbers are those of transformers 5.24, with these tensors in ``model.safetensors``::

        config = Dinov2Config(hidden_size=128, num_attention_heads=2, num_hidden_layers=2, mlp_ratio=2,
                              image_size=28, patch_size=14)  # saved beside it
        model = Dinov2Model.from_pretrained(folder).eval()
        images = np.random.default_rng(side).integers(0, 256, (2, 3, side, side), dtype=np.uint8)
        x = (torch.from_numpy(images).float() / 255 - 0.5) / 0.25
        print(model(x).pooler_output[:, ::32])
    """
    save_file(renamed(dinov2()), tmp_path / "w.safetensors")
    made = brought(
        tmp_path / "w.safetensors", architecture="dinov2/vit", size_px=side, mean=(0.5,), deviation=(0.25,)
    )
    images = np.random.default_rng(side).integers(0, 256, (2, 3, side, side), dtype=np.uint8)
    found = load(made)(images)
    assert found.shape == (2, 128)
    np.testing.assert_allclose(found[:, ::32], wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embeddings.register_tokens": torch.zeros(1, 4, 128)}, "1 tensors are too many.*without registers"),
        ({"layernorm.bias": None}, "a DINOv2 has a tensor 'norm.bias', and the file has none"),
        ({"encoder.layer.0.norm1.weight": None}, "too many for a DINOv2 of 0 blocks"),
        ({"layernorm.weight": torch.zeros(64)}, "shapes of the file do not fit"),
        ({"encoder.layer.1.layer_scale1.lambda1": torch.zeros(64)}, "must match the size"),
        ({"layernorm.weight": torch.full((128,), torch.nan)}, "no finite numbers, so the file is damaged"),
    ],
)
def test_what_is_no_dinov2_is_refused(
    change: dict[str, torch.Tensor | None], message: str, tmp_path: Path
) -> None:
    """Registers, gates, tensors that are missing, unfit or not finite: one sentence each, before training."""
    state = {name: value for name, value in (dinov2() | change).items() if value is not None}
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(RecipeError, match=message):
        load(brought(tmp_path / "w.safetensors", architecture="dinov2/vit", size_px=28))


def test_a_size_that_an_architecture_does_not_take_is_refused(tmp_path: Path) -> None:
    """Images whose side is no multiple of DINOv2's patches, or too small for Inception's layers."""
    save_file(dinov2(), tmp_path / "d.safetensors")
    with pytest.raises(RecipeError, match="size_px is 32; a multiple of its patches' 14 px"):
        load(brought(tmp_path / "d.safetensors", architecture="dinov2/vit"))
    save_file(inception(), tmp_path / "i.safetensors")
    with pytest.raises(RecipeError, match="takes no images of 32 px"):
        load(brought(tmp_path / "i.safetensors", architecture="torchvision/inception_v3"))


def inception() -> dict[str, torch.Tensor]:
    """Return an Inception v3 that learned nothing, without its side classifier."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = models.get_model("inception_v3", weights=None, init_weights=False, aux_logits=False)
    return network.state_dict()


def test_an_inception_that_does_not_qualify_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random weights load once their digest is right, are examined as all others, and do not decide.

    Its figures are INCONCLUSIVE with what it missed; those of the suite's own spaces stay.
    """
    monkeypatch.setattr("phantomset.validators.classifier.STEPS", 5)
    save_file(inception(), tmp_path / "w.safetensors")
    named = brought(tmp_path / "w.safetensors", architecture="torchvision/inception_v3", size_px=75)
    with pytest.raises(RecipeError, match="the recipe names 0000"):
        load(replace(named, sha256="0" * 64))
    context = Context(make_evidence(45, 45, 20, 45), Rules(), 0, brought=[named])
    mine = context.extractors["mine"]
    assert mine.exam.missed
    findings = audit.examine(context, ("fidelity",))
    (standing,) = (f for f in findings if (f.check, f.group) == ("extractors", "mine"))
    assert standing.status == "NOT_EVALUATED"
    assert standing.details["extractor"] == mine.digest
    judged = {f.group: f for f in findings if f.metric == "coverage of the holdout"}
    assert judged["mine"].status == "INCONCLUSIVE"
    assert mine.exam.missed[0] in judged["mine"].advice


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
    asked = {"blur", "noise", "contrast", "chequerboard", "few distinct images"}
    assert set(mine.exam.frechet or {}) == set(mine.exam.kernel or {}) == asked
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
