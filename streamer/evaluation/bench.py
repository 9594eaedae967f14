"""How fast the engines are, beside others, from audio to scores; interleaved, so that all share the noise."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from streamer.config.schema import ModelSettings
from streamer.errors import UsageError
from streamer.evaluation.timed import Load, Score
from streamer.inference.engines import open_engine
from streamer.inference.engines.processor import processor_name
from streamer.model import hub
from streamer.model.config import ASTConfig, read_config
from streamer.types import Window

RANDOM_BASE = "ast-base"
"""the published size with random weights"""
OWN = ("torch", "onnx", "openvino")
"""the engines"""
VERSIONS = ("torch", "onnxruntime", "transformers", "openvino")
FEWEST = 3
"""rounds, however long they take"""

Times = list[tuple[float, float]]
"""seconds, and seconds of processor time, by round"""


@dataclass(frozen=True, slots=True)
class Bench:
    """What is measured, and how."""

    vs_transformers: bool = False
    device: str = "auto"
    threads: int = 0
    hop_s: float = 1.0
    rounds: int = 5
    batches: Sequence[int] = (1, 4)
    limit_s: float = 60.0
    """a batch size of a model has fewer rounds where they would take longer, but never fewer than three"""

    @property
    def n_threads(self) -> int:
        return self.threads or len(os.sched_getaffinity(0))

    @property
    def card(self) -> str:
        """The CUDA device; empty for the CPU."""
        return _with_torch().card(self.device) if _has("torch") else ""


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
    matrix_share: float | None
    """of the rate at which this device multiplies matrices of this dtype; None where that is not known"""
    sources: int
    """what one could listen to at the hop, all the time busy"""
    peak_mb: float
    """memory it took to load and to score the largest batch"""
    ratio: float
    """its time by that of the fastest engine of ours that rounds no score away, the median over the rounds"""
    cpu_ratio: float
    """the same of processor time"""
    rounds: int


@dataclass(frozen=True, slots=True)
class _Runner:
    """One program that turns windows into scores."""

    engine: str
    dtype: str
    score: Score
    peak_mb: float
    is_ours: bool


def about(bench: Bench, rate: Mapping[str, float]) -> dict[str, Any]:
    """The machine and what runs on it, plain values. Raises ModelError for a device that is not there."""
    return {
        "machine": bench.card or f"{processor_name()}, {os.cpu_count()} CPUs",
        "date": time.strftime("%Y-%m-%d"),
        "threads": bench.n_threads,
        "matrix_tflops": {dtype: round(one / 1e12, 3) for dtype, one in rate.items()},
        "load": round(os.getloadavg()[0], 1),
        "versions": {name: _version(name) for name in VERSIONS},
    }


def rates(bench: Bench) -> dict[str, float]:
    """Operations a second of matrix products by dtype, for those that the device has units for."""
    if not _has("torch"):
        return {"float32": _float32_rate()}
    torch = _with_torch()
    dtypes = ["float32", *(["bfloat16"] if torch.has_bfloat16(bench.device) else [])]
    return {dtype: torch.matrix_rate(bench.device, dtype) for dtype in dtypes}


def rows(
    models: Sequence[str], bench: Bench, rate: Mapping[str, float], progress: Callable[[str], None]
) -> Iterator[Row]:
    """Each as soon as it is measured. Raises ModelError, and UsageError for what is not installed."""
    for model in models:
        with _directory(model) as directory:
            settings = ModelSettings(
                path=str(directory),
                device=bench.device,
                threads=bench.n_threads,
                max_batch=max(bench.batches),
            )
            windows = _windows(directory, max(bench.batches))
            work = flop(read_config(directory)[0])
            runners = []
            for name, load in _loaders(bench, settings):
                progress(f"{model}: loading {name}")
                runners.append(_loaded(name, load, windows, settings, on_cuda=bool(bench.card)))
            runners = list({(one.engine, one.dtype): one for one in runners}.values())
            for batch in bench.batches:
                progress(f"{model}: {len(runners)} engines at a batch of {batch}")
                times = _interleave([runner.score for runner in runners], windows[:batch], bench)
                yield from _rows(model, runners, times, batch, bench.hop_s, work, rate)


def flop(config: ASTConfig) -> float:
    """Floating-point operations of a window: the matrix products of the published network."""
    h, (f, t) = config.hidden_size, config.grid
    n = f * t + 2
    layer = 2 * n * h * (4 * h + 2 * config.intermediate_size) + 4 * n * n * h
    return float(config.num_hidden_layers * layer + 2 * n * h * config.patch_size**2)


def _loaders(bench: Bench, settings: ModelSettings) -> Iterator[tuple[str, Load]]:
    """Ours, then the others."""
    if _has("torch"):
        yield "torch", partial(_own, "torch", "auto")
        yield "torch", partial(_own, "torch", "float32")
    if not bench.card:
        yield "onnx", partial(_own, "onnx", "float32")
        yield "onnx", partial(_own, "onnx", "int8")
    if not bench.card and _has("openvino"):
        yield "openvino", partial(_own, "openvino", "auto")
    if bench.vs_transformers and not _has("transformers"):
        raise UsageError("transformers is not installed: pip install 'streamer[bench]'")
    if bench.vs_transformers:
        yield from (("transformers", load) for load in _with_torch().loaders(settings.first_device))


def _own(engine: str, dtype: str, settings: ModelSettings) -> tuple[str, Score]:
    opened = open_engine(settings.model_copy(update={"engine": engine, "dtype": dtype}))
    return opened.kind.partition(", ")[2], opened.score


def _interleave(scores: Sequence[Score], windows: Sequence[Window], bench: Bench) -> list[Times]:
    times: list[Times] = [[] for _ in scores]
    for score in scores:  # shapes that were not seen before take longer
        score(windows)
    began = time.perf_counter()
    for done in range(bench.rounds):
        if done >= FEWEST and time.perf_counter() - began > bench.limit_s:
            break
        for score, own in zip(scores, times, strict=True):
            started, cpu_started = time.perf_counter(), time.process_time()
            score(windows)
            own.append((time.perf_counter() - started, time.process_time() - cpu_started))
    return times


def _rows(
    model: str,
    runners: Sequence[_Runner],
    times: Sequence[Times],
    batch: int,
    hop_s: float,
    work: float,
    rate: Mapping[str, float],
) -> Iterator[Row]:
    ours = [
        own for runner, own in zip(runners, times, strict=True) if runner.is_ours and runner.dtype != "int8"
    ]
    best = min(ours, key=lambda own: statistics.median(seconds for seconds, _ in own))
    for runner, own in zip(runners, times, strict=True):
        window, cpu = (statistics.median(kind) / batch for kind in zip(*own, strict=True))
        pairs = list(zip(own, best, strict=True))
        share = work / window / rate[runner.dtype] if runner.dtype in rate else None
        yield Row(
            model=model,
            engine=runner.engine,
            dtype=runner.dtype,
            batch=batch,
            ms_a_window=round(1000 * window, 2),
            cpu_ms_a_window=round(1000 * cpu, 2),
            windows_a_second=round(1 / window, 2),
            real_time_factor=round(window / hop_s, 4),
            matrix_share=None if share is None else round(share, 3),
            sources=int(hop_s / window),
            peak_mb=round(runner.peak_mb),
            ratio=round(statistics.median(mine[0] / theirs[0] for mine, theirs in pairs), 2),
            cpu_ratio=round(statistics.median(mine[1] / theirs[1] for mine, theirs in pairs), 2),
            rounds=len(own),
        )


def _loaded(
    name: str, load: Load, windows: Sequence[Window], settings: ModelSettings, *, on_cuda: bool
) -> _Runner:
    before = _with_torch().reset_peak() if on_cuda else _reset_peak()
    dtype, score = load(settings)
    score(windows)
    peak = _with_torch().peak_mb() if on_cuda else _status_mb("VmHWM")
    return _Runner(name, dtype, score, peak - before, is_ours=name in OWN)


def _reset_peak() -> float:
    """Megabytes in use; from now on the peak counts anew."""
    with suppress(OSError):  # some containers forbid it; the peak is then that of the process so far
        Path("/proc/self/clear_refs").write_text("5")
    return _status_mb("VmRSS")


def _status_mb(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024 / 1e6


def _float32_rate() -> float:
    """As `rivals.matrix_rate`, where torch is not installed."""
    n = 1536
    a = np.random.default_rng(0).standard_normal((n, n), np.float32)
    seconds = []
    for _ in range(6):
        started = time.perf_counter()
        a @ a
        seconds.append(time.perf_counter() - started)
    return 2 * n**3 / min(seconds[1:])


def _has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _with_torch() -> Any:
    from streamer.evaluation import rivals  # noqa: PLC0415  # loads torch, which need not be installed

    return rivals


def _directory(model: str) -> AbstractContextManager[Path]:
    """Where the model lies; AST-base is made for the occasion."""
    if model != RANDOM_BASE:
        return nullcontext(hub.resolve(model))
    if not _has("torch"):
        raise UsageError(
            f"{RANDOM_BASE} is made by torch: pip install 'streamer[torch]', or name another --model"
        )
    made: AbstractContextManager[Path] = _with_torch().random_base()
    return made


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
