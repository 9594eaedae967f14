"""What `streamer bench` needs torch for: transformers, the model of the published size, the matrix rate."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch

from streamer.config.schema import ModelSettings
from streamer.errors import UsageError
from streamer.evaluation.timed import Load, Score
from streamer.inference.engines.processor import bfloat16_units
from streamer.inference.engines.torch import choose_device
from streamer.model import checkpoint
from streamer.model.ast import AST
from streamer.model.config import ASTConfig, FbankConfig
from streamer.model.labels import AUDIOSET
from streamer.types import Window


def loaders(device: str) -> Iterator[Load]:
    """`transformers` in both dtypes; bfloat16 is left out where it is several times slower, without units."""
    yield partial(_transformers, torch.float32)
    if has_bfloat16(device):
        yield partial(_transformers, torch.bfloat16)


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
