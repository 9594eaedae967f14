"""The latest minute of one source, in fixed memory, on a time line that stays true."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streamer.core.clock import STEP_S
from streamer.metrics import SourceMetrics
from streamer.types import AudioBlock, Samples

SURVEY_S = 10.0
"""seconds of audio after which the clock of a source is compared"""
DEAD_ZONE_S = 0.02
"""a clock that is off by less is left alone: times that are exact stay exact"""
SLEW = 0.005
"""seconds by which the time line may be moved for each second of audio"""
INT16 = np.float32(2**15)
"""full scale of 16-bit audio"""


@dataclass(frozen=True, slots=True, eq=False)
class Excerpt:
    """What a ring holds of a stretch of time. What it does not hold is silence."""

    samples: Samples
    """(n,)"""
    start: float
    end: float
    has_gap: bool
    """a part was lost, is overwritten already or is yet to come"""


class Ring:
    """The latest `seconds` of a source. One thread writes, any other may read.

    A sample is known by its index, counted from the source's start, and its time is
    `anchor + index / sample_rate`. The anchor comes from the first block. From then on the
    lateness of a block is its capture time less the time that the ring expects. Four things change it.

    * Blocks come late, often in bursts. None comes early, so the *least* lateness of a while is the true one.
    * The first block of a stretch may be late itself. One after it that seems early shows that: the anchor
      jumps back at once, as no window of the stretch, or few, have been scored.
    * The sample clock drifts: 50 ppm are 4 s a day. Outside of a dead zone the anchor is slewed after it.
    * The wall clock is set. Beyond a second the anchor jumps.

    Audio that was lost (`AudioBlock.discontinuity`) leaves a hole as long as the block is late. It is
    silence, it is counted, and an excerpt across it is marked.

    Audio that was 16-bit before it became float32 takes two bytes a sample, and no sample changes by it. The
    first one that was not makes the ring one of four bytes.
    """

    def __init__(self, sample_rate: int, seconds: float = 60.0, metrics: SourceMetrics | None = None) -> None:
        self.sample_rate = sample_rate
        self.metrics = metrics if metrics is not None else SourceMetrics()
        self._samples: npt.NDArray[np.int16] | Samples = np.zeros(round(seconds * sample_rate), np.int16)
        self._lost: deque[tuple[int, int]] = deque()
        """holes that reach into the ring, in order and apart: first and last sample, without the last"""
        self._end = 0
        self._owed = 0
        self._anchor: float | None = None
        self._least_late_s = float("inf")
        self._surveyed = 0
        self._settled = 0
        self._finished = False
        self._lock = threading.Lock()
        self._on_change: Callable[[], None] = lambda: None

    @property
    def end(self) -> int:
        """How many samples there have been since the source's start, holes included."""
        return self._end

    @property
    def start(self) -> int:
        """Index of the oldest sample that is still there."""
        return max(0, self._end - len(self._samples))

    @property
    def seconds(self) -> float:
        """How much it remembers."""
        return len(self._samples) / self.sample_rate

    def time(self, index: int) -> float:
        """When a sample was captured, as far as is known now."""
        return (self._anchor or 0.0) + index / self.sample_rate

    @property
    def owed(self) -> int:
        """Samples before this one are to be scored, also where newer ones are there: they came late."""
        return self._owed

    @property
    def finished(self) -> bool:
        """No more audio will come."""
        return self._finished

    def listen(self, on_change: Callable[[], None]) -> None:
        """Call `on_change` after each block and at the end, in the writer's thread. There is one listener."""
        self._on_change = on_change

    def finish(self) -> None:
        """Mark the end: no more audio will come."""
        self._finished = True
        self._on_change()

    def write(self, block: AudioBlock) -> None:
        """Copy a block. Never blocks for longer than a read takes to copy."""
        samples, n_bad = _clean(block.samples)
        with self._lock:
            self.metrics.blocks += 1
            self.metrics.bad_samples += n_bad
            self._place(block)
            self._append(samples)
            if block.late:
                self._owed = self._end
        self._on_change()

    def read(self, first: int, last: int) -> Excerpt:
        """The samples with indices `first` to `last`, without the last. Before 0 there is silence."""
        samples: Samples = np.zeros(last - first, np.float32)
        with self._lock:
            oldest = self.start
            begin, end = max(first, oldest), min(last, self._end)
            has_gap = last > self._end or max(first, 0) < oldest
            if begin < end:
                for here, there in self._stretches(begin, end):
                    samples[begin - first :][there] = self._samples[here]
                if self._samples.dtype == np.int16:
                    samples /= INT16
                has_gap = has_gap or any(hole < end and begin < rest for hole, rest in self._lost)
            return Excerpt(samples, self.time(first), self.time(last), has_gap)

    def between(self, start: float, end: float) -> Excerpt:
        """The samples of a stretch of time, to the nearest sample: clips of events are cut by it."""
        first, last = (round((time - self.time(0)) * self.sample_rate) for time in (start, end))
        return self.read(first, last)

    def _place(self, block: AudioBlock) -> None:
        """Find where on the time line a block belongs, before it is appended."""
        if self._anchor is None:
            self._anchor = block.captured_at
            self._settle()
            return
        late_s = block.captured_at - self.time(self._end)
        if block.discontinuity:
            self.metrics.overflows += 1
            n_lost = max(0, round(late_s * self.sample_rate))
            self.metrics.gap_s += n_lost / self.sample_rate
            if n_lost < len(self._samples) and late_s > -STEP_S:
                self._lose(self._end, self._end + n_lost)
                self._append(np.zeros(n_lost, np.float32))
            else:  # nothing in the ring is near this block any more
                self._samples[:] = 0
                self._lose(self.start, self._end)
                self._move(late_s)
            self._settle()
            return
        if -STEP_S <= late_s < -DEAD_ZONE_S and self._end < self._settled:
            self._move(late_s)
            return
        self._least_late_s = min(self._least_late_s, late_s)
        self._surveyed += len(block.samples)
        if self._surveyed >= SURVEY_S * self.sample_rate or late_s < -STEP_S:
            self._follow_clock()

    def _settle(self) -> None:
        """A stretch begins: until the first survey of it is over, its first block may turn out to be late."""
        self._settled = self._end + round(SURVEY_S * self.sample_rate)

    def _follow_clock(self) -> None:
        off_s = self._least_late_s
        if abs(off_s) > STEP_S:
            self._move(off_s)
        elif abs(off_s) > DEAD_ZONE_S:
            slew_s = SLEW * SURVEY_S
            self._move(min(max(off_s, -slew_s), slew_s))
        self._least_late_s, self._surveyed = float("inf"), 0

    def _move(self, by_s: float) -> None:
        self._anchor = self.time(0) + by_s
        self._least_late_s, self._surveyed = float("inf"), 0

    def _lose(self, begin: int, end: int) -> None:
        """Mark a hole behind the others, or over them."""
        while self._lost and self._lost[-1][1] >= begin:
            begin = min(begin, self._lost.pop()[0])
        if begin < end:
            self._lost.append((begin, end))

    def _append(self, samples: Samples) -> None:
        values = self._fitted(samples)
        begin = max(self._end, self._end + len(samples) - len(self._samples))  # a block may outgrow the ring
        end = self._end + len(samples)
        for here, there in self._stretches(begin, end):
            self._samples[here] = values[begin - self._end :][there]
        self._end = end
        while self._lost and self._lost[0][1] <= self.start:
            self._lost.popleft()

    def _fitted(self, samples: Samples) -> npt.NDArray[np.int16] | Samples:
        """The samples as they are kept; makes the ring wider where that is needed."""
        if self._samples.dtype == np.int16:
            if (integers := _int16(samples)) is not None:
                return integers
            self._samples = self._samples.astype(np.float32) / INT16
        return samples

    def _stretches(self, begin: int, end: int) -> list[tuple[slice, slice]]:
        """Where samples `begin` to `end` lie: slices of the memory, each with its slice of the stretch."""
        size = len(self._samples)
        head = min(end - begin, size - begin % size)
        return [
            (slice(begin % size, begin % size + head), slice(0, head)),
            (slice(0, end - begin - head), slice(head, end - begin)),
        ]


def _int16(samples: Samples) -> npt.NDArray[np.int16] | None:
    """The 16-bit samples that these were; None where they were not."""
    scaled = samples * INT16
    integers = scaled.clip(-INT16, INT16 - 1).astype(np.int16)
    return integers if np.array_equal(integers, scaled) else None


def _clean(samples: Samples) -> tuple[Samples, int]:
    """Samples that are finite and within -1..1, and how many were not."""
    n_bad = samples.size - int(np.count_nonzero(np.abs(samples) <= 1))  # a NaN compares as no
    if n_bad:
        samples = np.clip(np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0), -1, 1)
    return samples, n_bad
