"""Heads for taught sounds: further labels of a model, computed from its embeddings, for any engine."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from streamer.config.schema import taught_label
from streamer.inference.worker import Engine
from streamer.types import Samples, Scores, Window

BEST = 3
"""time steps of a window whose mean makes the score of the window"""


@dataclass(frozen=True)
class Head:
    """One taught sound: a linear function of the direction of an embedding, seen from a centre."""

    name: str
    centre: list[float]
    """(size,) of embeddings of other sounds"""
    weights: list[float]
    """(size,)"""
    bias: float

    @property
    def fingerprint(self) -> str:
        """Tells it from another of its name."""
        values = np.array([*self.centre, *self.weights, self.bias], np.float32)
        return hashlib.sha256(values.tobytes()).hexdigest()


class HeadedEngine:
    """An engine whose scores have the labels of heads behind the model's own."""

    def __init__(self, engine: Engine, heads: Sequence[Head]) -> None:
        """`engine` is one that gives embeddings."""
        self._engine = engine
        self._centres = np.array([head.centre for head in heads], np.float32)
        self._weights = np.array([head.weights for head in heads], np.float32)
        self._biases = np.array([head.bias for head in heads], np.float32)
        self.labels: Sequence[str] = (*engine.labels, *(taught_label(head.name) for head in heads))
        self.name, self.device, self.chosen = engine.name, engine.device, engine.chosen
        self.sample_rate, self.max_batch = engine.sample_rate, engine.max_batch
        self._taught = ", ".join(head.name for head in heads)

    @property
    def window_s(self) -> float:
        return self._engine.window_s

    @property
    def kind(self) -> str:
        return self._engine.kind

    def describe(self) -> str:
        """One line for people: which model, on what, and what was taught."""
        return f"{self._engine.describe()}; taught: {self._taught}"

    def score(self, windows: Sequence[Window]) -> list[Scores]:
        """As the engine's own, with the labels of the heads behind the model's. Raises InferenceError."""
        return [self._with_heads(scores) for scores in self._engine.score(windows)]

    def fastest_hop(self, n_sources: int) -> float:
        """As the engine's own: heads take no time."""
        return self._engine.fastest_hop(n_sources)

    def _with_heads(self, scores: Scores) -> Scores:
        if scores.embeddings is None:
            raise RuntimeError("the engine gives no embeddings")
        logits = np.stack(
            [
                directions(scores.embeddings, centre) @ weights
                for centre, weights in zip(self._centres, self._weights, strict=True)
            ],
            axis=1,
        )
        logits += self._biases
        frames = scores.frames
        return replace(
            scores,
            clip=np.append(scores.clip, sigmoid(of_window(logits))).astype(np.float32),
            frames=None if frames is None else np.concatenate((frames, sigmoid(logits)), axis=1),
            embeddings=None,
        )


def directions(embeddings: npt.ArrayLike, centre: npt.ArrayLike) -> Samples:
    """(..., size) -> (..., size), of length 1: what a head is a linear function of."""
    apart = np.asarray(embeddings, np.float32) - np.asarray(centre, np.float32)
    return np.asarray(apart / (np.linalg.norm(apart, axis=-1, keepdims=True) + 1e-9), np.float32)


def of_window(logits: Samples) -> Samples:
    """(t, n) -> (n,): the mean of the highest few time steps, of each column."""
    return np.asarray(np.sort(logits, axis=0)[-BEST:].mean(axis=0), np.float32)


def sigmoid(logits: Samples) -> Samples:
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -30, 30))), np.float32)
