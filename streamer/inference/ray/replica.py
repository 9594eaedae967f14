"""One copy of the model in a cluster: it runs in a process that Ray started, on any of its machines."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from streamer import __version__
from streamer.config.schema import ModelSettings
from streamer.errors import InferenceError
from streamer.inference.engines import open_engine
from streamer.inference.engines.speed import noise
from streamer.inference.heads import Head
from streamer.types import Samples, Scores, Window

Sent: TypeAlias = tuple[npt.NDArray[np.int16] | Samples, int]
"""samples of a window, and hertz"""
FULL_SCALE = 32767
"""of int16"""


@dataclass(frozen=True)
class Answer:
    """The scores of a window for the labels that were asked for."""

    clip: npt.NDArray[np.floating[Any]]
    frames: npt.NDArray[np.floating[Any]] | None
    frame_s: float


@dataclass(frozen=True)
class AboutReplica:
    """What it has loaded."""

    version: str
    """of this program"""
    labels: tuple[str, ...]
    window_s: float
    sample_rate: int
    engine: str
    describe: str


class Replica:
    """Scores batches of windows. Ray asks for its health now and then, and replaces one that is not well."""

    def __init__(self, settings: dict[str, Any], engine: str | None, heads: Sequence[dict[str, Any]]) -> None:
        """As `open_engine`, of plain values. Raises ModelError."""
        self._engine = open_engine(
            ModelSettings.model_validate(settings, strict=False),
            engine,
            heads=[Head(**head) for head in heads],
        )
        self._turn = threading.Lock()
        self._has_scored = True

    def about(self) -> AboutReplica:
        engine = self._engine
        return AboutReplica(
            __version__,
            tuple(engine.labels),
            engine.window_s,
            getattr(engine, "sample_rate", 16000),
            engine.kind,
            engine.describe(),
        )

    def many(self, sent: Sequence[Sent], columns: Sequence[int]) -> list[Answer | str]:
        """For each window the scores of the labels in `columns`, or why there are none.

        Raises InferenceError where no window at all can be scored.
        """
        windows = [_window(i, samples, rate) for i, (samples, rate) in enumerate(sent)]
        with self._turn:
            try:
                outcomes: list[Scores | str] = [*self._engine.score(windows)]
            except InferenceError:
                if len(windows) == 1:
                    raise
                outcomes = [self._alone(window) for window in windows]
        failures = [outcome for outcome in outcomes if isinstance(outcome, str)]
        if len(failures) == len(outcomes):
            raise InferenceError(failures[0])
        self._has_scored = True
        chosen = np.asarray(columns, np.intp)
        return [
            one if isinstance(one, str) else _answer(one, chosen, samples.dtype)
            for one, (samples, _) in zip(outcomes, sent, strict=True)
        ]

    def check_health(self) -> None:
        """Score noise, unless windows were scored since the last time. Raises InferenceError."""
        if not self._has_scored:
            with self._turn:
                self._engine.score([noise(0, self._engine.window_s, self.about().sample_rate)])
        self._has_scored = False

    def _alone(self, window: Window) -> Scores | str:
        try:
            return self._engine.score([window])[0]
        except InferenceError as error:
            return str(error)


def as_sent(window: Window, payload: str) -> Sent:
    """What travels of a window. Raises InferenceError for samples that no integer can be."""
    if payload == "float32":
        return window.samples, window.sample_rate
    if not np.isfinite(window.samples).all():
        raise InferenceError(f"{window.source_id}: its samples are not finite")
    scaled = np.rint(window.samples * FULL_SCALE).clip(-FULL_SCALE, FULL_SCALE)
    return scaled.astype(np.int16), window.sample_rate


def _window(index: int, samples: npt.NDArray[Any], rate: int) -> Window:
    if samples.dtype == np.int16:
        samples = samples.astype(np.float32) / FULL_SCALE
    return Window("fleet", index, samples, rate, 0.0, len(samples) / rate)


def _answer(scores: Scores, columns: npt.NDArray[np.intp], dtype: np.dtype[Any]) -> Answer:
    """As exact as the samples were: float16 for int16."""
    exact: type[np.floating[Any]] = np.float16 if dtype == np.int16 else np.float32
    frames = None if scores.frames is None else scores.frames[:, columns].astype(exact)
    return Answer(scores.clip[columns].astype(exact), frames, scores.frame_s)
