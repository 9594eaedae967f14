"""Model directories in Hugging Face format: `config.json`, `preprocessor_config.json`, `model.safetensors`.

A frame head, which only this project knows, lies in a file of its own, `frame_head.safetensors`, announced by
`"frame_head": true` in `config.json`; other programs load the rest as any other AST.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from streamer.core.files import put_directory
from streamer.errors import ModelError
from streamer.model import weights as arrays
from streamer.model.ast import AST
from streamer.model.config import CONFIG, MODEL_TYPE, PREPROCESSOR, WEIGHTS, ASTConfig, FbankConfig
from streamer.model.weights import FRAME_HEAD, HEAD, PATCH, Model, check_shapes, first, hub_names

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True)
class Loaded:
    """A model as a network of torch, ready to compute: float32, on the CPU, in eval mode."""

    name: str
    network: AST
    fbank: FbankConfig

    @property
    def labels(self) -> tuple[str, ...]:
        return self.network.config.labels


def load(directory: Path) -> Loaded:
    """The model of a directory. Raises ModelError, one line that names the file and the cause."""
    return as_network(arrays.load(directory))


def as_network(model: Model) -> Loaded:
    """A network with the weights of a model."""
    tensors = {name: torch.from_numpy(array) for name, array in model.weights.items()}
    return Loaded(model.name, build(model.config, tensors, model.name), model.fbank)


def shorten(loaded: Loaded, window_s: float, position: Literal["cut", "interpolate"]) -> Loaded:
    """The model for shorter windows, as `weights.shorten` has it. Raises ModelError."""
    weights = {name: tensor.numpy() for name, tensor in loaded.network.state_dict().items()}
    model = Model(loaded.name, loaded.network.config, loaded.fbank, weights)
    short = arrays.shorten(model, window_s, position)
    return loaded if short is model else as_network(short)


def fit_positions(position: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """(1, f * t + 2, H) for another grid: of too many the middle is cut out, too few are interpolated."""
    return torch.from_numpy(arrays.fit_positions(position.numpy(), old, new))


class _NoRandomWeights(TorchFunctionMode):
    """Layers get no random weights: on `meta` torch loads its compiler for them, in two seconds."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in (nn.init.uniform_, nn.init.normal_, nn.init.kaiming_uniform_):
            return None
        return func(*args, **(kwargs or {}))


def build(config: ASTConfig, weights: dict[str, Tensor], where: str) -> AST:
    """A network with these weights, under this project's names. Raises ModelError where they do not fit."""
    check_shapes(config, {name: tuple(tensor.shape) for name, tensor in weights.items()}, where)
    if wrong := [f"{name} is {t.dtype}" for name, t in weights.items() if t.dtype not in _DTYPES]:
        raise ModelError(f"{where}: {len(wrong)} weights are of a kind that is not known: {first(wrong)}")
    if wrong := [name for name, tensor in weights.items() if not torch.isfinite(tensor).all()]:
        raise ModelError(f"{where}: {len(wrong)} weights are not finite: {first(wrong)}")
    with torch.device("meta"), _NoRandomWeights():  # where nothing is allocated
        network = AST(config)
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
            raise ModelError(f"{directory}: {len(wrong)} weights overflow {dtype}: {first(wrong)}")
        head = {name.removeprefix(HEAD): t for name, t in weights.items() if name.startswith(HEAD)}
        trunk = {name: t for name, t in weights.items() if not name.startswith(HEAD)}
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


def to_hub(weights: dict[str, Tensor], config: ASTConfig) -> dict[str, Tensor]:
    """Weights under our names -> under the Hub's."""
    p, theirs = config.patch_size, hub_names(config)
    result = {}
    for name, tensor in weights.items():
        module, _, suffix = name.rpartition(".")
        if module not in theirs:  # a parameter that stands alone
            module, suffix = name, ""
        parts = tensor.chunk(len(theirs[module]))
        for hub_name, part in zip(theirs[module], parts, strict=True):
            result[f"{hub_name}.{suffix}" if suffix else hub_name] = part.contiguous()
    result[PATCH] = result[PATCH].view(-1, 1, p, p)
    return result


def _config_json(config: ASTConfig, dtype: torch.dtype) -> dict[str, object]:
    values = asdict(config)
    extra: dict[str, object] = {"frame_head": True} if values.pop("frame_head") else {}
    if (problem_type := values.pop("problem_type")) is not None:
        extra["problem_type"] = problem_type
    return {
        "architectures": ["ASTForAudioClassification"],
        "model_type": MODEL_TYPE,
        **values,
        "label2id": {label: i for i, label in config.id2label.items()},
        "torch_dtype": str(dtype).removeprefix("torch."),
        **extra,
    }


def _write_json(path: Path, values: dict[str, object]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n")
