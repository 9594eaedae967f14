"""One source's life: opened, listened to, lost, opened again, for ever; its fault touches no other."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from streamer.capture.ring import Ring
from streamer.capture.stall import SHORT_LOST, SHORT_WARN, Flow, Silence
from streamer.capture.windows import Windows
from streamer.config.schema import Config
from streamer.config.sources import MicrophoneSettings, SourceSettings
from streamer.core.clock import STEP_S
from streamer.detection.pipeline import Pipeline
from streamer.errors import InferenceError, InputError, SourceError, StreamerError, StuckError
from streamer.metrics import Metrics
from streamer.types import Report, SoundEvent, Source, SourcePhase, SourceState, Window, Worker

LOOK_S = 0.25
"""how often the flow of blocks is looked at"""
LATE_SHARE = 0.1
"""more hops skipped than this part of a minute's are worth a line in the log,"""
LATE_PACE_S = 300.0
"""at most this often"""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a source is waited for."""

    stall_s: float = 5.0
    """without a block: it stands still"""
    first_s: float = 1.0
    longest_s: float = 60.0
    """pauses before it is opened again, doubling from the first to the longest"""
    stuck_s: float = 60.0
    """beyond its longest pause: a source that has not moved for so long will not move again"""

    def pause_s(self, failures: int) -> float:
        """After so many failures in a row."""
        pause_s = min(self.longest_s, self.first_s * 2.0 ** min(failures - 1, 16))
        return pause_s * random.uniform(0.8, 1.2)  # noqa: S311  # spreads the load, hides nothing


STREAM = Patience()
MICROPHONE = Patience(stall_s=1.0, first_s=0.25, longest_s=0.4)
"""a look at this machine's devices is cheap, and one that returns is to be heard well within two seconds:
after the pause, two tenths for the opening and the first block, and a look"""


def patience(settings: SourceSettings) -> Patience:
    return MICROPHONE if isinstance(settings, MicrophoneSettings) else STREAM


class _NotWantedError(SourceError):
    pass


class Listener:
    """Keeps one source open, its windows scored and its events told."""

    def __init__(
        self,
        source_id: str,
        source: Source,
        config: Config,
        *,
        worker: Worker,
        labels: Sequence[str],
        window_s: float,
        tell: Callable[[Report], None],
        metrics: Metrics,
        patience: Patience = STREAM,
        wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        """`wanted` says whether it is to be listened to; where not, the source is closed."""
        self._id = source_id
        self._source = source
        self._config = config
        self._worker = worker
        self._labels = labels
        self._window_s = window_s
        self._tell = tell
        self._metrics = metrics
        self._own = metrics.source(source_id)
        self._patience = patience
        self._wanted = wanted
        self._said: tuple[SourcePhase, str] | None = None
        self._lost = False
        """it was heard before, and is not now"""
        self._clock = _SourceClock()
        self._silence = Silence()
        self._silent = False
        self._late = _Lateness(source_id)
        self._stirred_at = time.monotonic()
        self._pipeline = Pipeline(source_id, config, labels)
        self._changed = False

    @property
    def id(self) -> str:
        return self._id

    @property
    def is_heard(self) -> bool:
        return self._own.phase in ("listening", "silent")

    @property
    def has_spoken(self) -> bool:
        """It has said how it is, be it that it waits."""
        return self._said is not None

    def trouble(self) -> str | None:
        """What a watchdog must know: neither does a block come, nor is it opened again."""
        still_s = time.monotonic() - self._stirred_at
        limit_s = self._patience.longest_s + self._patience.stuck_s
        return (
            f"{self._id}: {self._own.phase}, and nothing has moved for {still_s:.0f} s"
            if still_s > limit_s
            else None
        )

    def change(self, config: Config) -> None:
        """Follow other thresholds or sounds from the next window on.

        What sounds at that moment ends, and begins anew where it still counts.
        """
        self._changed = self._changed or _rules(config) != _rules(self._config)
        self._config = config

    async def run(self) -> InputError | None:
        """Listen. Returns when a recording has ended, or was none. Raises StuckError."""
        failures = 0
        while True:
            await self._until_wanted()
            self._stirred_at = time.monotonic()
            blocks, opened_at = self._own.blocks, time.monotonic()
            try:
                await self._listen()
            except _NotWantedError:
                continue
            except StuckError as error:
                self._state("waiting", str(error))
                raise
            except InputError as error:
                self._state("failed", str(error))
                return error
            except SourceError as error:
                heard = self._own.blocks > blocks
                # A source that was heard for a while is new trouble, not more of the old.
                new = heard and time.monotonic() - opened_at > self._patience.longest_s
                failures = 1 if new else failures + 1
                self._state("reopening" if heard else "waiting", str(error))
            else:
                self._state("ended", "the recording is over")
                return None
            await asyncio.sleep(self._patience.pause_s(failures))

    async def _until_wanted(self) -> None:
        while not self._wanted():
            self._state("paused", "switched off")
            self._stirred_at = time.monotonic()
            await asyncio.sleep(LOOK_S)

    async def _listen(self) -> None:
        """One stretch of listening, from open to end. Its events end with it."""
        try:
            await self._source.open()
            ring = Ring(self._source.sample_rate, self._config.windows.ring_s, self._own)
            self._pipeline, self._changed = Pipeline(self._id, self._config, self._labels), False
            windows = Windows(ring, self._id, hop_s=self._config.hop_s, window_s=self._window_s)
            capture = asyncio.create_task(self._capture(ring), name=f"capture[{self._id}]")
            try:
                async for window in windows:
                    await self._hear(window)
                await capture
            finally:
                capture.cancel()
                with suppress(asyncio.CancelledError, StreamerError):
                    await capture
                now = self._clock.now()
                self._tell_events(self._pipeline.close(now, now))
        finally:
            await self._source.close()

    async def _hear(self, window: Window) -> None:
        try:
            scores = await self._worker.score(window) if self._pipeline.wants(window) else None
        except InferenceError as error:  # the next window holds most of the same audio
            self._own.windows_skipped += 1
            log.warning("%s: a window was skipped: %s", self._id, error)
            return
        now = self._clock.follow(window.end)
        if self._changed:
            self._tell_events(self._pipeline.close(window.end, now))
            before, self._pipeline = self._pipeline, Pipeline(self._id, self._config, self._labels)
            self._pipeline.carry_on(before)
            self._changed = False
        if scores is None:
            self._tell_events(self._pipeline.skip(window, now))
        else:
            self._tell_events(self._pipeline.update(window, scores, now))
        hearing = self._pipeline.hearing(window, scores)
        self._silent = self._silence.update(self._config.hop_s, hearing.level_dbfs)
        self._tell(hearing)

    def _tell_events(self, events: Sequence[SoundEvent]) -> None:
        for event in events:
            if event.phase == "start":
                self._own.events += 1
                self._metrics.sounds[event.sound] = self._metrics.sounds.get(event.sound, 0) + 1
                self._metrics.latencies_s.append(event.emitted_at - event.heard_at)
            self._tell(event)

    async def _capture(self, ring: Ring) -> None:
        """Write the ring, and look from time to time whether it is written as it should be."""
        running = asyncio.create_task(self._source.run(ring.write), name=f"run[{self._id}]")
        flow, blocks = Flow(ring.sample_rate), self._own.blocks
        try:
            while not running.done():
                await asyncio.wait([running], timeout=LOOK_S)
                self._look(flow, ring, self._own.blocks - blocks)
            await running
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError, StreamerError):
                await running
            ring.finish()

    def _look(self, flow: Flow, ring: Ring, n_blocks: int) -> None:
        if not self._wanted():
            raise _NotWantedError("switched off")
        now = time.monotonic()
        flow.look(now, n_blocks, ring.end)
        self._late.look(now, self._own.windows, self._own.windows_skipped)
        if not n_blocks:
            return
        if flow.quiet_s == 0.0:
            self._stirred_at = now
        if flow.shortage is not None and flow.shortage > SHORT_WARN:
            lack = f"{flow.shortage:.0%} of the samples of the last minute did not come"
            if flow.shortage > SHORT_LOST:
                raise SourceError(f"{lack}: it is slow, or not at {ring.sample_rate} Hz")
            log.warning("%s: %s", self._id, lack)
        if flow.quiet_s >= self._patience.stall_s:
            self._state("stalled", f"no block for {self._patience.stall_s:g} s")
        elif self._silent:
            self._state("silent", "nothing but digital silence for ten minutes: is it switched on?")
        elif self._own.phase != "stalled" or flow.quiet_s == 0.0:
            self._state("listening", f"{ring.sample_rate} Hz")

    def _state(self, phase: SourcePhase, reason: str) -> None:
        """Tell it once."""
        if self._said == (phase, reason):
            return
        if phase == "listening" and self._lost:
            self._own.reopens += 1
        self._lost = phase in ("reopening", "waiting") and (self._lost or phase == "reopening")
        self._said, self._own.phase = (phase, reason), phase
        self._stirred_at = time.monotonic()
        self._tell(SourceState(self._id, phase, time.time(), reason))


def _rules(config: Config) -> tuple[object, ...]:
    """What decides on events."""
    return config.detection, config.sounds


class _SourceClock:
    """The wall clock, as a source's ring has it: that follows a clock which was set some seconds later.

    Thus an event's latency stays true, and none ends before it began.
    """

    def __init__(self) -> None:
        self._anchor = time.time() - time.monotonic()
        self._end_anchor = 0.0

    def follow(self, window_end: float) -> float:
        """Now, on the time line of a window that has just been scored."""
        anchor, end_anchor = time.time() - time.monotonic(), window_end - time.monotonic()
        if abs(anchor - self._anchor) < STEP_S or abs(end_anchor - self._end_anchor) > STEP_S:
            self._anchor = anchor
        self._end_anchor = end_anchor
        return self.now()

    def now(self) -> float:
        return self._anchor + time.monotonic()


class _Lateness:
    """Says so when the model does not keep up with a source."""

    def __init__(self, source_id: str) -> None:
        self._id = source_id
        self._looked_at = time.monotonic()
        self._counted = (0, 0)
        self._said_at: float | None = None

    def look(self, now: float, windows: int, skipped: int) -> None:
        if now - self._looked_at < 60:
            return
        n_scored, n_skipped = windows - self._counted[0], skipped - self._counted[1]
        self._looked_at, self._counted = now, (windows, skipped)
        if n_skipped <= LATE_SHARE * (n_scored + n_skipped):
            return
        if self._said_at is None or now - self._said_at >= LATE_PACE_S:
            self._said_at = now
            log.warning(
                "%s: slower than real time: %d of %d hops were skipped in the last minute; "
                "a longer windows.hop_s or a smaller model would help",
                self._id,
                n_skipped,
                n_scored + n_skipped,
            )
