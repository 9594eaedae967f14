"""Makes a model directory of a checkpoint of the authors' code, a `.pth`."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import torch
from torch import Tensor

from streamer.errors import ModelError
from streamer.model import checkpoint, manifest
from streamer.model.ast import AST
from streamer.model.config import ASTConfig, FbankConfig
from streamer.model.labels import AUDIOSET, ESC50, SPEECH_COMMANDS

HEAD_WIDTH = 64
"""of every DeiT that the authors start from"""
MEL_BINS = 128

# What the authors trained for, by the number of labels: labels, frames, mean and deviation of the features
# (https://github.com/YuanGongND/ast, egs/*/run.sh).
_RECIPES = {
    len(AUDIOSET): (AUDIOSET, 1024, -4.2677393, 4.5689974),
    len(ESC50): (ESC50, 512, -6.6268077, 5.358466),
    len(SPEECH_COMMANDS): (SPEECH_COMMANDS, 128, -6.845978, 5.5654526),
}
_STRIDES = (10, 12, 14, 16)

_NAMES = {
    "v.cls_token": "cls_token",
    "v.dist_token": "distillation_token",
    "v.pos_embed": "position",
    "v.patch_embed.proj": "patch",
    "v.norm": "norm",
    "mlp_head.0": "head_norm",
    "mlp_head.1": "head",
}
_BLOCK_NAMES = {
    "norm1": "norm_attention",
    "attn.qkv": "attention.qkv",
    "attn.proj": "attention.out",
    "norm2": "norm_mlp",
    "mlp.fc1": "up",
    "mlp.fc2": "down",
}
_UNUSED = ("v.head.", "v.head_dist.")
"""DeiT's own heads, for ImageNet"""


def convert(
    source: Path,
    directory: Path,
    *,
    labels: Path | None = None,
    stride: int | None = None,
    max_length: int | None = None,
) -> None:
    """Read a checkpoint without running anything in it and write a model directory. Raises ModelError.

    What the weights do not say (strides, frames of a window, labels) is taken from the authors' recipes where
    the shapes leave one choice; otherwise it must be given.
    """
    if directory.exists():
        raise ModelError(f"{directory}: is there already; choose another directory")
    weights = _read(source)
    if not any(name.startswith("v.") for name in weights):
        raise ModelError(f"{source}: has no weights named v.…: it is not a checkpoint of the authors' code")
    ours = _rename(weights, source)
    config, fbank = _configure(ours, source, labels, stride, max_length)
    network: AST = checkpoint.build(config, ours, str(source))
    checkpoint.save(directory, network, fbank, dtype=torch.float32)
    manifest.write(directory, str(source.resolve()))


def _read(source: Path) -> dict[str, Tensor]:
    try:
        values = torch.load(source, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ModelError(f"{source}: no such file") from error
    except pickle.UnpicklingError as error:
        raise ModelError(f"{source}: holds more than weights, or is damaged, and is refused") from error
    except Exception as error:  # of any kind, for damage can be anywhere
        raise ModelError(f"{source}: is truncated or no checkpoint") from error
    if not isinstance(values, dict) or not all(isinstance(value, Tensor) for value in values.values()):
        raise ModelError(f"{source}: holds something else than named weights")
    return {str(name).removeprefix("module."): value for name, value in values.items()}


def _rename(weights: dict[str, Tensor], source: Path) -> dict[str, Tensor]:
    ours, unknown = {}, []
    for name, tensor in weights.items():
        if name.startswith(_UNUSED):
            continue
        block = re.fullmatch(r"v\.blocks\.(\d+)\.(.+)\.(weight|bias)", name)
        module, _, suffix = name.rpartition(".")
        if name in _NAMES:
            ours[_NAMES[name]] = tensor
        elif module in _NAMES:
            ours[f"{_NAMES[module]}.{suffix}"] = tensor
        elif block is not None and block[2] in _BLOCK_NAMES:
            ours[f"blocks.{block[1]}.{_BLOCK_NAMES[block[2]]}.{block[3]}"] = tensor
        else:
            unknown.append(name)
    if unknown:
        raise ModelError(f"{source}: weights that are not known: {', '.join(unknown[:3])}")
    needed = ("cls_token", "position", "patch.weight", "head.weight", "blocks.0.up.weight")
    if missing := [name for name in needed if name not in ours]:
        raise ModelError(f"{source}: weights are missing: {', '.join(missing)}")
    return ours


def _configure(
    ours: dict[str, Tensor], source: Path, labels: Path | None, stride: int | None, max_length: int | None
) -> tuple[ASTConfig, FbankConfig]:
    n_labels = ours["head.weight"].shape[0]
    recipe = _RECIPES.get(n_labels)
    names = tuple(labels.read_text().splitlines()) if labels else recipe[0] if recipe else ()
    if len(names) != n_labels:
        found = f"{labels} has {len(names)}" if labels else "which is no known set"
        raise ModelError(f"{source}: has {n_labels} outputs, {found}; give --labels FILE, one label a line")
    patch = ours["patch.weight"].shape[-1]
    ours["patch.weight"] = ours["patch.weight"].flatten(1)
    n_patches = ours["position"].shape[1] - 2
    fits = [
        (s, length)
        for s in ([stride] if stride else _STRIDES)
        for length in (
            [max_length] if max_length else [recipe[1]] if recipe else [r[1] for r in _RECIPES.values()]
        )
        if ((MEL_BINS - patch) // s + 1) * ((length - patch) // s + 1) == n_patches
    ]
    if len(fits) != 1:
        choices = ", ".join(f"{s} and {length}" for s, length in fits) or "none of the authors'"
        raise ModelError(
            f"{source}: {n_patches} patches fit these strides and lengths: {choices};"
            " give --stride and --max-length"
        )
    (stride, max_length) = fits[0]
    hidden = ours["cls_token"].shape[-1]
    config = ASTConfig(
        hidden_size=hidden,
        num_hidden_layers=len({name.split(".")[1] for name in ours if name.startswith("blocks.")}),
        num_attention_heads=max(1, hidden // HEAD_WIDTH),
        intermediate_size=ours["blocks.0.up.weight"].shape[0],
        # That of the trunk; the norm before the head had torch's 1e-5, which no logit shows.
        layer_norm_eps=1e-6,
        patch_size=patch,
        qkv_bias="blocks.0.attention.qkv.bias" in ours,
        frequency_stride=stride,
        time_stride=stride,
        max_length=max_length,
        num_mel_bins=MEL_BINS,
        id2label=dict(enumerate(names)),
    )
    _, _, mean, std = recipe or _RECIPES[len(AUDIOSET)]
    return config, FbankConfig(num_mel_bins=MEL_BINS, max_length=max_length, mean=mean, std=std)
