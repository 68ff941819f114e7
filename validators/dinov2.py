"""Weights of DINOv2 by torchvision's names: its vision transformer then computes the same class token.

DINOv2 scales what attention and the linear layers of a block give by learned factors, which torchvision's
blocks do not have. A scale is linear, so it goes into the layer before it. The file may have the names of
Hugging Face (``Dinov2Model``; RAD-DINO as well) or of facebookresearch.

Source: Oquab et al. 2024 (DINOv2); Pérez-García et al. 2025 (RAD-DINO).
"""

import math

import torch
from torch import Tensor, nn

NAME = "dinov2/vit"
HEAD_WIDTH = 64
"""Of every published DINOv2: a file does not say how many heads there are."""

HUGGING_FACE = (
    ("embeddings.cls_token", "cls_token"),
    ("embeddings.mask_token", "mask_token"),
    ("embeddings.position_embeddings", "pos_embed"),
    ("embeddings.patch_embeddings.projection", "patch_embed.proj"),
    ("encoder.layer.", "blocks."),
    (".attention.output.dense", ".attn.proj"),
    (".attention.attention.", ".attn."),
    ("layer_scale1.lambda1", "ls1.gamma"),
    ("layer_scale2.lambda1", "ls2.gamma"),
    ("layernorm.", "norm."),
)
"""Its names, and facebookresearch's."""


def translated(state: dict[str, Tensor], size_px: int) -> dict[str, Tensor]:
    """Return a file's tensors by the names of `torchvision.models.VisionTransformer`, without a head.

    Args:
        state: what the file holds.
        size_px: side of the images; positions that were learned for another one are interpolated, bicubic as
            Hugging Face does it.

    Raises:
        ValueError: tensors are missing or too many (registers, gated linear layers), or the side is no
            multiple of a patch's.
    """
    rest = _by_first_names(state)
    rest.pop("mask_token", None)  # of training alone
    try:
        patch = rest["patch_embed.proj.weight"].shape[-1]
        if size_px % patch:
            raise ValueError(f"size_px is {size_px}; a multiple of its patches' {patch} px is needed")
        made = {
            "class_token": rest.pop("cls_token"),
            "encoder.pos_embedding": _positions(rest.pop("pos_embed"), size_px // patch),
        }
        for name, there in (("conv_proj", "patch_embed.proj"), ("encoder.ln", "norm")):
            made |= {f"{name}.{part}": rest.pop(f"{there}.{part}") for part in ("weight", "bias")}
        depth = 0
        while f"blocks.{depth}.norm1.weight" in rest:
            made |= _block(rest, f"blocks.{depth}.", f"encoder.layers.encoder_layer_{depth}.")
            depth += 1
    except KeyError as error:
        raise ValueError(f"a DINOv2 has a tensor {error}, and the file has none") from None
    if rest or not depth:
        raise ValueError(
            f"{len(rest)} tensors are too many for a DINOv2 of {depth} blocks without registers and gates"
        )
    return made


def build(state: dict[str, Tensor], size_px: int) -> nn.Module:
    """Return the network that translated tensors fit, its weights not yet theirs."""
    from torchvision.models import VisionTransformer

    width, _, patch, _ = state["conv_proj.weight"].shape
    return VisionTransformer(
        image_size=size_px,
        patch_size=patch,
        num_layers=sum(name.endswith(".ln_1.weight") for name in state),
        num_heads=max(1, width // HEAD_WIDTH),
        hidden_dim=width,
        mlp_dim=next(len(value) for name, value in state.items() if name.endswith(".mlp.0.weight")),
        num_classes=1,
    )


def _by_first_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors by facebookresearch's names; queries, keys and values in one."""
    found = {}
    for name, value in state.items():
        name = name.removeprefix("dinov2.")  # of a model around it
        for theirs, first in HUGGING_FACE:
            name = name.replace(theirs, first)
        found[name] = value.float()
    for name in [name for name in found if ".attn.query." in name]:
        parts = (found.pop(name.replace("query", part)) for part in ("query", "key", "value"))
        found[name.replace("query", "qkv")] = torch.cat(list(parts))
    return found


def _block(rest: dict[str, Tensor], there: str, here: str) -> dict[str, Tensor]:
    """Take a block's tensors out of ``rest``; return them by torchvision's names, scales multiplied in."""
    names = {"norm1": "ln_1", "attn.proj": "self_attention.out_proj", "norm2": "ln_2"}
    names |= {"mlp.fc1": "mlp.0", "mlp.fc2": "mlp.3"}
    made = {
        f"{here}{name}.{part}": rest.pop(f"{there}{old}.{part}")
        for old, name in names.items()
        for part in ("weight", "bias")
    }
    for part in ("weight", "bias"):
        made[f"{here}self_attention.in_proj_{part}"] = rest.pop(f"{there}attn.qkv.{part}")
    for scale, name in (("ls1", "self_attention.out_proj"), ("ls2", "mlp.3")):
        gamma = rest.pop(f"{there}{scale}.gamma")
        made[f"{here}{name}.weight"] = gamma[:, None] * made[f"{here}{name}.weight"]
        made[f"{here}{name}.bias"] = gamma * made[f"{here}{name}.bias"]
    return made


def _positions(learned: Tensor, side: int) -> Tensor:
    """Return the embeddings ``(1, 1 + side², D)`` of the class token and of a square of patches."""
    first, rest = learned[:, :1], learned[:, 1:]
    was = math.isqrt(rest.shape[1])
    if was == side:
        return learned
    square = rest.float().reshape(1, was, was, -1).permute(0, 3, 1, 2)
    square = nn.functional.interpolate(square, size=(side, side), mode="bicubic", align_corners=False)
    return torch.cat([first, square.permute(0, 2, 3, 1).reshape(1, side * side, -1).to(first.dtype)], 1)
