"""/metrics and /healthz over a real connection."""

from __future__ import annotations

import asyncio
from dataclasses import fields

import pytest
from prometheus_client.parser import text_string_to_metric_families

from streamer.metrics import Metrics, SourceMetrics
from streamer.ops.health import Health
from streamer.ops.prometheus import metrics_server
from streamer.ops.systemd import Notifier


async def get(port: int, path: str, host: str = "localhost", method: str = "GET") -> tuple[int, str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    return int(head.split()[1]), body


def values(page: str) -> dict[tuple[str, str], float]:
    """By name and source."""
    return {
        (sample.name, sample.labels.get("source", "")): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


async def test_what_is_known_of_a_source() -> None:
    """Each counter of `SourceMetrics`, its problem, and its levels, of which dB(A) needs a calibration."""
    metrics = Metrics()
    room, hall = metrics.source("room"), metrics.source("hall")
    room.problem, room.level_dbfs, room.level_dba = "clipping", -30.5, 63.5
    hall.level_dbfs, hall.gap_s, hall.events = -50.0, 1.5, 3
    health = Health(metrics, Notifier())
    async with metrics_server(0, metrics, health) as port:
        status, page = await get(port, "/metrics")
    assert status == 200
    found = values(page)
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


@pytest.mark.parametrize(
    ("problems", "status", "body"),
    [([], 200, "starting\n"), (["the model hangs", "no disk"], 503, "the model hangs; no disk\n")],
)
async def test_health(problems: list[str], status: int, body: str) -> None:
    """200 with a line for people while every part is alive, else 503 with what is wrong."""
    health = Health(metrics := Metrics(), Notifier())
    health.set_parts({text: lambda text=text: text for text in problems}, lambda: False)  # type: ignore[misc]  # bound now
    async with metrics_server(0, metrics, health) as port:
        assert await get(port, "/healthz?verbose=1") == (status, body)


async def test_who_is_refused() -> None:
    """Another path, another method, and a web page that rebinds DNS."""
    health = Health(metrics := Metrics(), Notifier())
    async with metrics_server(0, metrics, health) as port:
        assert (await get(port, "/"))[0] == 404
        assert (await get(port, "/metrics", method="POST"))[0] == 404
        assert (await get(port, "/metrics", host="attacker.example"))[0] == 403
        assert (await get(port, "/metrics", host=f"127.0.0.1:{port}"))[0] == 200


async def test_a_port_that_is_taken(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and the daemon runs without."""
    health = Health(metrics := Metrics(), Notifier())
    async with metrics_server(0, metrics, health) as port:
        async with metrics_server(port, metrics, health) as second:
            assert second == 0
        assert f"127.0.0.1:{port}: no /metrics" in caplog.text
