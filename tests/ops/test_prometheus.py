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


def test_what_is_overdue() -> None:
    """0 or 1 for each sound that is expected, so that a rule can wait for 1, and how long it is unheard."""
    metrics = Metrics()
    metrics.unheard_s = {("cellar", "washer"): 90_000.0, ("cellar", "pump"): 60.0}
    metrics.overdue["cellar", "washer"] = "no washer at cellar since 2026-09-21 15:13 UTC"
    page = Exposition(metrics, Health(metrics, Notifier())).text().decode()
    found = {
        (sample.name, sample.labels["sound"]): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if {"source", "sound"} <= sample.labels.keys()
    }
    assert found == {
        ("streamer_sound_overdue", "washer"): 1,
        ("streamer_sound_overdue", "pump"): 0,
        ("streamer_sound_unheard_seconds", "washer"): 90_000,
        ("streamer_sound_unheard_seconds", "pump"): 60,
    }
