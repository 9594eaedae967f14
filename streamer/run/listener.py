"""One source's life: opened, listened to, lost, opened again, for ever; its failure touches no other."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from streamer.capture.ring import Ring
from streamer.capture.stall import BAD_SHARE, SHORT_LOST, SHORT_WARN, Flow
from streamer.capture.tapes import Tapes
from streamer.capture.windows import Windows
from streamer.config.schema import Config
from streamer.config.sources import (
    DemoSettings,
    MicrophoneSettings,
    NodeSettings,
    SourceSettings,
    StreamSettings,
)
from streamer.core.backoff import Backoff
from streamer.core.clock import SourceClock
from streamer.core.rate_limit import RateLimit
from streamer.core.tasks import first_of, running
from streamer.detection.pipeline import Pipeline
from streamer.detection.steps import scores_in_steps
from streamer.errors import InferenceError, InputError, SourceError, StuckError
from streamer.inference.worker import Worker
from streamer.metrics import Metrics
from streamer.run.sensing import Sensing
from streamer.types import Hop, Report, Scores, Sensed, SoundEvent, Source, SourcePhase, SourceState, Window

CHECK_S = 0.25
"""seconds between two checks of the flow of blocks"""
LATE_SHARE = 0.1
"""share of a minute's hops that may be skipped before it is logged"""
LATE_S = 60.0
"""seconds over which skipped hops are counted"""

_P = SourcePhase
_ANY_TIME = frozenset({_P.PAUSED, _P.FAILED, _P.ENDED})
TRANSITIONS: Mapping[SourcePhase | None, frozenset[SourcePhase]] = {
    None: _ANY_TIME | {_P.WAITING, _P.LISTENING},
    _P.WAITING: _ANY_TIME | {_P.LISTENING},
    _P.LISTENING: _ANY_TIME | {_P.SILENT, _P.STALLED, _P.REOPENING},
    _P.SILENT: _ANY_TIME | {_P.LISTENING, _P.STALLED, _P.REOPENING},
    _P.STALLED: _ANY_TIME | {_P.LISTENING, _P.SILENT, _P.REOPENING},
    _P.REOPENING: _ANY_TIME | {_P.LISTENING, _P.WAITING},
    _P.PAUSED: _ANY_TIME | {_P.WAITING, _P.LISTENING},
    _P.FAILED: _ANY_TIME | {_P.WAITING, _P.LISTENING},
    _P.ENDED: frozenset(),
}
"""the phases that may follow each, beside itself with another reason; None is before the first"""
OPEN = frozenset({_P.LISTENING, _P.SILENT, _P.STALLED})
"""phases in which blocks have come since it was opened"""

log = logging.getLogger(__name__)

STREAM_BACKOFF = Backoff(first_s=1.2, longest_s=72.0, jitter=1 / 3)
"""0.8 to 1.2 s at first, around a minute in the end"""


UNNAMED: dict[str, object] = {"name": None, "shown": None, "expect": None}
"""of a sound: what people call it, whether they see it, and whether it is missed, are no rules"""


@dataclass(frozen=True, slots=True)
class SourceLimits:
    """When a source counts as stalled or stuck, and how soon it is opened again."""

    stall_s: float = 5.0
    """seconds without a block after which it is stalled"""
    backoff: Backoff = STREAM_BACKOFF
    """pauses before it is opened again"""
    stuck_s: float = 60.0
    """seconds beyond the longest pause after which a source that has not moved will not move again"""
    is_paced: bool = True
    """it comes at real time; where not, more samples than its rate promises are no problem"""
    may_be_late: bool = False
    """samples that do not come in time come later; those that are missing, the source itself has counted"""


STREAM = SourceLimits()
MICROPHONE = SourceLimits(stall_s=1.0, backoff=Backoff(first_s=0.3, longest_s=0.48, jitter=1 / 3))
"""to list this machine's devices is cheap: one that returns is listened to within a second"""
NODE = SourceLimits(
    backoff=Backoff(first_s=0.5, longest_s=1.0, jitter=1 / 3), stuck_s=180.0, may_be_late=True
)
"""a node that was cut off is waited for by its source; one that connects has kept a minute"""
UNPACED = SourceLimits(is_paced=False)


