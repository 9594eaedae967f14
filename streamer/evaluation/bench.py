"""How fast the engine is, beside others, from audio to scores: interleaved in one run to share the noise."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from streamer.config.schema import ModelSettings
from streamer.errors import UsageError
from streamer.inference.engines.torch import TorchEngine, choose_device
from streamer.model import checkpoint, hub
from streamer.model.ast import AST
from streamer.model.config import ASTConfig, FbankConfig, read_config
from streamer.model.fbank import Fbank
from streamer.model.labels import AUDIOSET
from streamer.types import Window

RANDOM_BASE = "ast-base"
"""the published size with random weights: as fast as any weights are"""

Score = Callable[[Sequence[Window]], object]


@dataclass(frozen=True, slots=True)
class Runner:
    """One program that turns windows into scores."""

    engine: str
    dtype: str
    score: Score
    peak_mb: float
    """memory it took to load and to score the largest batch"""


@dataclass(frozen=True, slots=True)
class Row:
    model: str
    engine: str
    dtype: str
    batch: int
    ms_a_window: float
    cpu_ms_a_window: float
    """processor time of all threads: what a busy machine does not stretch"""
    windows_a_second: float
    real_time_factor: float
    """seconds of work for a second of one source at the hop"""
    matrix_share: float
    """of the rate at which this device multiplies bfloat16 matrices and does nothing else"""
    sources: int
    """what one could listen to at the hop, all the time busy"""
    peak_mb: float
    ratio: float
    """its time by ours, the median over the rounds: above 1 it is slower"""
    cpu_ratio: float
    """the same of processor time"""


def run(
    *,
    models: Sequence[str],
    rivals: Sequence[str],
    device: str = "auto",
    threads: int = 0,
    hop_s: float = 1.0,
    rounds: int = 5,
    batches: Sequence[int] = (1, 4),
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Plain values, ready for JSON. Raises ModelError, and UsageError for a rival that is not installed."""
    if threads:
        torch.set_num_threads(threads)
    threads = torch.get_num_threads()
    rate = matrix_rate(choose_device(device))
    rows: list[Row] = []
    for model in models:
        with _directory(model) as directory:
            settings = ModelSettings(
                path=str(directory), device=device, threads=threads, max_batch=max(batches)
            )
            windows = _windows(directory, max(batches))
            share = flop(read_config(directory)[0]) / rate
            runners = []
            for name, load in _loaders(settings, rivals):
                progress(f"{model}: loading {name}")
                runners.append(_measured_load(name, load, windows, settings))
            progress(f"{model}: {rounds} rounds of {len(runners)} engines at batches of {list(batches)}")
            for batch in batches:
                seconds = _interleave([runner.score for runner in runners], windows[:batch], rounds)
                rows += _rows(model, runners, seconds, batch, hop_s, share)
    return {
        "machine": machine(device),
        "date": time.strftime("%Y-%m-%d"),
        "threads": threads,
        "matrix_tflops": round(rate / 1e12, 3),
        "load": round(os.getloadavg()[0], 1),
        "versions": {name: _version(name) for name in ("torch", "transformers", "openvino")},
        "rows": [asdict(row) for row in rows],
    }


def flop(config: ASTConfig) -> float:
    """Floating-point operations of a window: the matrix products of the published network."""
    h, (f, t) = config.hidden_size, config.grid
    n = f * t + 2
    layer = 2 * n * h * (4 * h + 2 * config.intermediate_size) + 4 * n * n * h
    return float(config.num_hidden_layers * layer + 2 * n * h * config.patch_size**2)


@torch.inference_mode()
def matrix_rate(device: torch.device) -> float:
    """Operations a second of large bfloat16 matrix products, the best of five."""
    n = 8192 if device.type == "cuda" else 1536
    a = torch.randn(n, n, device=device).bfloat16()
    seconds = []
    for _ in range(6):
        started = time.perf_counter()
        product = a @ a
        product[0, 0].item()  # waits for the device
        seconds.append(time.perf_counter() - started)
    return 2 * n**3 / min(seconds[1:])


def machine(device: str) -> str:
    """The processor, or the card, by name."""
    if device.startswith("cuda") or (device == "auto" and torch.cuda.is_available()):
        return torch.cuda.get_device_name(torch.device("cuda" if device == "auto" else device))
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} CPUs"


def _interleave(
    scores: Sequence[Score], windows: Sequence[Window], rounds: int
) -> list[list[tuple[float, float]]]:
    """Seconds, and seconds of processor time, by engine and round."""
    seconds: list[list[tuple[float, float]]] = [[] for _ in scores]
    for score in scores:  # shapes that were not seen before take longer
        score(windows)
    for _ in range(rounds):
        for i, score in enumerate(scores):
            started, cpu_started = time.perf_counter(), time.process_time()
            score(windows)
            seconds[i].append((time.perf_counter() - started, time.process_time() - cpu_started))
    return seconds


def _rows(
    model: str,
    runners: Sequence[Runner],
    seconds: list[list[tuple[float, float]]],
    batch: int,
    hop_s: float,
    share: float,
) -> Iterator[Row]:
    for runner, own in zip(runners, seconds, strict=True):
        window, cpu = (statistics.median(kind) / batch for kind in zip(*own, strict=True))
        pairs = list(zip(own, seconds[0], strict=True))
        yield Row(
            model=model,
            engine=runner.engine,
            dtype=runner.dtype,
            batch=batch,
            ms_a_window=round(1000 * window, 2),
            cpu_ms_a_window=round(1000 * cpu, 2),
            windows_a_second=round(1 / window, 2),
            real_time_factor=round(window / hop_s, 4),
            matrix_share=round(share / window, 3),
            sources=int(hop_s / window),
            peak_mb=round(runner.peak_mb),
            ratio=round(statistics.median(theirs[0] / ours[0] for theirs, ours in pairs), 2),
            cpu_ratio=round(statistics.median(theirs[1] / ours[1] for theirs, ours in pairs), 2),
        )


