"""Model directories in Hugging Face format: `config.json`, `preprocessor_config.json`, `model.safetensors`.

A frame head, which only this project knows, lies in a file of its own, `frame_head.safetensors`, announced by
`"frame_head": true` in `config.json`; other programs load the rest as any other AST.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import tempfile
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
import torch.nn.functional as F
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from streamer.core.files import put_directory
from streamer.errors import ModelError
from streamer.model import manifest
from streamer.model.ast import AST, ASTConfig
from streamer.model.fbank import FRAME_S, FbankConfig

CONFIG = "config.json"
PREPROCESSOR = "preprocessor_config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
FRAME_HEAD = "frame_head.safetensors"

MODEL_TYPE = "audio-spectrogram-transformer"
_NEEDS = f"a model directory has {CONFIG}, {PREPROCESSOR} and {WEIGHTS}"
_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")

T = TypeVar("T")

LABELS_MAX = 100_000
"""outputs of a model; a larger number is a mistake, and would fill the memory with names"""


@dataclass(frozen=True)
class Loaded:
    """A model, ready to compute: float32, on the CPU, in eval mode."""

    name: str
    network: AST
    fbank: FbankConfig

    @property
    def labels(self) -> tuple[str, ...]:
        return self.network.config.labels


def load(directory: Path) -> Loaded:
    """The model of a directory. Raises ModelError, one line that names the file and the cause."""
    if not directory.is_dir():
        raise ModelError(f"{directory}: no such model directory")
    manifest.check(directory)
    config, fbank = load_config(directory)
    path = directory / (INDEX if (directory / INDEX).is_file() else WEIGHTS)
    weights = from_hub(read_weights(directory), config, str(path))
    if config.frame_head:
        head = _read_safetensors(directory / FRAME_HEAD)
        weights |= {_HEAD + name: tensor for name, tensor in head.items()}
    return Loaded(directory.resolve().name, build(config, weights, str(path)), fbank)


def load_config(directory: Path) -> tuple[ASTConfig, FbankConfig]:
    """The two JSON files of a model directory."""
    values = _read_json(directory / CONFIG)
    if values.get("model_type") != MODEL_TYPE:
        raise ModelError(
            f"{directory / CONFIG}: model_type is {values.get('model_type')!r};"
            f" only {MODEL_TYPE!r} can be used"
        )
    n_labels = values.get("num_labels")
    if isinstance(n_labels, int) and n_labels > LABELS_MAX:
        raise ModelError(f"{directory / CONFIG}: num_labels is {n_labels}; at most {LABELS_MAX} can be used")
    if "id2label" not in values and isinstance(n_labels, int):
        values["id2label"] = {i: f"LABEL_{i}" for i in range(values["num_labels"])}
    config = _parse(ASTConfig, values, directory / CONFIG)
    fbank = _parse(FbankConfig, _read_json(directory / PREPROCESSOR), directory / PREPROCESSOR)
    for name in ("max_length", "num_mel_bins"):
        ours, theirs = getattr(fbank, name), getattr(config, name)
        if ours != theirs:
            raise ModelError(f"{directory}: {name} is {ours} in {PREPROCESSOR} but {theirs} in {CONFIG}")
    return config, fbank


def shorten(loaded: Loaded, window_s: float, position: Literal["cut", "interpolate"]) -> Loaded:
    """The model for shorter windows than it was trained for, its positional embedding made to fit in time.

    As the authors do: the middle of the time steps is cut out, or all of them are interpolated. Raises
    ModelError where the windows are longer, or too short for a single patch.
    """
    config, own_s = loaded.network.config, loaded.fbank.window_s
    if window_s == own_s:
        return loaded
    if window_s > own_s:
        raise ModelError(f"{loaded.name}: window_s is {window_s:g} but the model was made for {own_s:g} s")
    n_frames = round(window_s / FRAME_S) - 2
    n_steps = math.ceil((n_frames - config.patch_size) / config.time_stride) + 1
    max_length = (n_steps - 1) * config.time_stride + config.patch_size
    if n_steps < 1:
        raise ModelError(f"{loaded.name}: window_s is {window_s:g}: shorter than a patch")
    weights = loaded.network.state_dict()
    grid = config.grid[0], n_steps
    weights["position"] = fit_positions(weights["position"], config.grid, grid, cut=position == "cut")
    network = build(replace(config, max_length=max_length), weights, loaded.name)
    return Loaded(loaded.name, network, replace(loaded.fbank, max_length=max_length))


def fit_positions(
    position: Tensor, old: tuple[int, int], new: tuple[int, int], *, cut: bool = True
) -> Tensor:
    """(1, f * t + 2, H) for another grid, as the authors do.

    Of too many the middle is cut out, unless `cut` is false; what still does not fit is interpolated.
    """
    grid = position[:, 2:].transpose(1, 2).reshape(1, -1, *old)  # (1, H, f, t)
    for axis, (had, wants) in enumerate(zip(old, new, strict=True), start=2):
        if cut and wants < had:
            grid = grid.narrow(axis, had // 2 - wants // 2, wants)
    if tuple(grid.shape[2:]) != new:
        grid = F.interpolate(grid, new, mode="bilinear")
    return torch.cat((position[:, :2], grid.flatten(2).transpose(1, 2)), dim=1)


def build(config: ASTConfig, weights: dict[str, Tensor], where: str) -> AST:
    """A network with these weights, under this project's names. Raises ModelError where they do not fit."""
    # On the meta device nothing is allocated or initialised, whatever size the configuration asks for.
    try:
        with torch.device("meta"):
            network = AST(config)
    except RuntimeError as error:  # sizes beyond what torch can count
        raise ModelError(f"{where}: the weights do not fit {CONFIG}: {error}") from error
    expected = network.state_dict()
    if wrong := sorted(expected.keys() - weights.keys()):
        raise ModelError(f"{where}: {len(wrong)} weights are missing: {_first(wrong)}")
    if wrong := sorted(weights.keys() - expected.keys()):
        raise ModelError(f"{where}: {len(wrong)} weights are not known: {_first(wrong)}")
    n_outputs = weights["head.weight"].shape[0]
    if n_outputs != len(config.id2label):
        raise ModelError(
            f"{where}: the model has {n_outputs} outputs but {CONFIG} names {len(config.id2label)} labels"
        )
    wrong = [
        f"{name} is {tuple(weights[name].shape)}, not {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if weights[name].shape != tensor.shape
    ]
    if wrong:
        raise ModelError(f"{where}: {len(wrong)} of the weights do not fit {CONFIG}: {_first(wrong)}")
    if wrong := [f"{name} is {t.dtype}" for name, t in weights.items() if t.dtype not in _DTYPES]:
        raise ModelError(f"{where}: {len(wrong)} weights are of a kind that is not known: {_first(wrong)}")
    if wrong := [name for name, tensor in weights.items() if not torch.isfinite(tensor).all()]:
        raise ModelError(f"{where}: {len(wrong)} weights are not finite: {_first(wrong)}")
    network.load_state_dict(
        {name: tensor.float().contiguous() for name, tensor in weights.items()}, assign=True
    )
    return network.requires_grad_(False).eval()


