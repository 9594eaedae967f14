"""The model in a process of its own: when it crashes, hangs or runs out of memory, listening goes on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from streamer.config.schema import ModelSettings
from streamer.core.backoff import Backoff
from streamer.core.tasks import cancel_and_wait, first_of, running
from streamer.errors import ConfigError, InferenceError, ModelError, StreamerError
from streamer.inference.batches import Batches
from streamer.inference.heads import Head
from streamer.inference.process.arena import Arena
from streamer.inference.worker import About
from streamer.metrics import Metrics
from streamer.types import Scores, Window

log = logging.getLogger(__name__)

LINE_MAX = 1 << 22
"""bytes of an answer: some labels' names and a line a window"""
FINAL: Mapping[str, type[StreamerError]] = {"ModelError": ModelError, "ConfigError": ConfigError}
"""failures at the start after which another attempt is of no use"""
FAULTS_MAX = 3
FAULTS_S = 600.0
"""so many failures of a CUDA device within this time, and the CPU takes over"""
RETRY_S = (1800.0, 86400.0)
"""when the device is tried again: doubling, from the first to the longest"""


RESTART = Backoff(first_s=1.0, longest_s=60.0, at_once=True)
"""pauses before the child is started again"""
SUSPECT = Backoff(first_s=10.0, longest_s=600.0)
"""pauses in which windows of a source that kills the model are not scored"""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long the child may take, and how soon it is started again."""

    load_s: float = 300.0
    batch_s: float = 20.0
    """a batch that takes longer counts as a hang"""
    restart: Backoff = RESTART
    suspect: Backoff = SUSPECT


LIMITS = Limits()


class ChildDiedError(Exception):
    """The child has ended, or counts as ended; the text says why."""


class ChildWorker:
    """A `Worker` whose engine lives in a child process, which is started again whenever it ends.

    Samples and scores go through shared memory. Windows that are in the child when it dies are given to the
    next one, one by one. One that kills that child, too, is not scored, and its source is a suspect: its
    windows are scored alone, after a pause that grows, so that the other sources do not suffer. After three
    failures of a CUDA device within ten minutes the CPU takes over, and the device is tried again later.
    """

    def __init__(
        self,
        settings: ModelSettings,
        metrics: Metrics,
        *,
        n_sources: int | None = None,
        engine: str | None = None,
        heads: Sequence[Head] = (),
        limits: Limits = LIMITS,
        suspects: Suspects | None = None,
        others: Callable[[ChildWorker], ChildWorker | None] = lambda _: None,
    ) -> None:
        """With `n_sources`, the hop for so many is measured. `engine` and `heads` as in `open_engine`.

        In a pool `suspects` are those of all its workers, and `others` gives another one that is ready now.
        """
        self._settings = settings
        self._metrics = metrics
        self._n_sources = n_sources
        self._engine = engine
        self._heads = [asdict(head) for head in heads]
        self._limits = limits
        self._batches = Batches(self._score, settings.max_batch, settings.batch_wait_s)
        self._ready: asyncio.Future[_Child] = asyncio.get_running_loop().create_future()
        self._turn = asyncio.Lock()
        self._supervisor: asyncio.Task[None] | None = None
        self._asked_at: float | None = None
        self._failures = 0
        self._device = _Device(settings.first_device)
        self.about: About | None = None
        self._condition = "loading the model"
        self._suspects: Suspects = {} if suspects is None else suspects
        self._others = others

    async def start(self) -> About:
        """Load the model. Raises ModelError where that fails, or where the device asked for is not there.

        For a fleet, ConfigError where its cluster is not safe or has another token.
        """
        while True:
            try:
                child = await self._launch()
            except ChildDiedError as died:
                await self._recover(str(died))
            else:
                self._supervisor = asyncio.create_task(self._supervise(child), name="inference child")
                return child.about

    async def score(self, window: Window) -> Scores:
        """Raises InferenceError where the child died of this window, or of earlier ones of its source."""
        suspect = self._suspects.get(window.source_id)
        if suspect is not None and (pause_s := suspect.until - time.monotonic()) > 0:
            raise InferenceError(f"it ends the model's process; not scored for another {pause_s:.0f} s")
        return await self._batches.score(window)

    async def close(self) -> None:
        """End the child. May be called twice."""
        if self._supervisor is not None:
            await cancel_and_wait(self._supervisor)
        if not self._ready.done():
            self._ready.cancel()
        batch = self._batches.close()
        if batch is not None:
            await asyncio.wait((batch,), timeout=self._limits.batch_s)

    @property
    def is_ready(self) -> bool:
        """A child is loaded and runs."""
        return self._ready.done() and not self._ready.cancelled()

    def describe(self) -> str:
        """One phrase for people."""
        return self._condition

    def problem(self) -> str | None:
        """What a watchdog must know: windows wait, and neither scores nor a restart are under way."""
        limit_s = 2 * (self._limits.batch_s + self._limits.load_s) + self._limits.restart.longest_s
        if self._asked_at is None or time.monotonic() - self._asked_at < limit_s:
            return None
        return f"inference: a batch has waited for {time.monotonic() - self._asked_at:.0f} s"

    async def _score(self, windows: Sequence[Window]) -> list[Scores | InferenceError]:
        """The scores of a batch, or why there are none, window by window."""
        self._asked_at = time.monotonic()
        try:
            innocent = [window for window in windows if window.source_id not in self._suspects]
            outcomes: dict[int, Scores | InferenceError] = {}
            if innocent:
                outcomes |= dict(zip(map(id, innocent), await self._score_batch(innocent), strict=True))
            for window in windows:
                if id(window) not in outcomes:
                    outcomes[id(window)] = await self._score_alone(window)
            return [outcomes[id(window)] for window in windows]
        except asyncio.CancelledError:
            raise InferenceError("the worker is closed") from None
        finally:
            self._asked_at = None

    async def _score_batch(self, windows: Sequence[Window]) -> Sequence[Scores | InferenceError]:
        other = None if self.is_ready else self._others(self)
        if other is not None:  # these were queued when the child ended, and are under no suspicion
            return await asyncio.gather(*(other.outcome(window) for window in windows))
        try:
            return await self._attempt(windows)
        except ChildDiedError:
            return [await self._score_again(window) for window in windows]

    async def _score_again(self, window: Window) -> Scores | InferenceError:
        """A window that was in a child when it ended."""
        other = self._others(self)
        return await (self._score_alone(window) if other is None else other._score_alone(window, moved=True))

    async def outcome(self, window: Window) -> Scores | InferenceError:
        """As `score`, with the error in place of the scores."""
        try:
            return await self.score(window)
        except InferenceError as error:
            return error

    async def _score_alone(self, window: Window, *, moved: bool = False) -> Scores | InferenceError:
        """A child that dies now died of this window. `moved`: it comes from the child of another device."""
        try:
            (scores,) = await self._attempt([window])
        except ChildDiedError as died:
            # The device may be at fault: the CPU takes over before a source is suspected.
            if self._device.is_cuda and not moved:
                return InferenceError(f"the model failed twice with it: {died}")
            suspect = self._suspects.setdefault(window.source_id, _Suspect())
            suspect.deaths += 1
            pause_s = self._limits.suspect.pause_s(suspect.deaths)
            suspect.until = time.monotonic() + pause_s
            log.error(  # noqa: TRY400  # the cause was logged when the process ended
                "%s: a window of it ended the model's process: none is scored for %g s",
                window.source_id,
                pause_s,
            )
            return InferenceError(f"the model's process ended with it: {died}")
        self._suspects.pop(window.source_id, None)
        return scores

    async def _attempt(self, windows: Sequence[Window]) -> list[Scores | InferenceError]:
        """Give windows to the present child, or to the next one. Raises ChildDiedError."""
        ready = self._ready
        child = await ready
        try:
            async with self._turn:
                scores, seconds = await child.score(windows, self._limits.batch_s)
        except ChildDiedError:
            if self._ready is ready:
                self._ready = asyncio.get_running_loop().create_future()
            raise
        self._metrics.batches += 1
        self._metrics.batch_windows += len(windows)
        self._metrics.inference_s += seconds
        return scores

    async def _supervise(self, child: _Child) -> None:
        """Keep a child running until cancelled."""
        while True:
            self._ready.set_result(child)
            self._condition = child.about.describe
            try:
                reason = await self._until_over(child)
            finally:
                if self._ready.done():
                    self._ready = asyncio.get_running_loop().create_future()
                await child.close()
            while True:
                await self._recover(reason)
                try:
                    child = await self._launch()
                    break
                except (ChildDiedError, ModelError, ConfigError) as error:
                    reason = str(error)

    async def _until_over(self, child: _Child) -> str:
        """Why the child is over: it died, or its time as a stand-in has passed."""
        began = time.monotonic()
        async with running(child.ended(), "inference child ended") as ended:
            await first_of(ended, timeout_s=self._device.stand_in_s)
            if ended.done():
                if time.monotonic() - began > self._limits.restart.longest_s:
                    self._failures = 0
                return ended.result()
            async with self._turn:
                self._device.try_again()
                self._failures = 0
                return ""

    async def _recover(self, reason: str) -> None:
        """Log what happened, and wait before the next start. Without a reason nothing has failed."""
        if not reason:
            log.info("inference: %s is tried again", self._device.wanted)
            return
        self._failures += 1
        self._metrics.worker_restarts += 1
        fell_back = self._device.failed(time.monotonic())
        pause_s = self._limits.restart.pause_s(self._failures)
        self._condition = f"restarting: {reason}"
        log.error("inference: %s; started again%s", reason, f" in {pause_s:g} s" if pause_s else "")
        if fell_back:
            log.error(
                "inference: %s failed %d times in ten minutes: the CPU takes over, which is slower; "
                "next attempt in %.0f minutes",
                self._device.wanted,
                FAULTS_MAX,
                (self._device.stand_in_s or 0) / 60,
            )
        await asyncio.sleep(pause_s)

    def _order(self) -> dict[str, object]:
        """What the child is to load."""
        settings = self._settings.model_copy(update={"device": self._device.now})
        return {
            "engine": self._engine,
            "heads": self._heads,
            "settings": settings.model_dump(mode="json"),
            "n_sources": self._n_sources if self.about is None else None,
            "fleet": None,
            "wanted": None,
        }

    async def _launch(self) -> _Child:
        child = await _Child.start(self._order(), self._limits.load_s)
        if self.about is not None and child.about.labels != self.about.labels:
            await child.close()
            raise ChildDiedError(
                "the model on disk has other labels than the one that was running: restart the program"
            )
        self.about = child.about
        self._device.is_cuda = child.about.device.startswith("cuda")
        self._metrics.devices[id(self)] = child.about.device
        self._metrics.engine = child.about.engine
        return child


@dataclass(slots=True)
class _Suspect:
    """A source whose windows have killed children."""

    deaths: int = 0
    until: float = 0.0
    """monotonic: until then its windows are not scored"""


Suspects: TypeAlias = dict[str, _Suspect]
"""sources whose windows have killed children, by id"""


class _Device:
    """Which device the child is to use, by how often the one that is wanted has failed."""

    def __init__(self, wanted: str) -> None:
        self.wanted = self.now = wanted
        self.is_cuda = wanted.startswith("cuda")
        self._faults: deque[float] = deque(maxlen=FAULTS_MAX)
        self._retry_s = RETRY_S[0]
        self.stand_in_s: float | None = None
        """how long the CPU stands in for it; None while it does not"""

    def failed(self, now: float) -> bool:
        """Count a failure. Returns whether the CPU takes over now."""
        if not self.is_cuda:
            return False
        self._faults.append(now)
        if len(self._faults) < FAULTS_MAX or now - self._faults[0] > FAULTS_S:
            return False
        self.now, self.is_cuda = "cpu", False
        self.stand_in_s, self._retry_s = self._retry_s, min(RETRY_S[1], 2 * self._retry_s)
        return True

    def try_again(self) -> None:
        """One more failure, and the CPU takes over again."""
        self.now, self.is_cuda, self.stand_in_s = self.wanted, True, None


class _Child:
    """One process, from its start to its end."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        arena: Arena,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._process = process
        self._arena = arena
        self._reader = reader
        self._writer = writer
        self._why = ""
        self.about: About

    @classmethod
    async def start(cls, order: dict[str, object], load_s: float) -> _Child:
        """Raises ChildDiedError, and ModelError or ConfigError where another attempt is of no use."""
        ours, theirs = socket.socketpair()
        arena = Arena.create()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "streamer.inference.process.host",
                str(theirs.fileno()),
                str(arena.descriptor),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), arena.descriptor),
                start_new_session=True,  # Ctrl-C is for the parent, which ends the child in order
            )
        child = cls(process, arena, *await asyncio.open_connection(sock=ours, limit=LINE_MAX))
        try:
            answer = await child._ask(order, load_s, "loading the model")
            child.about = About(**{**answer, "labels": tuple(answer["labels"])})
        except BaseException:
            await child.close()
            raise
        return child

    async def score(
        self, windows: Sequence[Window], batch_s: float
    ) -> tuple[list[Scores | InferenceError], float]:
        """Scores or errors, and how many seconds they took. Raises ChildDiedError."""
        places, end = [], 0
        for window in windows:
            places.append(
                {
                    "offset": end,
                    "n_samples": len(window.samples),
                    "source_id": window.source_id,
                    "index": window.index,
                    "sample_rate": window.sample_rate,
                    "start": window.start,
                    "end": window.end,
                    "has_gap": window.has_gap,
                    "warm_up": window.warm_up,
                }
            )
            end = self._arena.write(end, window.samples)
        answer = await self._ask({"windows": places}, batch_s, "scoring")
        seconds: float = answer["seconds"]
        return [self._outcome(w, place) for w, place in zip(windows, answer["scores"], strict=True)], seconds

    async def ended(self) -> str:
        """Wait for its end. Returns the cause, a clause for people."""
        code = await self._process.wait()
        if self._why:
            return self._why
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"its process {how}"

    async def close(self) -> None:
        """Kill it: it holds no state that is worth saving."""
        self._writer.close()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        self._arena.close()

    def _outcome(self, window: Window, place: dict[str, Any]) -> Scores | InferenceError:
        if "failure" in place:
            return InferenceError(place["failure"])
        offset, n_labels, n_frames = place["offset"], place["n_labels"], place["n_frames"]
        frames_at = offset + 4 * n_labels
        return Scores(
            source_id=window.source_id,
            index=window.index,
            start=window.start,
            end=window.end,
            clip=self._arena.read(offset, (n_labels,)).copy(),
            frames=None if n_frames is None else self._arena.read(frames_at, (n_frames, n_labels)).copy(),
            frame_s=place["frame_s"],
        )

    async def _ask(self, message: dict[str, object], limit_s: float, what: str) -> dict[str, Any]:
        try:
            async with asyncio.timeout(limit_s):
                self._writer.write(json.dumps(message).encode() + b"\n")
                await self._writer.drain()
                line = await self._reader.readline()
        except TimeoutError:
            self._why = f"it hung while {what}, for more than {limit_s:g} s"
            self._process.kill()
            raise ChildDiedError(self._why) from None
        except OSError:
            line = b""
        if not line.endswith(b"\n"):
            raise ChildDiedError(await self.ended())
        answer: dict[str, Any] = json.loads(line)
        if "failure" in answer:
            self._why = answer["failure"]
            raise FINAL.get(answer["kind"], ChildDiedError)(self._why)
        return answer
