"""The model in a process of its own."""

from __future__ import annotations

from streamer.config.schema import ModelSettings
from streamer.inference.process.child import ChildWorker
from streamer.inference.process.pool import Pool
from streamer.inference.worker import Worker
from streamer.metrics import Metrics


def open_worker(settings: ModelSettings, metrics: Metrics, *, n_sources: int | None = None) -> Worker:
    """The worker that `settings` describe, not started yet; with `n_sources` it measures the fastest hop."""
    kind = Pool if len(settings.devices) > 1 else ChildWorker
    return kind(settings, metrics, n_sources=n_sources)