def save(directory: Path, network: AST, fbank: FbankConfig, *, dtype: torch.dtype = torch.float16) -> None:
    """Write a model directory that `load` and `transformers` read; all of it or nothing."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    try:
        partial.chmod(0o755)  # mkdtemp's is for one user alone
        weights = {name: tensor.detach().to("cpu", dtype) for name, tensor in network.state_dict().items()}
        if wrong := [name for name, tensor in weights.items() if not torch.isfinite(tensor).all()]:
            raise ModelError(f"{directory}: {len(wrong)} weights overflow {dtype}: {_first(wrong)}")
        head = {name.removeprefix(_HEAD): t for name, t in weights.items() if name.startswith(_HEAD)}
        trunk = {name: t for name, t in weights.items() if not name.startswith(_HEAD)}
        _write_json(partial / CONFIG, _config_json(network.config, dtype))
        _write_json(
            partial / PREPROCESSOR,
            {
                "feature_extractor_type": "ASTFeatureExtractor",
                "feature_size": 1,
                "padding_value": 0.0,
                **asdict(fbank),
            },
        )
        save_file(to_hub(trunk, network.config), partial / WEIGHTS, {"format": "pt"})
        if head:
            save_file(head, partial / FRAME_HEAD, {"format": "pt"})
        for path in partial.iterdir():
            path.chmod(0o644)  # and so are the files of safetensors
        before = None
        if directory.exists():
            before = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
            directory.rename(before)
        put_directory(partial, directory)
        if before is not None:
            shutil.rmtree(before)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def read_weights(directory: Path) -> dict[str, Tensor]:
    """All weights of a directory under the names they have in its files, from one file or from shards."""
    if (directory / INDEX).is_file():
        names = _read_json(directory / INDEX).get("weight_map")
        if not isinstance(names, dict) or not names:
            raise ModelError(f"{directory / INDEX}: has no weight_map")
        shards = sorted({str(name) for name in names.values()})
        if outside := [name for name in shards if Path(name).name != name]:
            raise ModelError(f"{directory / INDEX}: shards must lie beside it: {_first(outside)}")
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


_HEAD = "frame_head."
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


def _hub_names(config: ASTConfig) -> dict[str, tuple[str, ...]]:
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
    ours, missing = {}, []
    for module, theirs in _hub_names(config).items():
        for suffix in ("", ".weight", ".bias"):
            found = [weights.pop(name + suffix, None) for name in theirs]
            parts = [tensor for tensor in found if tensor is not None]
            if parts and len(parts) < len(found):
                missing += [name + suffix for name, part in zip(theirs, found, strict=True) if part is None]
            elif parts:
                ours[module + suffix] = torch.cat(parts) if len(parts) > 1 else parts[0]
    if missing:
        raise ModelError(f"{where}: {len(missing)} weights are missing: {_first(missing)}")
    if weights:
        raise ModelError(f"{where}: {len(weights)} weights are not known: {_first(sorted(weights))}")
    if "patch.weight" in ours:
        ours["patch.weight"] = ours["patch.weight"].flatten(1)  # (H, 1, p, p) -> (H, p * p)
    return ours


def to_hub(weights: dict[str, Tensor], config: ASTConfig) -> dict[str, Tensor]:
    """Weights under our names -> under the Hub's."""
    p, theirs = config.patch_size, _hub_names(config)
    result = {}
    for name, tensor in weights.items():
        module, _, suffix = name.rpartition(".")
        if module not in theirs:  # a parameter that stands alone
            module, suffix = name, ""
        parts = tensor.chunk(len(theirs[module]))
        for hub_name, part in zip(theirs[module], parts, strict=True):
            result[f"{hub_name}.{suffix}" if suffix else hub_name] = part.contiguous()
    patch = f"{_OUTER['patch']}.weight"
    result[patch] = result[patch].view(-1, 1, p, p)
    return result


