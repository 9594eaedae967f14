"""The engine: the same scores as `transformers`, whatever the batch, the rate, the length or the dtype."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from streamer.config.schema import ModelSettings
from streamer.errors import InferenceError, ModelError
from streamer.inference.engines import processor, speed
from streamer.inference.engines.cuda_graphs import graph_sizes
from streamer.inference.engines.packed import can_pack, pack
from streamer.inference.engines.torch import TorchEngine, choose_dtype
from streamer.model import checkpoint
from tests.inference import models
from tests.inference.models import window


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.directory(tmp_path_factory.mktemp("models") / "small")


def _engine(directory: Path, **settings: object) -> TorchEngine:
    values: dict[str, object] = {"path": str(directory), "device": "cpu", "dtype": "float32", "threads": 1}
    return TorchEngine(ModelSettings(**{**values, **settings}))  # type: ignore[arg-type]  # mixed values


def test_what_it_says_of_itself(directory: Path) -> None:
    """Labels, window and frames come from the model's files; one line tells people the rest."""
    engine = _engine(directory)

    assert engine.labels == tuple(f"sound {i}" for i in range(7))
    assert (engine.window_s, engine.frame_s, engine.sample_rate) == (1.0, 0.16, 16000)
    line = engine.describe()
    for word in ("small", "7 labels", "1 s", "0.16 s", "CPU", "float32", "1 thread"):
        assert word in line
    assert "1 threads" not in line


@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_bfloat16_is_near_float32(tmp_path: Path, activation: str) -> None:
    """The faster arithmetic changes no score by more than 0.02."""
    wide = models.directory(
        tmp_path / "wide",
        hidden_size=192,
        num_attention_heads=3,
        num_hidden_layers=6,
        intermediate_size=768,
        hidden_act=activation,
        qkv_bias=activation == "gelu",
    )
    windows = [window(i) for i in range(3)]

    exact = _engine(wide).score(windows)
    fast = _engine(wide, dtype="bfloat16").score(windows)

    for a, b in zip(exact, fast, strict=True):
        assert a.clip.std() > 0.01, "a test of scores that are all alike would prove nothing"
        np.testing.assert_allclose(a.clip, b.clip, atol=2e-2)
        np.testing.assert_allclose(a.frames, b.frames, atol=2e-2)  # type: ignore[arg-type]  # it has a head


def test_packed_weights_compute_the_same(directory: Path) -> None:
    """Laid-out weights and the fused activation are the same network: in float32 to rounding."""
    plain = checkpoint.load(directory).network
    packed = checkpoint.load(directory).network
    pack(packed)
    x = torch.randn(2, 128, 128)

    with torch.inference_mode():
        for ours, expected in zip(packed(x), plain(x), strict=True):
            torch.testing.assert_close(ours, expected, atol=1e-4, rtol=0)


def test_attention_by_heads_is_attention(directory: Path) -> None:
    """The way of bfloat16 on a CPU through attention is torch's own, to rounding of bfloat16."""
    network = checkpoint.load(directory).network.bfloat16()
    x = torch.randn(2, 128, 128).bfloat16()

    with torch.no_grad():
        expected = network(x)[0].float().sigmoid()
    with torch.inference_mode():
        torch.testing.assert_close(network(x)[0].float().sigmoid(), expected, atol=2e-2, rtol=0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="what is refused is there")
def test_cuda_where_there_is_none(directory: Path) -> None:
    """Asking for CUDA where there is none is an error, never a silent CPU; auto takes the CPU."""
    with pytest.raises(ModelError, match="device cuda: 0 CUDA devices"):
        _engine(directory, device="cuda")
    assert _engine(directory, device="auto").device.type == "cpu"


@pytest.mark.parametrize(
    ("flags", "units"),
    [("fpu avx2 avx512f", ""), ("fpu avx512_bf16", "AVX512-BF16"), ("fpu avx512_bf16 amx_bf16", "AMX")],
)
def test_auto_dtype(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flags: str, units: str) -> None:
    """`auto` takes bfloat16 only where the CPU has units for it and can do the operation, and says why."""
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    monkeypatch.setattr(processor, "CPUINFO", cpuinfo)
    monkeypatch.setattr(processor.platform, "machine", lambda: "x86_64")

    dtype, why = choose_dtype("auto", torch.device("cpu"))

    if not units:
        assert (dtype, why) == (torch.float32, "the CPU has no bfloat16 units")
    elif can_pack(torch.bfloat16):
        assert (dtype, why) == (torch.bfloat16, f"the CPU has {units}")
    else:
        assert (dtype, why) == (torch.float32, "this CPU has no bfloat16 operations")


