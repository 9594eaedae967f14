"""A worker whose windows other machines score: its child process is the driver of their cluster."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial

from streamer.config.schema import FleetSettings, ModelSettings
from streamer.core.tasks import cancel_and_wait, first_of
from streamer.errors import InferenceError, ModelError
from streamer.inference.batches import Batches
from streamer.inference.heads import Head
from streamer.inference.process.child import ChildDiedError, ChildWorker, Limits
from streamer.inference.worker import About
from streamer.metrics import Metrics
from streamer.types import Scores, Window

log = logging.getLogger(__name__)

SLACK_S = 15.0
"""beyond the deadline, after which the driver counts as hung"""
START_S = 60.0
"""for which the first start waits before this machine takes over, where it may"""
AGAIN_S = 60.0
"""until a start is tried again whose failure was final, while this machine scores"""
PROBE_S = 5.0
"""between two windows that are tried in the fleet while this machine scores"""


class FleetWorker(ChildWorker):
    """A `Worker` that gives its windows to a fleet.

    What goes wrong there is never the fault of a source: windows that have no scores by the deadline are
    skipped. With `fallback: local` this machine then loads the model, and scores until the fleet is back.
    """

    def __init__(
        self,
        fleet: FleetSettings,
        settings: ModelSettings,
        metrics: Metrics,
        *,
        wanted: Collection[str] | None = None,
        n_sources: int | None = None,
        engine: str | None = None,
        heads: Sequence[Head] = (),
        limits: Limits | None = None,
        start_s: float = START_S,
    ) -> None:
        """Scores are those of `wanted` labels, or of all. The others as in `ChildWorker`."""
        limits = limits or Limits(batch_s=fleet.deadline_s + SLACK_S)
        # The driver itself uses no device: none of its failures is that of one.
        here = settings.model_copy(update={"device": "cpu"})
        super().__init__(here, metrics, n_sources=n_sources, engine=engine, heads=heads, limits=limits)
        self._batches = Batches(self._score, fleet.batch * fleet.flights, settings.batch_wait_s)
        self._fleet = fleet
        self._replica = settings
        self._wanted = None if wanted is None else sorted(wanted)
        self._start_s = start_s
        self._newest: Window | None = None
        self._local = _Local(settings, metrics, engine=engine, heads=heads)
        self._starting: asyncio.Task[About] | None = None
        self._standing_in: asyncio.Task[None] | None = None

    async def start(self) -> About:
        """Find the replicas, or start them. Raises ModelError, ConfigError.

        With `fallback: local`, the model is loaded here where that takes too long.
        """
        self._starting = asyncio.create_task(self._start_there(), name="fleet start")
        await first_of(self._starting, timeout_s=self._start_s if self._may_stand_in else None)
        if self._starting.done():
            return self._starting.result()
        self.about = await self._local.start(self._columns)
        self._stand_in("it did not start in time")
        return self.about

    async def close(self) -> None:
        """End the driver, and the model of this machine. May be called twice."""
        tasks = [task for task in (self._starting, self._standing_in) if task is not None]
        await cancel_and_wait(*tasks)
        await self._local.close()
        await super().close()

    def describe(self) -> str:
        """One phrase for people."""
        here = self._local.describe()
        return f"the fleet is gone ({self._condition}); here: {here}" if here else self._condition

    async def _start_there(self, after_s: float = 0.0) -> About:
        await asyncio.sleep(after_s)
        return await super().start()

    @property
    def _may_stand_in(self) -> bool:
        return self._fleet.fallback == "local"

    def _order(self) -> dict[str, object]:
        return super()._order() | {
            "settings": self._replica.model_dump(mode="json"),
            "fleet": self._fleet.model_dump(mode="json"),
            "wanted": self._wanted,
        }

    async def _score(self, windows: Sequence[Window]) -> list[Scores | InferenceError]:
        self._asked_at = time.monotonic()
        self._newest = windows[-1]
        try:
            if self._standing_in is None or self._standing_in.done():
                outcomes = await self._score_there(windows)
                failures = [outcome for outcome in outcomes if isinstance(outcome, InferenceError)]
                if len(failures) < len(outcomes) or not self._may_stand_in:
                    return outcomes
                self._stand_in(str(failures[0]))
            return await self._local.score(windows)
        except asyncio.CancelledError:
            raise InferenceError("the worker is closed") from None
        finally:
            self._asked_at = None

    async def _score_there(self, windows: Sequence[Window]) -> list[Scores | InferenceError]:
        try:
            async with asyncio.timeout(self._fleet.deadline_s):
                await asyncio.shield(self._ready)
            return await self._attempt(windows)
        except TimeoutError:
            error = InferenceError(f"the fleet is gone: {self._condition}")
        except ChildDiedError as died:
            error = InferenceError(f"the fleet's driver ended: {died}")
        return [error] * len(windows)

    def _stand_in(self, reason: str) -> None:
        log.error("inference: the fleet is gone: %s; this machine scores until it is back", reason)
        self._standing_in = asyncio.create_task(self._until_back(), name="fleet stand-in")

    async def _until_back(self) -> None:
        """Load the model here, and end it once the fleet scores again."""
        try:
            await self._local.start(self._columns)
        except ModelError as error:
            log.error("inference: this machine cannot stand in: %s", error)  # noqa: TRY400  # it is for people
        while not await self._is_back():  # noqa: ASYNC110  # the answer is another machine's
            await asyncio.sleep(PROBE_S)
        log.info("inference: the fleet is back")
        await self._local.close()

    async def _is_back(self) -> bool:
        """Whether the fleet scores the newest window."""
        starting = self._starting
        if starting is not None and starting.done() and (error := starting.exception()) is not None:
            log.error("inference: the fleet does not start: %s; tried again in %g s", error, AGAIN_S)
            self._starting = asyncio.create_task(self._start_there(AGAIN_S), name="fleet start")
        if not self.is_ready or self._newest is None:
            return False
        (outcome,) = await self._score_there([self._newest])
        return not isinstance(outcome, InferenceError)

    def _columns(self, labels: Sequence[str]) -> list[int]:
        """Of the labels that are wanted, as the replicas choose them."""
        return [i for i, label in enumerate(labels) if self._wanted is None or label in self._wanted]


class _Local:
    """The model of this machine, loaded only while it is needed."""

    def __init__(
        self, settings: ModelSettings, metrics: Metrics, *, engine: str | None, heads: Sequence[Head]
    ) -> None:
        self._open: Callable[[], ChildWorker] = partial(
            ChildWorker, settings, metrics, engine=engine, heads=heads
        )
        self._worker: ChildWorker | None = None
        self._columns: list[int] = []
        self._turn = asyncio.Lock()

    async def start(self, columns: Callable[[Sequence[str]], list[int]]) -> About:
        """Load it, unless it is. `columns` chooses labels. Raises ModelError."""
        worker = self._worker or self._open()
        try:
            about = worker.about or await worker.start()
        except BaseException:
            await worker.close()
            raise
        self._worker, self._columns = worker, columns(about.labels)
        return replace(about, labels=tuple(about.labels[i] for i in self._columns))

    async def score(self, windows: Sequence[Window]) -> list[Scores | InferenceError]:
        async with self._turn:
            if self._worker is None:
                return [InferenceError("the fleet is gone, and no model is loaded here yet")] * len(windows)
            outcomes = await asyncio.gather(*(self._worker.outcome(window) for window in windows))
        return [one if isinstance(one, InferenceError) else self._chosen(one) for one in outcomes]

    async def close(self) -> None:
        """End it after the batch under way."""
        async with self._turn:
            worker, self._worker = self._worker, None
        if worker is not None:
            await worker.close()

    def describe(self) -> str:
        """One phrase for people; empty where nothing is loaded."""
        return "" if self._worker is None else self._worker.describe()

    def _chosen(self, scores: Scores) -> Scores:
        frames = scores.frames
        return replace(
            scores,
            clip=scores.clip[self._columns],
            frames=None if frames is None else frames[:, self._columns],
        )