def _hub_name(name: str) -> str:
    found = re.fullmatch(rf"{re.escape(_TRUNK)}layers\.(\d+)\.(.+)\.(\w+)", name)
    if found is None:
        return name
    layer, module, suffix = found.groups()
    return f"{_TRUNK}encoder.layer.{layer}.{_NEWER.get(module, module)}.{suffix}"


def _config_json(config: ASTConfig, dtype: torch.dtype) -> dict[str, object]:
    values = asdict(config)
    extra = {"frame_head": True} if values.pop("frame_head") else {}
    return {
        "architectures": ["ASTForAudioClassification"],
        "model_type": MODEL_TYPE,
        **values,
        "label2id": {label: i for i, label in config.id2label.items()},
        "torch_dtype": str(dtype).removeprefix("torch."),
        **extra,
    }


def _parse(kind: type[T], values: dict[str, Any], path: Path) -> T:
    known = {f.name: values[f.name] for f in fields(kind) if f.name in values}  # type: ignore[arg-type]  # dataclasses
    try:
        return TypeAdapter(kind).validate_python(known)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        reason = first["msg"].removeprefix("Value error, ")
        raise ModelError(f"{path}: {where}: {reason}" if where else f"{path}: {reason}") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(_regular(path).read_bytes())
    except FileNotFoundError as error:
        raise ModelError(
            f"{path}: no such file; a model directory has {CONFIG}, {PREPROCESSOR}, {WEIGHTS}"
        ) from error
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise ModelError(f"{path}: holds no JSON object")
    return values


def _write_json(path: Path, values: dict[str, object]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with _regular(path).open("rb") as file:
            head = file.read(2)
        if head in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
            raise ModelError(f"{path}: is a pickle, which can run code when it is read, and is refused")
        return load_file(path)
    except FileNotFoundError as error:
        raise ModelError(
            f"{path}: no such file; a model directory has {CONFIG}, {PREPROCESSOR}, {WEIGHTS}"
        ) from error
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from error
    except SafetensorError as error:
        raise ModelError(f"{path}: is truncated or no safetensors file: {error}") from error


def _regular(path: Path) -> Path:
    """A pipe would be waited for, and for ever."""
    if path.is_fifo():
        raise ModelError(f"{path}: is a pipe, not a file")
    return path


def _first(names: list[str], n: int = 3) -> str:
    return ", ".join(names[:n]) + (", …" if len(names) > n else "")
