"""Weights of a model directory as arrays, checked against its configuration; no runtime is needed for this.

Names and shapes are those of the modules in `ast.py`; the Hub's names are turned into them. Linear layers are
(outputs, inputs), the patch projection is (H, p * p) with frequency first.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, deserialize

from streamer.core.printable import printable
from streamer.errors import ModelError
from streamer.model import manifest
from streamer.model.config import (
    CONFIG,
    FRAME_S,
    PREPROCESSOR,
    WEIGHTS,
    ASTConfig,
    FbankConfig,
    read_config,
    read_json,
    regular,
)

INDEX = "model.safetensors.index.json"
FRAME_HEAD = "frame_head.safetensors"
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
HEAD = "frame_head."
"""how names of the frame head begin"""

Array = npt.NDArray[np.float32]
Weights = dict[str, Array]

_NEEDS = f"a model directory has {CONFIG}, {PREPROCESSOR} and {WEIGHTS}"
_DTYPES = {"F16": np.float16, "F32": np.float32, "F64": np.float64}


@dataclass(frozen=True)
class Model:
    """What is in a model directory, ready for any engine: weights in float32, under this project's names."""

    name: str
    config: ASTConfig
    fbank: FbankConfig
    weights: Weights

    @property
    def labels(self) -> tuple[str, ...]:
        return self.config.labels


def load(directory: Path) -> Model:
    """The model of a directory. Raises ModelError, one line that names the file and the cause."""
    if not directory.is_dir():
        raise ModelError(f"{directory}: no such model directory")
    manifest.check(directory)
    config, fbank = read_config(directory)
    path = directory / (INDEX if (directory / INDEX).is_file() else WEIGHTS)
    weights = from_hub(_read(directory), config, str(path))
    if config.frame_head:
        head = _read_safetensors(directory / FRAME_HEAD)
        weights |= {HEAD + name: tensor for name, tensor in head.items()}
    check_shapes(config, {name: tensor.shape for name, tensor in weights.items()}, str(path))
    if wrong := [f"{name} is {tensor.kind}" for name, tensor in weights.items() if not tensor.is_float]:
        raise ModelError(f"{path}: {len(wrong)} weights are of a kind that is not known: {first(wrong)}")
    arrays = {name: tensor.values() for name, tensor in weights.items()}
    if wrong := [name for name, array in arrays.items() if not np.isfinite(array).all()]:
        raise ModelError(f"{path}: {len(wrong)} weights are not finite: {first(wrong)}")
    return Model(directory.resolve().name, config, fbank, arrays)


