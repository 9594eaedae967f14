"""What `streamer bench` needs torch for: other programs, the model of the published size, the matrix rate."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch

from streamer.config.schema import ModelSettings
from streamer.errors import UsageError
from streamer.evaluation.bench import Load, Score
from streamer.inference.engines.torch import bfloat16_units, choose_device
from streamer.model import checkpoint
from streamer.model.ast import AST
from streamer.model.config import ASTConfig, FbankConfig
from streamer.model.fbank import Fbank
from streamer.model.labels import AUDIOSET
from streamer.types import Window


def loaders(names: Sequence[str], device: str) -> Iterator[tuple[str, Load]]:
    """The programs that are wanted. Without units for bfloat16 that is several times slower, and left out."""
    if "transformers" in names:
        yield "transformers", partial(_transformers, torch.float32)
        if has_bfloat16(device):
            yield "transformers", partial(_transformers, torch.bfloat16)
    if "openvino" in names and choose_device(device).type == "cpu":
        yield "openvino", _openvino


def has_bfloat16(device: str) -> bool:
    return choose_device(device).type == "cuda" or bool(bfloat16_units())


def _transformers(dtype: torch.dtype, settings: ModelSettings) -> tuple[str, Score]:
    try:
        from transformers import ASTFeatureExtractor, ASTForAudioClassification  # noqa: PLC0415  # optional
    except ImportError as error:
        raise UsageError("transformers is not installed: pip install 'streamer[bench]'") from error
    device = choose_device(settings.first_device)
    extractor = ASTFeatureExtractor.from_pretrained(settings.path)
    network = ASTForAudioClassification.from_pretrained(settings.path, dtype=dtype)
    network.to(device).eval()  # type: ignore[arg-type]  # theirs is wrapped

    @torch.inference_mode()
    def score(windows: Sequence[Window]) -> object:
        audio = [window.samples for window in windows]
        features = extractor(audio, sampling_rate=windows[0].sample_rate, return_tensors="pt")
        logits = network(features["input_values"].to(device, dtype)).logits
        return logits.float().sigmoid().cpu().numpy()

    return str(dtype).removeprefix("torch."), score


def _openvino(settings: ModelSettings) -> tuple[str, Score]:
    try:
        import openvino  # noqa: PLC0415  # optional
    except ImportError as error:
        raise UsageError("openvino is not installed: pip install 'streamer[bench]'") from error
    loaded = checkpoint.load(Path(settings.path))
    fbank = Fbank(loaded.fbank)
    example = torch.zeros(1, loaded.fbank.max_length, loaded.fbank.num_mel_bins)
    graph = openvino.convert_model(_Clip(loaded.network), example_input=example)
    graph.reshape([-1, *example.shape[1:]])
    compiled = openvino.Core().compile_model(graph, "CPU", {"INFERENCE_NUM_THREADS": settings.threads})
    used = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()  # what it chooses by itself

    @torch.inference_mode()
    def score(windows: Sequence[Window]) -> object:
        features = fbank(torch.from_numpy(np.stack([window.samples for window in windows])))
        return 1 / (1 + np.exp(-compiled(features.numpy())[0]))

    return {"bf16": "bfloat16", "f32": "float32", "f16": "float16"}.get(used, used), score


class _Clip(torch.nn.Module):
    """The scores of the window alone: a graph has no room for None."""

    def __init__(self, network: AST) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(x)[0]
        return logits


@torch.inference_mode()
def matrix_rate(device: str, dtype: str) -> float:
    """Operations a second of large matrix products in a dtype, the best of five."""
    where = choose_device(device)
    n = 8192 if where.type == "cuda" else 1536
    a = torch.randn(n, n, device=where).to(getattr(torch, dtype))
    seconds = []
    for _ in range(6):
        started = time.perf_counter()
        product = a @ a
        product[0, 0].item()  # waits for the device
        seconds.append(time.perf_counter() - started)
    return 2 * n**3 / min(seconds[1:])


def card(device: str) -> str:
    """The name of the CUDA device that is meant; empty for the CPU."""
    chosen = choose_device(device)
    return torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else ""


def reset_peak() -> float:
    """Megabytes of the CUDA device in use; from now on the peak counts anew."""
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated() / 1e6


def peak_mb() -> float:
    return torch.cuda.max_memory_allocated() / 1e6


@contextmanager
def random_base() -> Iterator[Path]:
    """A model of the published size with random weights: as fast as any weights are."""
    with tempfile.TemporaryDirectory(prefix="streamer-bench-") as folder:
        torch.manual_seed(0)
        network = AST(ASTConfig(id2label=dict(enumerate(AUDIOSET))))
        checkpoint.save(Path(folder) / "ast-base", network, FbankConfig())
        yield Path(folder) / "ast-base"