def source_limits(settings: SourceSettings) -> SourceLimits:
    if isinstance(settings, MicrophoneSettings):
        return MICROPHONE
    if isinstance(settings, NodeSettings):
        return NODE
    is_fast = isinstance(settings, StreamSettings | DemoSettings) and settings.pace == "fast"
    return UNPACED if is_fast else STREAM


class _SwitchedOffError(SourceError):
    pass


class Listener:
    """Keeps one source open, has its windows scored, and emits its events."""

    def __init__(
        self,
        source_id: str,
        source: Source,
        config: Config,
        *,
        worker: Worker,
        labels: Sequence[str],
        window_s: float,
        emit: Callable[[Report], None],
        metrics: Metrics,
        limits: SourceLimits = STREAM,
        enabled: Callable[[], bool] = lambda: True,
        muted: Callable[[], bool] = lambda: False,
        tapes: Tapes | None = None,
        watch: Callable[[Hop], None] = lambda _: None,
        sensing: Sensing | None = None,
    ) -> None:
        """`enabled` gives whether it is to be listened to; while not, the source is closed.

        `muted` gives whether its events are not to notify; critical ones always do. `watch` gets each hop
        after it was decided on, and never blocks. `sensing` is what the sources of a daemon share.
        """
        self._id = source_id
        self._source = source
        self._config = config
        self._worker = worker
        self._labels = labels
        self._window_s = window_s
        self._emit = emit
        self._metrics = metrics
        self._own = metrics.source(source_id)
        self._limits = limits
        self._enabled = enabled
        self._muted = muted
        self._tapes = tapes if tapes is not None else Tapes()
        self._watch = watch
        self._sensing = sensing if sensing is not None else Sensing()
        self._is_first = True
        """no window of this stretch of listening was decided on"""
        self._state: SourceState | None = None
        self._was_lost = False
        """it was listened to before, and is not now"""
        self._clock = SourceClock()
        self._problem = self._flow_problem = ""
        self._is_problem_logged = False
        self._is_silent = False
        self._logged = RateLimit()
        self._skipped = _SkippedHops(source_id)
        self._moved_at = time.monotonic()
        self._pipeline = Pipeline(source_id, config, labels)
        self._rules_changed = False

    @property
    def id(self) -> str:
        return self._id

    @property
    def is_listening(self) -> bool:
        return self._phase in (SourcePhase.LISTENING, SourcePhase.SILENT)

    @property
    def _phase(self) -> SourcePhase | None:
        return None if self._state is None else self._state.phase

    @property
    def has_state(self) -> bool:
        """Its state is known, be it that the source is waited for."""
        return self._state is not None

    def problem(self) -> str | None:
        """What a watchdog must know: neither does a block arrive, nor is the source opened again."""
        still_s = time.monotonic() - self._moved_at
        if still_s <= self._limits.backoff.longest_s + self._limits.stuck_s:
            return None
        return f"{self._id}: {self._phase}, and nothing has moved for {still_s:.0f} s"

    def change(self, config: Config) -> None:
        """Follow other thresholds or sounds from the next window on.

        Events that are open at that moment end, and start anew where they still count.
        """
        self._rules_changed = self._rules_changed or _rules(config) != _rules(self._config)
        self._config = config

    async def run(self) -> InputError | None:
        """Listen. Returns when a recording has ended, or was none. Raises StuckError."""
        failures = 0
        while True:
            await self._until_enabled()
            self._moved_at = time.monotonic()
            blocks, opened_at = self._own.blocks, time.monotonic()
            try:
                await self._listen()
            except _SwitchedOffError:
                continue
            except StuckError as error:
                self._enter_lost(str(error))
                raise
            except InputError as error:
                self._enter(SourcePhase.FAILED, str(error))
                return error
            except Exception as error:  # a fault of one source is no reason to end the others
                arrived = self._own.blocks > blocks
                # After a long stretch of listening a failure is a new one, not one more in a row.
                is_new = arrived and time.monotonic() - opened_at > self._limits.backoff.longest_s
                failures = 1 if is_new else failures + 1
                if isinstance(error, SourceError):
                    self._enter_lost(str(error))
                else:
                    self._log_fault(error)
            else:
                self._enter(SourcePhase.ENDED, "the recording is over")
                return None
            await asyncio.sleep(self._limits.backoff.pause_s(failures))

    async def _until_enabled(self) -> None:
        while not self._enabled():
            self._enter(SourcePhase.PAUSED, "switched off")
            self._moved_at = time.monotonic()
            await asyncio.sleep(CHECK_S)

    async def _listen(self) -> None:
        """One stretch of listening, from open to end. Its events end with it."""
        self._is_silent, self._flow_problem = False, ""
        try:
            await self._source.open()
            ring = Ring(self._source.sample_rate, self._config.windows.ring_s, self._own)
            self._tapes.put(self._id, ring)
            self._pipeline, self._rules_changed = Pipeline(self._id, self._config, self._labels), False
            self._is_first = True
            windows = Windows(ring, self._id, hop_s=self._config.hop_s, window_s=self._window_s)
            try:
                async with running(self._capture(ring), f"capture[{self._id}]") as capture:
                    async for window in windows:
                        await self._score(window)
                    await capture
            finally:
                now = self._clock.now()
                self._emit_events(self._pipeline.close(now, now))
                self._tapes.remove(self._id, ring)
        finally:
            await self._source.close()

    async def _score(self, window: Window) -> None:
        sensed = await self._sensing.sense(self._pipeline, window)
        try:
            scores = scores_in_steps(await self._worker.score(window)) if sensed.is_wanted else None
        except InferenceError as error:  # the next window holds most of the same audio
            self._pipeline.miss(sensed)
            self._show(sensed, None)
            self._own.windows_skipped += 1
            log.warning("%s: a window was skipped: %s", self._id, error)
            return
        now = self._clock.follow(window.end)
        if self._rules_changed:
            self._emit_events(self._pipeline.change(self._config, window.end, now))
            self._rules_changed = False
        self._emit_events(self._pipeline.decide(sensed, scores, now))
        self._show(sensed, scores)
        hearing = self._pipeline.hearing(sensed, scores)
        self._own.level_dbfs, self._own.level_dba = hearing.level_dbfs, hearing.level_dba
        self._is_silent = sensed.is_silent
        if not hearing.problem and self._flow_problem:
            hearing = replace(hearing, problem=self._flow_problem)
        self._note_problem(hearing.problem)
        self._emit(hearing)

    def _show(self, sensed: Sensed, scores: Scores | None) -> None:
        hop_s = self._config.hop_s
        self._watch(Hop(self._id, sensed, scores, self._pipeline.origin, hop_s, self._is_first))
        self._is_first = False

    def _note_problem(self, problem: str) -> None:
        """Log an input fault when it appears and when it is gone, and let it be a part of the state."""
        if problem == self._problem:
            return
        if problem and self._logged.due("problem"):
            log.warning("%s: %s", self._id, problem)
            self._is_problem_logged = True
        elif not problem and self._is_problem_logged:
            log.info("%s: the input is sound again", self._id)
            self._is_problem_logged = False
        self._problem = self._own.problem = problem
        if self._state is not None:
            self._enter(self._state.phase, self._state.reason)

    def _emit_events(self, events: Sequence[SoundEvent]) -> None:
        for event in events:
            if event.notify and event.priority != "critical" and self._muted():
                event = replace(event, notify=False)  # noqa: PLW2901  the same event
            if event.phase == "start":
                self._own.events += 1
                self._metrics.sounds[event.sound] = self._metrics.sounds.get(event.sound, 0) + 1
                self._metrics.latencies_s.append(event.emitted_at - event.heard_at)
            self._emit(event)

    async def _capture(self, ring: Ring) -> None:
        """Write the ring, and check from time to time whether it is written as it should be."""
        flow, blocks, bad = Flow(ring.sample_rate), self._own.blocks, self._own.bad_samples
        loop = asyncio.get_running_loop()
        lost: asyncio.Future[None] = loop.create_future()
        timer: asyncio.TimerHandle

        def check() -> None:
            n_blocks, n_bad = self._own.blocks - blocks, self._own.bad_samples - bad
            try:
                flow.check(time.monotonic(), n_blocks, ring.end, n_bad)
                self._check_flow(flow, ring, n_blocks)
            except Exception as error:  # whatever it is: it ends this stretch of listening
                lost.set_exception(error)

        def check_again() -> None:  # a call, not a task: there may be hundreds of sources
            nonlocal timer
            if not lost.done():
                check()
            timer = loop.call_later(CHECK_S, check_again)

        timer = loop.call_later(CHECK_S, check_again)
        try:
            async with running(self._source.run(ring.write), f"run[{self._id}]") as source:
                await first_of(source, lost)
                if not lost.done():
                    check()
                if lost.done():
                    lost.result()
                await source
        finally:
            timer.cancel()
            ring.finish()

    def _check_flow(self, flow: Flow, ring: Ring, n_blocks: int) -> None:
        """Raises SourceError where too few samples arrive, or the source was switched off."""
        if not self._enabled():
            raise _SwitchedOffError("switched off")
        now = time.monotonic()
        self._skipped.check(now, self._own.windows, self._own.windows_skipped)
        if not n_blocks:
            return
        if flow.quiet_s == 0.0:
            self._moved_at = now
        if flow.shortage is not None and flow.shortage > SHORT_WARN and not self._limits.may_be_late:
            lack = f"{flow.shortage:.0%} of the samples of the last minute did not arrive"
            if flow.shortage > SHORT_LOST:
                raise SourceError(f"{lack}: it is slow, or not at {ring.sample_rate} Hz")
            log.warning("%s: %s", self._id, lack)
        if flow.bad_share > BAD_SHARE:
            self._flow_problem = "samples that are no numbers, or beyond full scale: check format and gain"
        elif flow.is_fast and self._limits.is_paced:
            self._flow_problem = f"faster than real time: it is not at {ring.sample_rate} Hz"
        else:
            self._flow_problem = ""
        if flow.quiet_s >= self._limits.stall_s:
            self._enter(SourcePhase.STALLED, f"no block for {self._limits.stall_s:g} s")
        elif self._is_silent and self._phase in OPEN:
            self._enter(SourcePhase.SILENT, self._problem)
        elif self._phase != SourcePhase.STALLED or flow.quiet_s == 0.0:
            self._enter(SourcePhase.LISTENING, f"{ring.sample_rate} Hz")

    def _log_fault(self, error: Exception) -> None:
        """An error that nobody foresaw: its stack goes to the log, and the source is tried again."""
        if self._logged.due("fault"):
            log.error("%s: a fault in the program; the source is tried again", self._id, exc_info=error)
        self._enter(SourcePhase.FAILED, f"a fault in the program ({type(error).__name__}); tried again")

    def _enter_lost(self, reason: str) -> None:
        """It is to be opened again where it was open, else it is not there yet."""
        self._enter(SourcePhase.REOPENING if self._phase in OPEN else SourcePhase.WAITING, reason)

    def _enter(self, phase: SourcePhase, reason: str) -> None:
        """Change the state, and emit it where it is another one. Raises ValueError for an illegal change."""
        before, known = self._phase, self._state
        if known is not None and (known.phase, known.reason, known.problem) == (phase, reason, self._problem):
            return
        if phase != before and phase not in TRANSITIONS[before]:
            raise ValueError(f"{self._id}: {before} cannot become {phase}")
        if phase == SourcePhase.LISTENING and self._was_lost:
            self._own.reopens += 1
        self._was_lost = phase == SourcePhase.REOPENING or (phase == SourcePhase.WAITING and self._was_lost)
        self._own.phase = phase
        self._moved_at = time.monotonic()
        self._state = SourceState(self._id, phase, time.time(), reason, self._problem)
        self._emit(self._state)


def _rules(config: Config) -> tuple[object, ...]:
    """What decides on events."""
    unnamed = {name: sound.model_copy(update=UNNAMED) for name, sound in config.sounds.items()}
    return config.detection, unnamed


class _SkippedHops:
    """Logs when the model is slower than a source."""

    def __init__(self, source_id: str) -> None:
        self._id = source_id
        self._since = time.monotonic()
        self._counted = (0, 0)
        self._logged = RateLimit()

    def check(self, now: float, windows: int, skipped: int) -> None:
        if now - self._since < LATE_S:
            return
        n_scored, n_skipped = windows - self._counted[0], skipped - self._counted[1]
        self._since, self._counted = now, (windows, skipped)
        if n_skipped > LATE_SHARE * (n_scored + n_skipped) and self._logged.due():
            log.warning(
                "%s: slower than real time: %d of %d hops were skipped in the last minute; "
                "a longer windows.hop_s or a smaller model would help",
                self._id,
                n_skipped,
                n_scored + n_skipped,
            )
