"""The counters as Prometheus reads them."""

from __future__ import annotations

from dataclasses import fields

from prometheus_client.parser import text_string_to_metric_families

from streamer.metrics import Metrics, SourceMetrics
from streamer.ops.health import Health
from streamer.ops.prometheus import Exposition
from streamer.ops.systemd import Notifier


def values(page: str) -> dict[tuple[str, str], float]:
    """By name and source."""
    return {
        (sample.name, sample.labels.get("source", "")): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def test_what_is_known_of_a_source() -> None:
    """Each counter of `SourceMetrics`, its problem, and its levels, of which dB(A) needs a calibration."""
    metrics = Metrics()
    room, hall = metrics.source("room"), metrics.source("hall")
    room.problem, room.level_dbfs, room.level_dba = "clipping", -30.5, 63.5
    hall.level_dbfs, hall.gap_s, hall.events = -50.0, 1.5, 3
    health = Health(metrics, Notifier())
    found = values(Exposition(metrics, health).text().decode())
    assert found["streamer_source_problem", "room"] == 1
    assert found["streamer_source_problem", "hall"] == 0
    assert found["streamer_source_level_dbfs", "room"] == -30.5
    assert found["streamer_source_level_dba", "room"] == 63.5
    assert ("streamer_source_level_dba", "hall") not in found
    assert found["streamer_source_gap_seconds_total", "hall"] == 1.5
    assert found["streamer_source_events_total", "hall"] == 3
    for field in fields(SourceMetrics):
        if field.type in ("int", "float"):
            name = field.name.removesuffix("_s") + "_seconds" * field.name.endswith("_s")
            assert (f"streamer_source_{name}_total", "room") in found
