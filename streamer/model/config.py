"""What a model directory says of its model: `config.json` and `preprocessor_config.json`."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import TypeAdapter, ValidationError

from streamer.core.printable import printable
from streamer.errors import ModelError

CONFIG = "config.json"
PREPROCESSOR = "preprocessor_config.json"
WEIGHTS = "model.safetensors"
MODEL_TYPE = "audio-spectrogram-transformer"
FRAME_S = 0.010
"""seconds from one row of the features to the next"""
LABELS_MAX = 100_000
"""outputs of a model; a larger number is a mistake, and would fill the memory with names"""

ACTIVATIONS = (
    "gelu",
    "gelu_python",
    "gelu_10",
    "gelu_new",
    "gelu_fast",
    "gelu_accurate",
    "gelu_pytorch_tanh",
    "gelu_python_tanh",
    "quick_gelu",
    "relu",
    "relu2",
    "relu6",
    "leaky_relu",
    "silu",
    "swish",
    "hardswish",
    "mish",
    "tanh",
    "sigmoid",
    "sqrtsoftplus",
    "laplace",
    "linear",
)
"""all of `transformers` that have no weights of their own (which `prelu` and `xielu` do)"""

T = TypeVar("T")

_POSITIVE = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "patch_size",
    "frequency_stride",
    "time_stride",
    "max_length",
    "num_mel_bins",
)


@dataclass(frozen=True)
class ASTConfig:
    """`config.json` of a model directory: the published fields with the published defaults."""

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    patch_size: int = 16
    qkv_bias: bool = True
    frequency_stride: int = 10
    time_stride: int = 10
    max_length: int = 1024
    """fbank frames of a window"""
    num_mel_bins: int = 128
    id2label: dict[int, str] = field(default_factory=lambda: {0: "LABEL_0", 1: "LABEL_1"})
    problem_type: (
        Literal["regression", "single_label_classification", "multi_label_classification"] | None
    ) = None
    """of a model for a single label, scores are a softmax; of any other, sigmoids"""
    frame_head: bool = False
    """this project's own: the directory also holds a head for frame scores"""

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be positive")
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "layer_norm_eps"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must lie between 0 and 1")
        if sorted(self.id2label) != list(range(len(self.id2label))):
            raise ValueError(f"id2label does not number its {len(self.id2label)} labels from 0")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads"
                f" {self.num_attention_heads}"
            )
        if self.hidden_act not in ACTIVATIONS:
            raise ValueError(f"hidden_act {self.hidden_act!r} is not known; known: {', '.join(ACTIVATIONS)}")
        if min(self.grid) < 1:
            raise ValueError(
                f"a patch of {self.patch_size} does not fit into {self.num_mel_bins} mel bins"
                f" by {self.max_length} frames"
            )

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self.id2label[i] for i in range(len(self.id2label)))

    @property
    def grid(self) -> tuple[int, int]:
        """(f, t): patches over frequency and over time."""
        f = (self.num_mel_bins - self.patch_size) // self.frequency_stride + 1
        t = (self.max_length - self.patch_size) // self.time_stride + 1
        return f, t

    @property
    def is_single_label(self) -> bool:
        """The labels exclude each other."""
        return self.problem_type == "single_label_classification"

    @property
    def frame_s(self) -> float:
        """Seconds of a frame of the frame head; 0 without one."""
        return self.time_stride * FRAME_S if self.frame_head else 0.0


@dataclass(frozen=True)
class FbankConfig:
    """`preprocessor_config.json` of a model directory."""

    sampling_rate: int = 16000
    num_mel_bins: int = 128
    max_length: int = 1024
    """frames; shorter input is padded, longer is cut"""
    mean: float = -4.2677393
    std: float = 4.5689974
    do_normalize: bool = True

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean) and math.isfinite(self.std) and self.std > 0):
            raise ValueError(f"mean {self.mean} and std {self.std} cannot normalise anything")

    @property
    def window_s(self) -> float:
        """Seconds of the windows that the model is for.

        Published models pad: 1024 frames for clips of 10 s (998 frames), 512 for 5 s, 128 for 1 s. So it is
        the whole seconds that fit; what is shorter than one second is taken as it is.
        """
        seconds = (self.max_length + 2) * FRAME_S
        return float(int(seconds + 1e-9)) if seconds >= 1 else round(seconds, 2)


def model_type(directory: Path) -> str:
    """Which kind of model a directory says it is; nothing where it does not. Raises ModelError."""
    return str(read_json(directory / CONFIG).get("model_type", ""))


def read_config(directory: Path) -> tuple[ASTConfig, FbankConfig]:
    """The two JSON files of a model directory. Raises ModelError, one line that names file and cause."""
    values = read_json(directory / CONFIG)
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
    fbank = _parse(FbankConfig, read_json(directory / PREPROCESSOR), directory / PREPROCESSOR)
    for name in ("max_length", "num_mel_bins"):
        ours, theirs = getattr(fbank, name), getattr(config, name)
        if ours != theirs:
            raise ModelError(f"{directory}: {name} is {ours} in {PREPROCESSOR} but {theirs} in {CONFIG}")
    return config, fbank


def _parse(kind: type[T], values: dict[str, Any], path: Path) -> T:
    known = {f.name: values[f.name] for f in fields(kind) if f.name in values}  # type: ignore[arg-type]  # dataclasses
    try:
        parsed: T = _ADAPTERS[kind].validate_python(known)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        reason = first["msg"].removeprefix("Value error, ")
        what = f"{where}: {reason}" if where else reason
        raise ModelError(f"{path}: {printable(what)}") from error
    return parsed


_ADAPTERS: dict[type[Any], TypeAdapter[Any]] = {kind: TypeAdapter(kind) for kind in (ASTConfig, FbankConfig)}
"""made once: that costs more than to check a file"""


def read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(regular(path).read_bytes())
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


def regular(path: Path) -> Path:
    """The path itself. Raises ModelError for a pipe, which would be waited for, and for ever."""
    if path.is_fifo():
        raise ModelError(f"{path}: is a pipe, not a file")
    return path
