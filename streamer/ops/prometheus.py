"""The counters in the text format of Prometheus. The only importer of prometheus_client."""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from streamer.metrics import Metrics
from streamer.ops.health import Health
from streamer.ops.memory import malloc_bytes, resident_bytes
from streamer.types import SourcePhase

PHASES = tuple(SourcePhase)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_COUNTERS = {
    "blocks": "blocks that a source gave",
    "overflows": "blocks before which audio was lost",
    "gap_s": "seconds of audio lost",
    "bad_samples": "samples that were NaN, infinite or beyond full scale",
    "reopens": "how often it was opened again",
    "windows": "windows cut",
    "windows_skipped": "hops skipped while the model was busy",
    "events": "events begun",
}


class Exposition:
    """All counters as text, as they are when it is asked for."""

    def __init__(self, metrics: Metrics, health: Health) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Collected(metrics, health))

    def text(self) -> bytes:
        return generate_latest(self._registry)


class _Collected(Collector):
    """The counters in Prometheus' words, read when they are asked for."""

    def __init__(self, metrics: Metrics, health: Health) -> None:
        self._metrics = metrics
        self._health = health

    def collect(self) -> Iterator[Metric]:
        yield from self._of_sources()
        yield from self._of_inference()
        yield from self._of_delivery()
        healthy = float(not self._health.problems())
        yield GaugeMetricFamily("streamer_healthy", "1 while every part is alive", value=healthy)
        yield GaugeMetricFamily("streamer_uptime_seconds", "since the start", value=self._health.uptime_s)
        yield GaugeMetricFamily(
            "streamer_event_loop_lag_seconds", "how late the loop is", value=self._metrics.loop_lag_s
        )
        yield CounterMetricFamily(
            "streamer_log_lines_dropped", "its reader is too slow", value=self._metrics.log_lines_lost()
        )
        yield GaugeMetricFamily(
            "streamer_resident_bytes", "memory of the daemon, without the model", value=resident_bytes()
        )
        in_use = malloc_bytes()
        if in_use is not None:
            yield GaugeMetricFamily(
                "streamer_malloc_in_use_bytes", "given out by malloc, and not freed", value=in_use
            )

    def _of_sources(self) -> Iterator[Metric]:
        sources = list(self._metrics.sources.items())
        for counter, description in _COUNTERS.items():
            name = f"streamer_source_{counter.removesuffix('_s')}{'_seconds' * counter.endswith('_s')}"
            family = CounterMetricFamily(name, description, labels=["source"])
            for source_id, own in sources:
                family.add_metric([source_id], getattr(own, counter))
            yield family
        state = GaugeMetricFamily(
            "streamer_source_state", "1 for the state it is in", labels=["source", "state"]
        )
        for source_id, own in sources:
            for phase in PHASES:
                state.add_metric([source_id, phase], float(own.phase == phase))
        yield state
        problem = GaugeMetricFamily("streamer_source_problem", "1 at an input fault", labels=["source"])
        dbfs = GaugeMetricFamily("streamer_source_level_dbfs", "of the newest hop", labels=["source"])
        dba = GaugeMetricFamily("streamer_source_level_dba", "where it is calibrated", labels=["source"])
        for source_id, own in sources:
            problem.add_metric([source_id], float(bool(own.problem)))
            for gauge, level in ((dbfs, own.level_dbfs), (dba, own.level_dba)):
                if level is not None:
                    gauge.add_metric([source_id], level)
        yield from (problem, dbfs, dba)
        sounds = CounterMetricFamily("streamer_sound_events", "events, by sound", labels=["sound"])
        for sound, count in self._metrics.sounds.items():
            sounds.add_metric([sound], count)
        yield sounds
        overdue = GaugeMetricFamily(
            "streamer_sound_overdue", "1 while it should have been heard again", labels=["source", "sound"]
        )
        unheard = GaugeMetricFamily(
            "streamer_sound_unheard_seconds", "of listening since it was heard", labels=["source", "sound"]
        )
        for key, unheard_s in self._metrics.unheard_s.items():
            overdue.add_metric(key, float(key in self._metrics.overdue))
            unheard.add_metric(key, unheard_s)
        yield from (overdue, unheard)

    def _of_inference(self) -> Iterator[Metric]:
        metrics = self._metrics
        yield CounterMetricFamily("streamer_batches", "batches scored", value=metrics.batches)
        yield CounterMetricFamily("streamer_batch_windows", "windows scored", value=metrics.batch_windows)
        yield CounterMetricFamily("streamer_inference_seconds", "spent on batches", value=metrics.inference_s)
        yield CounterMetricFamily(
            "streamer_inference_restarts", "of the model's process", value=metrics.worker_restarts
        )
        device = GaugeMetricFamily("streamer_inference_device", "that the model is on", labels=["device"])
        device.add_metric([metrics.device], 1)
        yield device
        latency = GaugeMetricFamily(
            "streamer_latency_seconds", "capture to emission of the latest 1000 events", labels=["quantile"]
        )
        for name, quantile in (("p50", "0.5"), ("p99", "0.99")):
            value = metrics.latency_ms()[name]
            if value is not None:
                latency.add_metric([quantile], value / 1000)
        yield latency

    def _of_delivery(self) -> Iterator[Metric]:
        metrics, outbox = self._metrics, self._metrics.outbox
        yield CounterMetricFamily("streamer_mqtt_reconnects", "to the broker", value=metrics.reconnects)
        yield GaugeMetricFamily(
            "streamer_outbox_depth", "events that wait for the broker", value=outbox.depth
        )
        yield GaugeMetricFamily(
            "streamer_outbox_in_memory", "events that the disk does not take", value=outbox.in_memory
        )
        age_s = 0.0 if outbox.oldest_at is None else time.monotonic() - outbox.oldest_at
        yield GaugeMetricFamily("streamer_outbox_age_seconds", "of the oldest event", value=age_s)
        yield CounterMetricFamily(
            "streamer_outbox_refused", "events the broker refused", value=outbox.refused
        )
        dropped = CounterMetricFamily("streamer_dropped", "reports that a sink dropped", labels=["sink"])
        for sink, count in metrics.dropped.items():
            dropped.add_metric([sink], count)
        yield dropped
