"""What the engines that compute an ONNX graph on the CPU share: all but the runtime. None needs torch.

The graph is made from the weights of the model's directory when it is loaded; no other file is needed.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import ClassVar

import numpy as np

from streamer.config.schema import ModelSettings
from streamer.errors import InferenceError, ModelError
from streamer.inference.engines.scores import Floats, as_scores
from streamer.inference.engines.speed import fastest_hop, fastest_threads, noise
from streamer.model import hub, weights
from streamer.model.features import Fbank
from streamer.types import Scores, Window

Network = Callable[[Floats], Sequence[Floats]]
"""(B, T, M) -> (B, N), with a frame head (B, t, N), and (B, t or 1, H) where it embeds"""


class GraphEngine(ABC):
    """A model on the CPU. Synchronous, and used by one thread at a time."""

    device = "cpu"
    engine: ClassVar[str]
    runtime: ClassVar[str]
    """its name for people"""
    dtypes: ClassVar[Mapping[str, tuple[str, str]]]
    """by what is asked for: what is taken, and why"""

    def __init__(self, settings: ModelSettings, *, embeds: bool = False) -> None:
        """Load, choose the threads, warm up. With `embeds`, scores have embeddings. Raises ModelError."""
        if settings.first_device.startswith("cuda"):
            raise ModelError(
                f"device {settings.first_device}: engine {self.engine} has the CPU alone; set engine: torch"
            )
        if settings.dtype not in self.dtypes:
            raise ModelError(f"dtype {settings.dtype}: the engine {self.engine} has none; set engine: auto")
        model = weights.load(hub.resolve(settings.path))
        if settings.window_s is not None:
            model = weights.shorten(model, settings.window_s, settings.position)
        self.dtype, self._why = self.dtypes[settings.dtype]
        self.name = model.name
        self.labels = model.labels
        self.sample_rate = model.fbank.sampling_rate
        self.window_s = model.fbank.window_s
        self.frame_s = model.config.frame_s
        # Eight bits take their range from the whole batch: alone, a window's scores do not depend on others.
        self.max_batch = 1 if self.dtype == "int8" else settings.max_batch
        self.chosen = ""
        self._embeds = embeds
        self._fbank = Fbank(model.fbank)
        self._prepare(model)
        window = noise(0, self.window_s, self.sample_rate)
        self.threads = settings.threads or fastest_threads(
            len(os.sched_getaffinity(0)), lambda n: partial(self._score, self._open(n)), window
        )
        self._network = self._open(self.threads)
        self.score([window])

    @abstractmethod
    def _prepare(self, model: weights.Model) -> None:
        """Make the graph."""

    @abstractmethod
    def _compile(self, n_threads: int) -> Network:
        """Give the graph to the runtime. Its errors may be of any class."""

    @property
    def kind(self) -> str:
        return f"{self.engine}, {self.dtype}"

    def describe(self) -> str:
        """One line for people: which model, how, on what."""
        frames = f", frames of {self.frame_s:g} s" if self.frame_s else ""
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        chosen = f"; {self.chosen}" if self.chosen else ""
        return (
            f"{self.name}: {len(self.labels)} labels, windows of {self.window_s:g} s{frames};"
            f" {self.runtime}, CPU, {self.dtype} ({self._why}), {threads}{chosen}"
        )

    def score(self, windows: Sequence[Window]) -> list[Scores]:
        """Scores of windows of any sources, rates and lengths, in their order. Raises InferenceError."""
        scores: list[Scores] = []
        for i in range(0, len(windows), self.max_batch):
            scores += self._score(self._network, windows[i : i + self.max_batch])
        return scores

    def fastest_hop(self, n_sources: int) -> float:
        """The shortest hop at which so many sources keep the engine under half busy, by measurement."""
        return fastest_hop(self.score, n_sources, self.window_s, self.sample_rate)

    def _score(self, network: Network, windows: Sequence[Window]) -> list[Scores]:
        try:
            outputs = network(self._features(windows))
        except InferenceError:
            raise
        except Exception as error:  # runtimes' errors have no class of their own
            raise InferenceError(f"{self.runtime}: {_line(error)}") from error
        clips, *others = outputs
        embeddings = others.pop() if self._embeds else None
        frames = others.pop() if self.frame_s else None
        return as_scores(windows, clips, frames, embeddings, self.frame_s, self.dtype)

    def _features(self, windows: Sequence[Window]) -> Floats:
        """(B, T, M), whatever rates and lengths the windows have."""
        features = np.concatenate(
            [self._fbank(window.samples[None], window.sample_rate) for window in windows]
        )
        for window, own in zip(windows, features, strict=True):
            if not np.isfinite(own).all():  # which eight bits would hide
                raise InferenceError(f"{window.source_id}: its features are not finite")
        return features

    def _open(self, n_threads: int) -> Network:
        try:
            return self._compile(n_threads)
        except Exception as error:  # as above
            raise ModelError(f"{self.name}: {self.runtime}: {_line(error)}") from error


def _line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
