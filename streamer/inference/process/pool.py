"""Several devices of one machine behind one worker: a child process each."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from streamer.config.schema import ModelSettings
from streamer.core.tasks import cancel_and_wait
from streamer.errors import ModelError
from streamer.inference.heads import Head
from streamer.inference.process.child import LIMITS, ChildWorker, Limits, Suspects
from streamer.inference.worker import About
from streamer.metrics import Metrics
from streamer.types import Scores, Window


class Pool:
    """A `Worker` of one `ChildWorker` a device. A window goes to the child with the fewest in flight.

    A child that has ended gets no window until it is loaded again. What it had is scored by another one, each
    window alone, so that one that ends processes ends one more at most: then its source is a suspect for all.
    Two devices do not fail with the same window by chance.
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
    ) -> None:
        """With `n_sources`, the hop that keeps up with so many is measured, a share of them a device."""
        self._metrics = metrics
        suspects: Suspects = {}
        share = None if n_sources is None else -(-n_sources // len(settings.devices))
        self._children = [
            ChildWorker(
                settings.model_copy(update={"device": device}),
                metrics,
                n_sources=share,
                engine=engine,
                heads=heads,
                limits=limits,
                suspects=suspects,
                others=self._others,
            )
            for device in settings.devices
        ]
        self._in_flight = [0] * len(self._children)

    async def start(self) -> About:
        """Load the model on each device. Raises ModelError where that fails on one, or they differ."""
        starts = [asyncio.create_task(child.start(), name="inference start") for child in self._children]
        try:
            abouts = await asyncio.gather(*starts)
        finally:
            await cancel_and_wait(*starts)
        if len({about.labels for about in abouts}) > 1:
            raise ModelError("the model was changed while it was loaded: its labels differ between devices")
        slowest = max((about.hop_s for about in abouts if about.hop_s is not None), default=None)
        devices = ", ".join(about.device for about in abouts)
        phrases = "; ".join(dict.fromkeys(about.describe for about in abouts))
        return replace(
            abouts[0], device=devices, describe=f"{len(abouts)} processes: {phrases}", hop_s=slowest
        )

    async def score(self, window: Window) -> Scores:
        """Raises InferenceError as `ChildWorker.score` does."""
        ready = [i for i, child in enumerate(self._children) if child.is_ready]
        chosen = min(ready or range(len(self._children)), key=lambda i: self._in_flight[i])
        self._in_flight[chosen] += 1
        try:
            return await self._children[chosen].score(window)
        finally:
            self._in_flight[chosen] -= 1

    def describe(self) -> str:
        """One phrase for people: what runs on which device."""
        n_ready = sum(child.is_ready for child in self._children)
        phrases = dict.fromkeys(child.describe() for child in self._children)
        return f"{n_ready} of {len(self._children)} processes: {'; '.join(phrases)}"

    def problem(self) -> str | None:
        """What a watchdog must know: none of the children moves any more."""
        problems = [child.problem() for child in self._children]
        return None if None in problems else "; ".join(problem for problem in problems if problem)

    async def close(self) -> None:
        """End the children. May be called twice."""
        await asyncio.gather(*(child.close() for child in self._children))

    def _others(self, lost: ChildWorker) -> ChildWorker | None:
        """Another child that can score now what `lost` had."""
        ready = [i for i, child in enumerate(self._children) if child.is_ready and child is not lost]
        return self._children[min(ready, key=lambda i: self._in_flight[i])] if ready else None