def shapes(config: ASTConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of each weight of the network."""
    h, n, (f, t) = config.hidden_size, len(config.id2label), config.grid

    def linear(
        name: str, outputs: int, inputs: int, bias: bool = True
    ) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield f"{name}.weight", (outputs, inputs)
        if bias:
            yield f"{name}.bias", (outputs,)

    def norm(name: str) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield f"{name}.weight", (h,)
        yield f"{name}.bias", (h,)

    yield "cls_token", (1, 1, h)
    yield "distillation_token", (1, 1, h)
    yield "position", (1, f * t + 2, h)
    yield from linear("patch", h, config.patch_size**2)
    for i in range(config.num_hidden_layers):
        block = f"blocks.{i}"
        yield from norm(f"{block}.norm_attention")
        yield from linear(f"{block}.attention.qkv", 3 * h, h, config.qkv_bias)
        yield from linear(f"{block}.attention.out", h, h)
        yield from norm(f"{block}.norm_mlp")
        yield from linear(f"{block}.up", config.intermediate_size, h)
        yield from linear(f"{block}.down", h, config.intermediate_size)
    yield from norm("norm")
    yield from norm("head_norm")
    yield from linear("head", n, h)
    if config.frame_head:
        yield from linear(f"{HEAD}weight", 1, h)
        yield from linear(f"{HEAD}pool", h, 2 * h)
        yield f"{HEAD}neighbours.weight", (h, h, 5)
        yield f"{HEAD}neighbours.bias", (h,)
        yield from norm(f"{HEAD}norm")
        yield from linear(f"{HEAD}dense", n, h)


def check_shapes(config: ASTConfig, found: Mapping[str, Sequence[int]], where: str) -> None:
    """Raises ModelError where weights of these names and shapes are not the network's."""
    expected = dict(shapes(config))
    if wrong := sorted(expected.keys() - found.keys()):
        raise ModelError(f"{where}: {len(wrong)} weights are missing: {first(wrong)}")
    if wrong := sorted(found.keys() - expected.keys()):
        raise ModelError(f"{where}: {len(wrong)} weights are not known: {first(wrong)}")
    n_outputs = found["head.weight"][0] if found["head.weight"] else 0
    if n_outputs != len(config.id2label):
        raise ModelError(
            f"{where}: the model has {n_outputs} outputs but {CONFIG} names {len(config.id2label)} labels"
        )
    wrong = [
        f"{name} is {tuple(found[name])}, not {shape}"
        for name, shape in expected.items()
        if tuple(found[name]) != shape
    ]
    if wrong:
        raise ModelError(f"{where}: {len(wrong)} of the weights do not fit {CONFIG}: {first(wrong)}")


def shorten(model: Model, window_s: float, position: Literal["cut", "interpolate"]) -> Model:
    """The model for shorter windows than it was trained for, its positional embedding made to fit in time.

    As the authors do: the middle of the time steps is cut out, or all of them are interpolated. Raises
    ModelError where the windows are longer, or too short for a single patch.
    """
    config, own_s = model.config, model.fbank.window_s
    if window_s == own_s:
        return model
    if window_s > own_s:
        raise ModelError(f"{model.name}: window_s is {window_s:g} but the model was made for {own_s:g} s")
    n_frames = round(window_s / FRAME_S) - 2
    n_steps = math.ceil((n_frames - config.patch_size) / config.time_stride) + 1
    max_length = (n_steps - 1) * config.time_stride + config.patch_size
    if n_steps < 1:
        raise ModelError(f"{model.name}: window_s is {window_s:g}: shorter than a patch")
    grid = config.grid[0], n_steps
    fitted = fit_positions(model.weights["position"], config.grid, grid, cut=position == "cut")
    return Model(
        model.name,
        replace(config, max_length=max_length),
        replace(model.fbank, max_length=max_length),
        model.weights | {"position": fitted},
    )


def fit_positions(position: Array, old: tuple[int, int], new: tuple[int, int], *, cut: bool = True) -> Array:
    """(1, f * t + 2, H) for another grid, as the authors do.

    Of too many the middle is cut out, unless `cut` is false; what still does not fit is interpolated.
    """
    grid = position[:, 2:].reshape(*old, -1)  # (f, t, H)
    for axis, (had, wants) in enumerate(zip(old, new, strict=True)):
        if cut and wants < had:
            grid = np.take(grid, np.arange(wants) + had // 2 - wants // 2, axis)
        elif wants != had:
            grid = _interpolate(grid, wants, axis)
    return np.concatenate((position[:, :2], grid.reshape(1, new[0] * new[1], -1)), axis=1)


def _interpolate(x: Array, n: int, axis: int) -> Array:
    """Along one axis to n values, each at the middle of its share of the old ones."""
    had = x.shape[axis]
    # The ratio and the places are rounded to float32 as torch has it: at a hundred steps that shows.
    at = ((np.arange(n) + 0.5) * float(np.float32(had / n)) - 0.5).astype(np.float32)
    at = np.clip(at, 0, had - 1)
    below = np.floor(at).astype(int)
    share = (at - below.astype(np.float32)).reshape(-1, *[1] * (x.ndim - axis - 1))
    above = np.minimum(below + 1, had - 1)
    mixed: Array = np.take(x, below, axis) * (1 - share) + np.take(x, above, axis) * share
    return mixed


@dataclass(frozen=True)
class Tensor:
    """One tensor as its file has it: several arrays where the file has parts, joined along the first axis."""

    kind: str
    """the format's name of its dtype"""
    shape: tuple[int, ...]
    parts: tuple[bytes, ...]

    @property
    def is_float(self) -> bool:
        return self.kind in _DTYPES or self.kind == "BF16"

    def values(self) -> Array:
        """float32, writable, of the tensor's shape."""
        return np.concatenate([self._part(part) for part in self.parts]).reshape(self.shape)

    def _part(self, content: bytes) -> Array:
        if self.kind == "BF16":  # the upper half of a float32
            return (np.frombuffer(content, np.uint16).astype(np.uint32) << 16).view(np.float32)
        return np.frombuffer(content, _DTYPES[self.kind]).astype(np.float32)


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    head = tensors[0]
    if len(tensors) == 1:
        return head
    if any((t.kind, t.shape) != (head.kind, head.shape) for t in tensors) or not head.shape:
        shape: tuple[int, ...] = ()  # which fits nothing
    else:
        shape = (len(tensors) * head.shape[0], *head.shape[1:])
    return Tensor(head.kind, shape, tuple(part for tensor in tensors for part in tensor.parts))


def _read(directory: Path) -> dict[str, Tensor]:
    """All weights of a directory under the names they have in its files, from one file or from shards."""
    if (directory / INDEX).is_file():
        names = read_json(directory / INDEX).get("weight_map")
        if not isinstance(names, dict) or not names:
            raise ModelError(f"{directory / INDEX}: has no weight_map")
        shards = sorted({str(name) for name in names.values()})
        if outside := [name for name in shards if Path(name).name != name]:
            raise ModelError(f"{directory / INDEX}: shards must lie beside it: {first(outside)}")
        weights: dict[str, Tensor] = {}
        for shard in shards:
            weights |= _read_safetensors(directory / shard)
        return weights
    if not (directory / WEIGHTS).is_file() and any((directory / name).is_file() for name in PICKLES):
        raise ModelError(
            f"{directory}: the weights are a pickle, which can run code when it is read, and is refused;"
            f" {_NEEDS}"
        )
    return _read_safetensors(directory / WEIGHTS)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        content = regular(path).read_bytes()
        if content[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
            raise ModelError(f"{path}: is a pickle, which can run code when it is read, and is refused")
        return {
            name: Tensor(found["dtype"], tuple(found["shape"]), (found["data"],))
            for name, found in deserialize(content)  # type: ignore[no-untyped-call]  # theirs
        }
    except FileNotFoundError as error:
        raise ModelError(f"{path}: no such file; {_NEEDS}") from error
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from error
    except SafetensorError as error:
        raise ModelError(f"{path}: is truncated or no safetensors file: {error}") from error


_TRUNK = "audio_spectrogram_transformer."
_OUTER = {
    "cls_token": f"{_TRUNK}embeddings.cls_token",
    "distillation_token": f"{_TRUNK}embeddings.distillation_token",
    "position": f"{_TRUNK}embeddings.position_embeddings",
    "patch": f"{_TRUNK}embeddings.patch_embeddings.projection",
    "norm": f"{_TRUNK}layernorm",
    "head_norm": "classifier.layernorm",
    "head": "classifier.dense",
}
PATCH = f"{_OUTER['patch']}.weight"
"""the one weight that has another shape on the Hub: (H, 1, p, p)"""
_INNER = {
    "norm_attention": "layernorm_before",
    "norm_mlp": "layernorm_after",
    "attention.out": "attention.output.dense",
    "up": "intermediate.dense",
    "down": "output.dense",
}
_QKV = tuple(f"attention.attention.{name}" for name in ("query", "key", "value"))
# transformers 5 calls the same weights so in memory, and writes the Hub's names.
_NEWER = {
    "attention.q_proj": "attention.attention.query",
    "attention.k_proj": "attention.attention.key",
    "attention.v_proj": "attention.attention.value",
    "attention.o_proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}


def hub_names(config: ASTConfig) -> dict[str, tuple[str, ...]]:
    """The Hub's name of each module or parameter of ours; three for queries, keys and values in one."""
    names: dict[str, tuple[str, ...]] = {ours: (theirs,) for ours, theirs in _OUTER.items()}
    for i in range(config.num_hidden_layers):
        layer = f"{_TRUNK}encoder.layer.{i}."
        names |= {f"blocks.{i}.{ours}": (layer + theirs,) for ours, theirs in _INNER.items()}
        names[f"blocks.{i}.attention.qkv"] = tuple(layer + theirs for theirs in _QKV)
    return names


def from_hub(weights: dict[str, Tensor], config: ASTConfig, where: str) -> dict[str, Tensor]:
    """Weights under the Hub's names -> under ours. Raises ModelError for those missing or not known."""
    weights = {_hub_name(name): tensor for name, tensor in weights.items()}
    if config.num_hidden_layers > len(weights):
        raise ModelError(f"{where}: {len(weights)} weights cannot make {config.num_hidden_layers} layers")
    ours: dict[str, Tensor] = {}
    missing: list[str] = []
    for module, theirs in hub_names(config).items():
        for suffix in ("", ".weight", ".bias"):
            found = [weights.pop(name + suffix, None) for name in theirs]
            parts = [tensor for tensor in found if tensor is not None]
            if parts and len(parts) < len(found):
                missing += [name + suffix for name, part in zip(theirs, found, strict=True) if part is None]
            elif parts:
                ours[module + suffix] = _joined(parts)
    if missing:
        raise ModelError(f"{where}: {len(missing)} weights are missing: {first(missing)}")
    if weights:
        raise ModelError(f"{where}: {len(weights)} weights are not known: {first(sorted(weights))}")
    if (patch := ours.get("patch.weight")) is not None and patch.shape:
        flat = (patch.shape[0], math.prod(patch.shape[1:]))
        ours["patch.weight"] = replace(patch, shape=flat)  # (H, 1, p, p) -> (H, p * p)
    return ours


def _hub_name(name: str) -> str:
    found = re.fullmatch(rf"{re.escape(_TRUNK)}layers\.(\d+)\.(.+)\.(\w+)", name)
    if found is None:
        return name
    layer, module, suffix = found.groups()
    return f"{_TRUNK}encoder.layer.{layer}.{_NEWER.get(module, module)}.{suffix}"


def first(names: Sequence[str], n: int = 3) -> str:
    """The first names of a list, for a line of text."""
    return printable(", ".join(names[:n])) + (", …" if len(names) > n else "")
