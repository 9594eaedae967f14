"""The values that stages hand to each other, and the shapes of the stages themselves.

Times are float seconds since the Unix epoch, UTC. Samples are float32, mono, -1..1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
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
    """Samples that a source hands over at once."""

    samples: Samples
    """(n,) at the source's own rate"""
    captured_at: float
    """when the first sample was captured"""
    discontinuity: bool = False
    """audio was lost between the block before and this one"""
    late: bool = False
    """it was kept elsewhere while a link was down: none of its windows is skipped for newer ones"""


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """The audio that the model sees at once. It holds all that is needed: any worker can score any window."""

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
    """The model's scores of a window: posteriors, 0..1."""

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
    embeddings: npt.NDArray[np.float32] | None = None
    """(n_frames, size), or (1, size) where there are no frames; None where they were not asked for"""


@dataclass(frozen=True, slots=True)
class Beeps:
    """A group of beeps in the rhythm of an alarm, found in the signal."""

    cadence: str
    """the name of the rhythm, as `streamer.signal.alarms.CADENCES` has it"""
    begin: float
    end: float


@dataclass(frozen=True, slots=True, eq=False)
class Sensed:
    """What the samples of one window show without a model. Events depend on this and on `Scores` alone."""

    index: int
    """of the window"""
    start: float
    """of the window"""
    end: float
    """of the window"""
    audio_start: float
    """`start`, but in a source's first windows, which begin before it did"""
    since: float
    """begin of the audio that no window before has shown"""
    levels: Samples
    """(n, 2) of the audio since then, one row per 125 ms: dBFS, and dB of the A-weighted level above the
    background"""
    is_wanted: bool = True
    """whether the model has to score the window: the silence gate's decision"""
    beeps: tuple[Beeps, ...] = ()
    """groups of beeps that were complete first in this window"""
    level_dbfs: float = SILENCE_DBFS
    """of the newest hop"""
    level_dba: float | None = None
    """A-weighted sound level of the audio since then in dB(A); None where the source is not calibrated"""
    problem: str = ""
    """what is wrong with the input, a clause for people"""
    is_silent: bool = False
    """nothing but silence arrives: the input is muted or unplugged"""


@dataclass(frozen=True, slots=True, eq=False)
class Hop:
    """What was decided on at one window of a source, in the steps of `streamer.detection.steps`."""

    source_id: str
    sensed: Sensed
    scores: Scores | None
    """None where the window was not wanted, and where it could not be scored"""
    origin: float | None
    """when the timeline of scores begins that the window is a part of; None where there is none yet"""
    hop_s: float
    """the step to the next window"""
    is_first: bool = False
    """of a stretch of listening: nothing from before counts"""


@dataclass(frozen=True, slots=True)
class SoundEvent:
    """One message about one occurrence of a sound: it starts, goes on, ends."""

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
    """when this message was emitted"""
    heard_at: float
    """end of the window that led to this message; emitted_at - heard_at is the latency"""
    verified: bool | None = None
    """whether the signal has the cadence of an alarm; None where that is not searched"""
    notify: bool = True
    """false while the sound cools down: worth keeping, not worth another alert"""
    priority: Priority = "normal"
    epoch: int | None = None
    """of the process that detected it, as `streamer.core.epoch` has it; None outside of the daemon"""


class SourcePhase(StrEnum):
    """What a source is doing. `run/listener.py` has the legal transitions."""

    WAITING = "waiting"
    """not there yet; tried again for ever"""
    LISTENING = "listening"
    """blocks arrive"""
    SILENT = "silent"
    """blocks arrive, with nothing but silence in them"""
    STALLED = "stalled"
    """open, but no block arrives"""
    REOPENING = "reopening"
    """it was lost, and is opened again"""
    PAUSED = "paused"
    """switched off by command"""
    ENDED = "ended"
    """a recording is over"""
    FAILED = "failed"
    """no audio can be had from it"""


@dataclass(frozen=True, slots=True)
class SourceState:
    """Whether a source is being listened to."""

    source_id: str
    phase: SourcePhase
    at: float
    reason: str = ""
    """a sentence for people"""
    problem: str = ""
    """what is wrong with its audio, a clause for people: muted, stuck, clipping, a constant offset"""


@dataclass(frozen=True, slots=True)
class Hearing:
    """The level and the strongest labels of a source, once a hop."""

    source_id: str
    at: float
    level_dbfs: float
    top: Mapping[str, float]
    """the strongest labels with their scores, strongest first; none where the window was not scored"""
    level_dba: float | None = None
    """A-weighted sound level in dB(A); None where the source is not calibrated"""
    problem: str = ""
    """as in `SourceState`"""
    sounds: Mapping[str, float] = field(default_factory=dict)
    """the score of each sound at the newest moment that may start an event"""


@dataclass(frozen=True, slots=True)
class Recurrence:
    """Whether a sound that should be heard again and again is overdue."""

    source_id: str
    sound: str
    at: float
    is_overdue: bool
    since: float
    """the end of its latest event, or when it was first expected"""
    was_heard: bool
    """whether it is the former"""
    listened_s: float
    """how long the source was listened to since then"""
    every_s: float
    """in so much listening it should be heard"""
    note: str = ""
    """why nothing can be said yet, a clause for people"""


@dataclass(frozen=True, slots=True)
class Stats:
    """Health and speed of the daemon."""

    at: float
    values: Mapping[str, object] = field(default_factory=dict)


Report: TypeAlias = SoundEvent | SourceState | Hearing | Recurrence | Stats
"""Whatever a sink may take."""


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


class Sink(Protocol):
    """Takes what the daemon emits: a broker, the log, the terminal."""

    def put(self, report: Report) -> None:
        """Take a report. Never blocks; what finds no room is dropped and counted."""

    async def run(self) -> None:
        """Deliver until cancelled."""