def _loaders(
    settings: ModelSettings, rivals: Sequence[str]
) -> Iterator[tuple[str, Callable[[ModelSettings], tuple[str, Score]]]]:
    yield "streamer", _load_streamer
    if "transformers" in rivals:
        yield "transformers", _load_transformers(torch.float32)
        yield "transformers", _load_transformers(torch.bfloat16)
    if "openvino" in rivals and torch.device(settings.device.replace("auto", "cpu")).type == "cpu":
        yield "openvino", _load_openvino


def _load_streamer(settings: ModelSettings) -> tuple[str, Score]:
    engine = TorchEngine(settings)
    return str(engine.dtype).removeprefix("torch."), engine.score


def _load_transformers(dtype: torch.dtype) -> Callable[[ModelSettings], tuple[str, Score]]:
    def load(settings: ModelSettings) -> tuple[str, Score]:
        try:
            from transformers import ASTFeatureExtractor, ASTForAudioClassification  # noqa: PLC0415  # optional
        except ImportError as error:
            raise UsageError("transformers is not installed: pip install 'streamer[bench]'") from error
        device = "cuda" if settings.device == "auto" and torch.cuda.is_available() else settings.device
        device = "cpu" if device == "auto" else device
        extractor = ASTFeatureExtractor.from_pretrained(settings.path)
        network = ASTForAudioClassification.from_pretrained(settings.path, dtype=dtype)
        network.to(torch.device(device)).eval()  # type: ignore[arg-type]  # theirs is wrapped

        @torch.inference_mode()
        def score(windows: Sequence[Window]) -> object:
            audio = [window.samples for window in windows]
            features = extractor(audio, sampling_rate=windows[0].sample_rate, return_tensors="pt")
            logits = network(features["input_values"].to(device, dtype)).logits
            return logits.float().sigmoid().cpu().numpy()

        return str(dtype).removeprefix("torch."), score

    return load


def _load_openvino(settings: ModelSettings) -> tuple[str, Score]:
    try:
        import openvino  # noqa: PLC0415  # optional
    except ImportError as error:
        raise UsageError("openvino is not installed: pip install 'streamer[bench]'") from error
    loaded = checkpoint.load(Path(settings.path))
    fbank = Fbank(loaded.fbank)
    example = torch.zeros(1, loaded.fbank.max_length, loaded.fbank.num_mel_bins)
    graph = openvino.convert_model(_Clip(loaded.network), example_input=example)
    graph.reshape([-1, *example.shape[1:]])
    options = {"INFERENCE_PRECISION_HINT": "bf16", "INFERENCE_NUM_THREADS": settings.threads}
    compiled = openvino.Core().compile_model(graph, "CPU", options)

    @torch.inference_mode()
    def score(windows: Sequence[Window]) -> object:
        features = fbank(torch.from_numpy(np.stack([window.samples for window in windows])))
        return 1 / (1 + np.exp(-compiled(features.numpy())[0]))

    return "bfloat16", score


class _Clip(torch.nn.Module):
    """The scores of the window alone: a graph has no room for None."""

    def __init__(self, network: AST) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(x)[0]
        return logits


def _measured_load(
    name: str,
    load: Callable[[ModelSettings], tuple[str, Score]],
    windows: Sequence[Window],
    settings: ModelSettings,
) -> Runner:
    before = _reset_peak()
    dtype, score = load(settings)
    score(windows)
    return Runner(name, dtype, score, _peak_mb() - before)


def _reset_peak() -> float:
    """Megabytes in use; from now on the peak counts anew."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / 1e6
    with suppress(OSError):  # some containers forbid it; the peak is then that of the process so far
        Path("/proc/self/clear_refs").write_text("5")
    return _status_mb("VmRSS")


def _peak_mb() -> float:
    return torch.cuda.max_memory_allocated() / 1e6 if torch.cuda.is_available() else _status_mb("VmHWM")


def _status_mb(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024 / 1e6


@contextmanager
def _directory(model: str) -> Iterator[Path]:
    """Where the model lies; AST-base is made for the occasion."""
    if model != RANDOM_BASE:
        yield hub.resolve(model)
        return
    with tempfile.TemporaryDirectory(prefix="streamer-bench-") as folder:
        directory = Path(folder) / RANDOM_BASE
        torch.manual_seed(0)
        network = AST(ASTConfig(id2label=dict(enumerate(AUDIOSET))))
        checkpoint.save(directory, network, FbankConfig())
        yield directory


def _windows(directory: Path, n: int) -> list[Window]:
    _, fbank = read_config(directory)
    rng = np.random.default_rng(0)
    n_samples = round(fbank.window_s * fbank.sampling_rate)
    return [
        Window(
            source_id=f"source-{i}",
            index=0,
            samples=rng.uniform(-0.1, 0.1, n_samples).astype(np.float32),
            sample_rate=fbank.sampling_rate,
            start=0.0,
            end=fbank.window_s,
        )
        for i in range(n)
    ]


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
