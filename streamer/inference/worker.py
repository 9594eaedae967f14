"""Who scores windows: an engine in this process, a worker for the daemon.

Another runtime is another `Engine`, one line in `engines/__init__.py`. Another place (a child process, a
machine) is another `Worker`, one line in `open_worker`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from streamer.types import Scores, Window


class Scorer(Protocol):
    """Scores windows: an engine, or what a measurement puts in its place."""

    @property
    def labels(self) -> Sequence[str]:
        """Of its outputs, in order."""

    @property
    def window_s(self) -> float:
        """Seconds that it sees at once."""

    def score(self, windows: Sequence[Window]) -> list[Scores]:
        """Scores of windows of any sources, rates and lengths, in their order. Raises InferenceError."""


class Engine(Scorer, Protocol):
    """A model that is loaded in this process. Synchronous, and used by one thread at a time."""

    name: str
    sample_rate: int
    """Hertz of its features; windows may have any rate"""
    max_batch: int
    """most windows that it computes together"""
    device: object
    """that it is on; as text `cpu`, `cuda` or `cuda:N`"""
    chosen: str
    """why this engine, a clause for people; empty where it was asked for"""

    @property
    def kind(self) -> str:
        """Runtime and arithmetic, such as `torch, bfloat16`."""

    def describe(self) -> str:
        """One line for people: which model, on what."""

    def fastest_hop(self, n_sources: int) -> float:
        """The shortest hop, seconds, at which so many sources keep it under half busy; measured."""


@dataclass(frozen=True, slots=True)
class About:
    """What a worker has loaded."""

    labels: tuple[str, ...]
    window_s: float
    device: str
    engine: str
    """runtime and arithmetic"""
    describe: str
    """one line for people"""
    hop_s: float | None
    """the shortest step that it keeps up with, where that was asked for"""


class Worker(Protocol):
    """Serves the event loop. Windows of several sources become batches.

    It counts `batches`, `batch_windows`, `inference_s` and `worker_restarts` in `Metrics`, and names there
    `devices` and `engine`.
    """

    async def start(self) -> About:
        """Load the model. Raises ModelError."""

    async def score(self, window: Window) -> Scores:
        """Raises InferenceError where this window cannot be scored; the next one may be tried at once."""

    def describe(self) -> str:
        """One phrase for people: what the model runs on, or why it does not."""

    def problem(self) -> str | None:
        """What a watchdog must know, a clause for people; None while it is alive or recovers by itself."""

    async def close(self) -> None:
        """End it. May be called twice."""
