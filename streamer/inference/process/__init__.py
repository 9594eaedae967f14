"""The model in a process of its own."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from streamer.config.schema import FleetSettings, ModelSettings
from streamer.inference.heads import Head
from streamer.inference.process.child import ChildWorker
from streamer.inference.process.fleet import FleetWorker
from streamer.inference.process.pool import Pool
from streamer.inference.worker import Worker
from streamer.metrics import Metrics


def open_worker(
    settings: ModelSettings,
    metrics: Metrics,
    *,
    n_sources: int | None = None,
    heads: Sequence[Head] = (),
    fleet: FleetSettings | None = None,
    wanted: Collection[str] | None = None,
) -> Worker:
    """The worker that `settings` describe, not started yet; with `n_sources` it measures the fastest hop.

    The labels of `heads` come behind the model's own. A `fleet` sends the scores of `wanted` labels alone.
    """
    if fleet is not None:
        return FleetWorker(fleet, settings, metrics, wanted=wanted, n_sources=n_sources, heads=heads)
    kind = Pool if len(settings.devices) > 1 else ChildWorker
    return kind(settings, metrics, n_sources=n_sources, heads=heads)
