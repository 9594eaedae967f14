"""The values that stages hand to each other, and the shapes of the stages themselves.

Times are float seconds since the Unix epoch, UTC. Samples are float32, mono, -1..1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Samples: TypeAlias = npt.NDArray[np.float32]
Phase: TypeAlias = Literal["start", "update", "end"]
Priority: TypeAlias = Literal["low", "normal", "high", "critical"]

SILENCE_DBFS = -120.0
"""The level of digital silence: a floor, since the logarithm of zero is no number that travels."""


@dataclass(frozen=True, slots=True, eq=False)
class AudioBlock:
    """What a source captured in one go."""

    samples: Samples
    """(n,) at the source's own rate"""
    captured_at: float
    """when the first sample was captured"""
    discontinuity: bool = False
    """audio was lost between the block before and this one"""


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """What the model sees at once. It needs nothing else: any worker can score any window."""

    source_id: str
    index: int
    """counts the hops of a source from 0; a skipped window leaves a hole in the count"""
    samples: Samples
    """(window_s * sample_rate,)"""
    sample_rate: int
    start: float
    end: float
    has_gap: bool = False
    """a part of it was lost and is silence"""
    warm_up: bool = False
    """it begins before the source did; that part is silence"""


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What the model says of a window: posteriors in 0..1."""

    source_id: str
    index: int
    start: float
    end: float
    clip: npt.NDArray[np.float32]
    """(n_labels,) of the window as a whole"""
    frames: npt.NDArray[np.float32] | None = None
    """(n_frames, n_labels), evenly spaced from `start`; None where the model cannot say when"""
    frame_s: float = 0.0
    """seconds a frame"""


@dataclass(frozen=True, slots=True)
class SoundEvent:
    """One message about one occurrence of a sound: it began, it goes on, it ended."""

    id: str
    """the same in every phase"""
    source_id: str
    sound: str
    phase: Phase
    onset: float
    offset: float | None
    """None until the end"""
    peak: float
    """the highest score so far"""
    score: float
    """the score now"""
    labels: Mapping[str, float]
    """the model's labels behind it, with their scores at the peak"""
    level_dbfs: float
    """the loudest level so far"""
    emitted_at: float
    """when this was said"""
    heard_at: float
    """end of the window that led to this message; emitted_at - heard_at is the latency"""
    verified: bool | None = None
    """whether the signal has the cadence of an alarm; None where that is not looked for"""
    notify: bool = True
    """false while the sound cools down: worth keeping, not worth another alert"""
    priority: Priority = "normal"


SourcePhase: TypeAlias = Literal[
    "waiting", "listening", "silent", "stalled", "reopening", "paused", "ended", "failed"
]
"""waiting: not there yet, tried again for ever · listening: blocks come · silent: they come, with nothing in
them · stalled: open, but no block comes · reopening: it was heard and is lost · paused: switched off by
command · ended, failed: a recording is over, or was none"""


@dataclass(frozen=True, slots=True)
class SourceState:
    """Whether a source is being listened to."""

    source_id: str
    phase: SourcePhase
    at: float
    reason: str = ""
    """a sentence for people"""


@dataclass(frozen=True, slots=True)
class Hearing:
    """What a source hears now, once a hop."""

    source_id: str
    at: float
    level_dbfs: float
    top: Mapping[str, float]
    """the strongest labels with their scores, strongest first; none where the window was not scored"""
    level_dba: float = SILENCE_DBFS
    """A-weighted: dB(A) where the source is calibrated, else dB against full scale"""
    fault: str = ""
    """what is wrong with the input, a clause for people: dead, stuck, clipping, a constant offset"""


@dataclass(frozen=True, slots=True)
class Stats:
    """Health and speed of the daemon."""

    at: float
    values: Mapping[str, object] = field(default_factory=dict)


Report: TypeAlias = SoundEvent | SourceState | Hearing | Stats
"""Whatever a sink may want to tell."""


class Source(Protocol):
    """One place that is listened to."""

    @property
    def sample_rate(self) -> int:
        """Hertz; known once `open` returned."""

    async def open(self) -> None:
        """Find the device, file or program and learn its rate. Raises SourceError."""

    async def run(self, write: Callable[[AudioBlock], None]) -> None:
        """Hand over blocks until the source ends (returns), fails (raises SourceError) or is cancelled.

        `write` copies what it keeps, never blocks and may be called from any thread.
        """

    async def close(self) -> None:
        """Give the device, file or program back. May be called twice."""


class Worker(Protocol):
    """Whoever scores windows: this process, a child, another machine."""

    async def score(self, window: Window) -> Scores:
        """Raises InferenceError."""


class Sink(Protocol):
    """Whoever is told."""

    def put(self, report: Report) -> None:
        """Take a report. Never blocks; what a sink cannot keep it drops and counts."""

    async def run(self) -> None:
        """Tell until cancelled."""
