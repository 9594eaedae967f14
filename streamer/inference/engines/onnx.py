"""From windows to scores by ONNX Runtime on the CPU, without torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial

import numpy as np
import onnxruntime

from streamer.config.schema import ModelSettings
from streamer.errors import InferenceError, ModelError
from streamer.inference.engines.scores import Floats, as_scores
from streamer.inference.engines.speed import fastest_hop, fastest_threads, noise
from streamer.model import hub, weights
from streamer.model.features import Fbank
from streamer.model.onnx_graph import EMBEDDINGS, FEATURES, FRAMES, SCORES, make_graph
from streamer.types import Scores, Window

DTYPES = {
    "auto": ("float32", "no score is rounded"),
    "float32": ("float32", "as configured"),
    "int8": ("int8", "as configured"),
    "bfloat16": ("float32", "ONNX Runtime has no bfloat16 on a CPU"),
}
"""by what is asked for: what is taken, and why"""


class OnnxEngine:
    """A model on the CPU. Synchronous, and used by one thread at a time.

    The graph is made from the weights of the model's directory when it is loaded; no other file is needed.
    """

    device = "cpu"

    def __init__(self, settings: ModelSettings, *, embeds: bool = False) -> None:
        """Load, choose the threads, warm up. With `embeds`, scores have embeddings. Raises ModelError."""
        if settings.first_device.startswith("cuda"):
            raise ModelError(
                f"device {settings.first_device}: the engine onnx has the CPU alone; set engine: torch"
            )
        model = weights.load(hub.resolve(settings.path))
        if settings.window_s is not None:
            model = weights.shorten(model, settings.window_s, settings.position)
        self.dtype, self._why = DTYPES[settings.dtype]
        self.name = model.name
        self.labels = model.labels
        self.sample_rate = model.fbank.sampling_rate
        self.window_s = model.fbank.window_s
        self.frame_s = model.config.frame_s
        # Eight bits take their range from the whole batch: alone, a window's scores do not depend on others.
        self.max_batch = 1 if self.dtype == "int8" else settings.max_batch
        self.chosen = ""
        self._fbank = Fbank(model.fbank)
        # The session refers to these arrays for as long as it lives.
        self._graph, self._weights = make_graph(model, int8=self.dtype == "int8", embeds=embeds)
        self._outputs = [SCORES, *([FRAMES] if self.frame_s else []), *([EMBEDDINGS] if embeds else [])]
        window = noise(0, self.window_s, self.sample_rate)
        self.threads = settings.threads or fastest_threads(
            len(os.sched_getaffinity(0)), lambda n: partial(self._score, self._session_of(n)), window
        )
        self._session = self._session_of(self.threads)
        self.score([window])

    @property
    def kind(self) -> str:
        return f"onnx, {self.dtype}"

    def describe(self) -> str:
        """One line for people: which model, how, on what."""
        frames = f", frames of {self.frame_s:g} s" if self.frame_s else ""
        chosen = f"; {self.chosen}" if self.chosen else ""
        return (
            f"{self.name}: {len(self.labels)} labels, windows of {self.window_s:g} s{frames};"
            f" ONNX Runtime, CPU, {self.dtype} ({self._why}), {self.threads} threads{chosen}"
        )

    def score(self, windows: Sequence[Window]) -> list[Scores]:
        """Scores of windows of any sources, rates and lengths, in their order. Raises InferenceError."""
        scores: list[Scores] = []
        for i in range(0, len(windows), self.max_batch):
            scores += self._score(self._session, windows[i : i + self.max_batch])
        return scores

    def fastest_hop(self, n_sources: int) -> float:
        """The shortest hop at which so many sources keep the engine under half busy, by measurement."""
        return fastest_hop(self.score, n_sources, self.window_s, self.sample_rate)

    def _score(self, session: onnxruntime.InferenceSession, windows: Sequence[Window]) -> list[Scores]:
        try:
            outputs: list[Floats] = session.run(self._outputs, {FEATURES: self._features(windows)})
        except Exception as error:  # the runtime's errors have no class of their own
            raise InferenceError(f"ONNX Runtime: {str(error).splitlines()[0]}") from error
        found = dict(zip(self._outputs, outputs, strict=True))
        return as_scores(
            windows, found[SCORES], found.get(FRAMES), found.get(EMBEDDINGS), self.frame_s, self.dtype
        )

    def _features(self, windows: Sequence[Window]) -> Floats:
        """(B, T, M), whatever rates and lengths the windows have."""
        features = np.concatenate(
            [self._fbank(window.samples[None], window.sample_rate) for window in windows]
        )
        for window, own in zip(windows, features, strict=True):
            if not np.isfinite(own).all():  # which eight bits would hide
                raise InferenceError(f"{window.source_id}: its features are not finite")
        return features

    def _session_of(self, n_threads: int) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = n_threads
        options.log_severity_level = 3
        # Threads that wait by spinning take the processor from what else a home server does.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in self._weights.values()]
        options.add_external_initializers(list(self._weights), values)
        try:
            return onnxruntime.InferenceSession(self._graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # as above
            raise ModelError(f"{self.name}: ONNX Runtime: {str(error).splitlines()[0]}") from error