def test_bfloat16_where_the_cpu_has_no_such_operation(directory: Path) -> None:
    """A dtype that the machine cannot do is said, and float32 takes its place; seen as an AVX2 CPU would."""
    program = (
        "import sys\n"
        "from streamer.config.schema import ModelSettings\n"
        "from streamer.inference.engines.torch import TorchEngine\n"
        "engine = TorchEngine(ModelSettings(path=sys.argv[1], device='cpu', dtype='bfloat16'))\n"
        "print(engine.dtype, engine.describe())\n"
    )
    masked = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
    done = subprocess.run(
        [sys.executable, "-c", program, str(directory)],
        env=masked,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("torch.float32 ")
    assert "no bfloat16 operations" in done.stdout


class _Narrow(nn.Module):
    """A network on a device that has room for so many windows."""

    def __init__(self, network: nn.Module, room: int) -> None:
        super().__init__()
        self.network, self.room = network, room
        self.batches: list[int] = []

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        self.batches.append(len(x))
        if len(x) > self.room:
            raise torch.OutOfMemoryError("no room")
        return self.network(x)  # type: ignore[no-any-return]


def test_out_of_memory_falls_to_single_windows(directory: Path) -> None:
    """A batch that does not fit is scored one by one, and so is every later one."""
    engine = _engine(directory)
    windows = [window(i) for i in range(3)]
    expected = engine.score(windows)
    engine._network = narrow = _Narrow(engine._network, room=1)  # type: ignore[assignment]

    scores = engine.score(windows)
    engine.score(windows)

    assert narrow.batches == [3, 1, 1, 1, 1, 1, 1]
    np.testing.assert_allclose(scores[2].clip, expected[2].clip, atol=1e-5)


def test_out_of_memory_for_one_window_is_the_end(directory: Path) -> None:
    """Where not even one window fits, the engine fails, and goes on failing with the same line."""
    engine = _engine(directory)
    engine._network = narrow = _Narrow(engine._network, room=0)  # type: ignore[assignment]

    for _ in range(2):
        with pytest.raises(InferenceError, match="cpu: out of memory for a single window"):
            engine.score([window(0), window(1)])
    assert narrow.batches == [2, 1], "a device that failed is left alone"


class _Failing(nn.Module):
    """A network on a device that has broken."""

    calls = 0

    def forward(self, _: Tensor) -> tuple[Tensor, Tensor | None]:
        self.calls += 1
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nCompile with …")


def test_other_errors_of_the_device_are_the_end(directory: Path) -> None:
    """After any other error the device is not touched again: one clear line, each time."""
    engine = _engine(directory)
    engine._network = failing = _Failing()  # type: ignore[assignment]

    for _ in range(2):
        with pytest.raises(
            InferenceError, match=r"^cpu: CUDA error: an illegal memory access was encountered$"
        ):
            engine.score([window()])
    assert failing.calls == 1


class _Slow(nn.Module):
    """A network that takes so many seconds a window, on a clock of its own."""

    def __init__(self, network: nn.Module, seconds: float) -> None:
        super().__init__()
        self.network, self.seconds, self.now = network, seconds, 0.0

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        self.now += self.seconds * len(x)
        return self.network(x)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("seconds", "n_sources", "expected"),
    [(0.04, 1, 0.1), (0.06, 1, 0.2), (0.06, 2, 0.25), (0.06, 4, 0.5), (0.3, 3, 2.0), (2.0, 3, 5.0)],
)
def test_fastest_hop_keeps_it_under_half_busy(
    directory: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, n_sources: int, expected: float
) -> None:
    """The shortest hop of the list at which all sources together take less than half of the time."""
    engine = _engine(directory)
    engine._network = slow = _Slow(engine._network, seconds)  # type: ignore[assignment]
    monkeypatch.setattr(speed.time, "monotonic", lambda: slow.now)

    assert expected == engine.fastest_hop(n_sources)


@pytest.mark.parametrize(
    ("max_batch", "expected"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (16, [1, 2, 4, 8, 16])]
)
def test_graph_sizes(max_batch: int, expected: list[int]) -> None:
    """One graph for each power of two, and one for the largest batch."""
    assert expected == graph_sizes(max_batch)
