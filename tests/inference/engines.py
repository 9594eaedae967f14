"""Engines that a child process can load in place of the model: quick ones, and ones that fail in each way."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from streamer.config.schema import ModelSettings
from streamer.errors import InferenceError, ModelError
from streamer.types import Scores, Window

LABELS = ("Speech", "Smoke detector, smoke alarm", "Siren")


class Quick:
    """Scores each window by its mean, so that a test can tell whose scores came back."""

    labels: Sequence[str] = LABELS
    window_s = 1.0
    kind = "quick"

    def __init__(self, settings: ModelSettings) -> None:
        self.device = "cpu" if settings.device == "auto" else settings.device

    def describe(self) -> str:
        return f"quick on {self.device}"

    def fastest_hop(self, n_sources: int) -> float:
        return 0.1 * n_sources

    def score(self, windows: Sequence[Window]) -> list[Scores]:
        return [
            Scores(
                window.source_id,
                window.index,
                window.start,
                window.end,
                clip=np.full(len(LABELS), window.samples.mean(), np.float32),
                frames=np.full((4, len(LABELS)), window.samples.max(), np.float32),
                frame_s=0.25,
            )
            for window in windows
        ]


class Slow(Quick):
    """Needs two seconds a batch."""

    def score(self, windows: Sequence[Window]) -> list[Scores]:
        time.sleep(2)
        return super().score(windows)


class Fragile(Quick):
    """Fails with a window whose index is that of a kind of failure; the first of each kind, or always."""

    FAILURES = ("kill", "error", "hang", "memory")

    def score(self, windows: Sequence[Window]) -> list[Scores]:
        for window in windows:
            self._fail(window.source_id)
        return super().score(windows)

    def _fail(self, kind: str) -> None:
        if kind == "poison":
            os.kill(os.getpid(), signal.SIGKILL)
        mark = Path(os.environ["STREAMER_TEST_MARKS"]) / kind
        if kind not in self.FAILURES or mark.exists():
            return
        mark.touch()
        match kind:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "error":
                raise InferenceError("an illegal memory access was encountered")
            case "hang":
                time.sleep(1e6)
            case "memory":
                raise MemoryError


class NoCuda(Quick):
    """A GPU that fails at every start, as where the driver is gone."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__(settings)
        if self.device.startswith("cuda"):
            raise ModelError("device cuda: 0 CUDA devices are here")


class FailingCuda(Quick):
    """A GPU that starts, and fails with the first window."""

    def score(self, windows: Sequence[Window]) -> list[Scores]:
        if self.device.startswith("cuda"):
            raise InferenceError("cuda: unspecified launch failure")
        return super().score(windows)


class Missing(Quick):
    """A model that is not there."""

    def __init__(self, settings: ModelSettings) -> None:
        raise ModelError(f"model {settings.path}: no such directory")
