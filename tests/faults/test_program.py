"""The daemon as a whole: its model's process is killed, its configuration changes, its clock is set."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from streamer.mqtt import connection
from streamer.run.listener import _SkippedHops
from streamer.store.query import reading
from streamer.store.score_files import minutes
from tests.daemon import DEADLINE_S
from tests.faults.program import BESIDE, Watched, watched, write
from tests.faults.table import FAULTS, Fault
from tests.mosquitto import HOST, Mosquitto, Subscribe

pytestmark = pytest.mark.slow

FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"
BEEPS = """
import array, sys, time
while True:
    for peak in [9000] * 20 + [0] * 20:
        sys.stdout.buffer.write(array.array('h', [peak, -peak] * 800).tobytes())
        sys.stdout.flush()
        time.sleep(0.1)
"""
"""two seconds of sound, two of silence"""


def model(program: Watched) -> psutil.Process:
    """The process of the model."""
    children = psutil.Process(program.daemon.process.pid).children()
    return next(child for child in children if "streamer.inference.process.host" in child.cmdline())


def test_a_killed_model_costs_nothing(tmp_path: Path) -> None:
    """Kill -9 of the model's process: capture goes on, the ring loses nothing, scores come again."""
    config = write(tmp_path, {"room": BESIDE})
    slowest_s = 0.0
    with watched(config, {}, tmp_path) as program:
        program.says("room: listening", 0)
        for count in range(1, 4):
            began = time.monotonic()
            model(program).kill()
            program.until(lambda n=count: program.status()["inference"]["restarts"] == n, "no restart")  # type: ignore[misc]  # bound now
            scored = program.source("room")["windows"]
            program.until(lambda n=scored: program.source("room")["windows"] > n + 1, "no scores")  # type: ignore[misc]  # bound now
            slowest_s = max(slowest_s, time.monotonic() - began)
        own = program.source("room")
        assert (own["phase"], own["gap_s"], own["reopens"]) == ("listening", 0.0, 0)
        assert program.daemon.stop() == 0
    FAULTS.append(Fault("model's process killed (3 times)", 0.0, slowest_s))


def test_a_hung_model_is_replaced(tmp_path: Path) -> None:
    """A model that hangs is noticed by its deadline and replaced; what it had is scored by the next."""
    config = write(tmp_path, {"hang": BESIDE})
    environment = {"STREAMER_TEST_ENGINE": "Fragile", "STREAMER_TEST_MARKS": str(tmp_path)}
    with watched(config, environment, tmp_path) as program:
        program.says("it hung while scoring", 0)
        began = time.monotonic()
        program.until(lambda: program.source("hang")["windows"] > 3, "no scores")
        assert program.source("hang")["gap_s"] == 0
        FAULTS.append(
            Fault("model hangs (deadline 3 s here, 20 s as shipped)", 3.0, time.monotonic() - began)
        )


def test_a_killed_daemon_starts_again(tmp_path: Path) -> None:
    """What a killed daemon leaves behind, its socket among it, is in nobody's way."""
    config = write(tmp_path, {"room": BESIDE})
    with watched(config, {}, tmp_path) as program:
        program.says("room: listening", 0)
        child = model(program)
        program.daemon.process.kill()
        assert psutil.wait_procs([child], timeout=DEADLINE_S)[1] == []
    assert (tmp_path / "status.sock").exists()
    with watched(config, {}, tmp_path) as program:
        program.says("room: listening", 0)
        assert program.source("room")["phase"] == "listening"


def test_metrics_and_health(tmp_path: Path) -> None:
    """Prometheus and a probe get their pages on loopback; a web page from elsewhere gets none."""
    config = write(tmp_path, {"room": BESIDE}, health={"port": 19108})
    with watched(config, {}, tmp_path) as program:
        program.says("room: listening", 0)
        assert "1 of 1 sources listening" in get("/healthz")[1]
        status, page = get("/metrics")
        assert status == 200
        assert 'streamer_source_state{source="room",state="listening"} 1.0' in page
        assert "streamer_outbox_depth 0.0" in page
        assert "streamer_log_lines_dropped_total 0.0" in page
        resident, in_use = (
            float(page.split(f"\nstreamer_{name}_bytes ")[1].split()[0])
            for name in ("resident", "malloc_in_use")
        )
        assert 1e6 < in_use < resident < 1e9
        assert get("/")[0] == 404
        assert get("/metrics", host="attacker.example")[0] == 421


def test_no_descriptor_is_left(tmp_path: Path) -> None:
    """Connections that cannot be accepted are one line; windows go on, and the stop is in order."""
    config = write(tmp_path, {"room": BESIDE}, health={"port": 19108})
    with watched(config, {}, tmp_path) as program, contextlib.ExitStack() as stack:

        def scored() -> int:
            """Windows so far; none where it cannot be asked."""
            return int(program.status().get("inference", {}).get("windows", 0))

        program.until(lambda: scored() > 1, "no window")  # all that is loaded late is there
        before = scored()
        process = psutil.Process(program.daemon.process.pid)
        process.rlimit(psutil.RLIMIT_NOFILE, (process.num_fds() + 3,) * 2)
        for _ in range(20):
            stack.enter_context(socket.create_connection(("127.0.0.1", 19108)))
        program.says("no connection can be accepted: Too many open files", 0)
        time.sleep(2)
        stack.close()
        program.until(lambda: scored() > before + 2, "it does not go on")
        assert sum("no connection can be accepted" in line for line in program.daemon.lines) == 1
        assert not any("Traceback" in line for line in program.daemon.lines)
        assert program.daemon.stop() == 0


def test_a_name_server_that_hangs(tmp_path: Path) -> None:
    """Windows go on, and the stop does not wait for it."""
    mqtt = {"host": "broker.invalid"}
    config = write(tmp_path, {"room": BESIDE}, mqtt=mqtt)
    with watched(config, {"STREAMER_TEST_RESOLVER": "hangs"}, tmp_path) as program:
        program.says("room: listening", 0)
        program.says("the name server does not answer", 0)
        windows = program.source("room")["windows"]
        program.until(lambda: program.source("room")["windows"] > windows, "it does not go on")
        began = time.monotonic()
        assert program.daemon.stop() == 0
        stop_s = time.monotonic() - began
    assert stop_s < connection.ANSWER_TIMEOUT_S
    FAULTS.append(Fault("name server that hangs", None, stop_s, "nothing"))


def get(path: str, host: str = "localhost:19108") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", 19108, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", path, headers={"Host": host})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def change(path: Path, **sections: object) -> None:
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | sections))


def test_a_reload_changes_what_changed(tmp_path: Path) -> None:
    """SIGHUP: a new source comes, a changed threshold holds, and the source that did not change goes on."""
    source = {"command": [sys.executable, "-c", BEEPS]}
    config = write(tmp_path, {"room": source}, detection={"on": 0.9})
    with watched(config, {}, tmp_path) as program:
        program.says("room: listening", 0)
        program.until(lambda: program.source("room")["windows"] > 3, "no windows")
        assert program.source("room")["events"] == 0
        change(config, sources={"room": source, "hall": BESIDE}, detection={"on": 0.2})
        program.daemon.process.send_signal(signal.SIGHUP)
        program.says("reload: the new configuration is in force", 0)
        program.says("hall: listening", 0)
        program.says("room: smoke_alarm began", 0)
        own = program.source("room")
        assert (own["reopens"], own["gap_s"], own["windows_skipped"]) == (0, 0, 0)
        change(config, sources={"hall": BESIDE})
        program.daemon.process.send_signal(signal.SIGHUP)
        program.says("room: ended", 0)
        assert list(program.status()["sources"]) == ["hall"]
        assert program.daemon.stop() == 0


def test_a_bad_reload_changes_nothing(tmp_path: Path) -> None:
    """SIGHUP with a wrong file: each error with its line, and the old configuration stays in force."""
    config = write(tmp_path, {"room": BESIDE})
    good = config.read_text()
    with watched(config, {}, tmp_path) as program:
        program.says("room: listening", 0)
        config.write_text(good + "detection: {on: 7}\nnonsense: 1\n")
        n_good = len(good.splitlines())
        program.daemon.process.send_signal(signal.SIGHUP)
        program.says(f"{config}:{n_good + 1}: detection.on", 0)
        program.says(f"{config}:{n_good + 2}: nonsense", 0)
        program.says("nothing was changed", 0)
        config.write_text(good.replace("Smoke detector, smoke alarm", "Smoke"))
        program.daemon.process.send_signal(signal.SIGHUP)
        program.says("the model has no label", 0)
        assert program.source("room")["phase"] == "listening"
        assert program.daemon.stop() == 0


def test_a_storm_of_reloads_costs_no_window(tmp_path: Path) -> None:
    """SIGHUP 45 times a second: most of them are one, no hop is skipped, and the last change is in force."""
    config = write(tmp_path, {"room": BESIDE})
    with watched(config, {}, tmp_path) as program:
        program.says("room: listening", 0)
        program.until(lambda: program.source("room")["windows"] > 1, "no windows")
        before = program.source("room")
        for count in range(450):
            if count == 440:
                change(config, sources={"room": BESIDE, "hall": {"command": [*BESIDE["command"]]}})
            program.daemon.process.send_signal(signal.SIGHUP)
            time.sleep(1 / 45)
        program.says("hall: listening", 0)
        after = program.source("room")
        assert after["windows"] > before["windows"] + 5
        assert after["windows_skipped"] == before["windows_skipped"]
        reloads = sum("the new configuration is in force" in line for line in program.daemon.lines)
        assert 2 <= reloads <= 15
        assert program.daemon.stop() == 0


def test_a_configuration_that_cannot_be_read_blocks_nothing(tmp_path: Path) -> None:
    """SIGHUP with a file that never ends in its place: windows go on, and the log says what is wrong."""
    config = write(tmp_path, {"room": BESIDE})
    reader, writer = os.pipe()
    with watched(config, {}, tmp_path) as program:
        program.says("room: listening", 0)
        config.unlink()
        config.symlink_to(f"/proc/{os.getpid()}/fd/{reader}")
        program.daemon.process.send_signal(signal.SIGHUP)
        seen = program.source("room")["windows"]
        program.until(lambda: program.source("room")["windows"] > seen + 3, "no windows")
        program.says("reload: the file could not be read within 10 s", 0)
        program.says("nothing was changed", 0)
        assert program.source("room")["windows_skipped"] == 0
        assert program.daemon.stop() == 0
    for end in (reader, writer):
        os.close(end)


async def test_a_reload_changes_the_broker(
    tmp_path: Path, mosquitto: Mosquitto, subscribe: Subscribe
) -> None:
    """SIGHUP with another broker: the new one learns how things are now."""
    config = write(tmp_path, {"room": BESIDE}, node="test", mqtt={"host": HOST, "port": 1})
    subscriber = await subscribe(mosquitto.port)
    with watched(config, {}, tmp_path) as program:
        program.says("room: listening", 0)
        change(config, mqtt={"host": HOST, "port": mosquitto.port})
        program.daemon.process.send_signal(signal.SIGHUP)
        await subscriber.until_heard("streamer/test/room/status", "online")
        assert program.source("room")["reopens"] == 0


@pytest.mark.parametrize("step", ["+1d", "-1d"])
def test_a_clock_that_is_set(tmp_path: Path, step: str) -> None:
    """The wall clock leaps by a day: no restart, no stall, no negative latency or length.

    The scores of before and after can be read.
    """
    clock = tmp_path / "clock"
    clock.write_text("+0")
    environment = {
        "LD_PRELOAD": FAKETIME,
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    source = {"command": ["env", "-u", "LD_PRELOAD", sys.executable, "-c", BEEPS]}
    config = write(tmp_path, {"room": source}, detection={"on": 0.2}, store={"min_free_mb": 0})
    with watched(config, environment, tmp_path) as program:
        program.says("smoke_alarm ended", 0)
        n_lines = len(program.daemon.lines)
        clock.write_text(step)
        began = time.monotonic()
        program.says("smoke_alarm began", n_lines)
        program.says("smoke_alarm ended", n_lines)
        recovered_s = time.monotonic() - began
        own = program.source("room")
        assert (own["phase"], own["reopens"]) == ("listening", 0)
        report = program.status()
        assert report["healthy"]
        assert 0 <= report["latency_ms"]["p50"] <= report["latency_ms"]["p99"] < 60_000
        assert not any("after -" in line or "latency -" in line for line in program.daemon.lines)
        assert not any(word in line for line in program.daemon.lines for word in ("stalled", "reopening"))
        assert program.daemon.stop() == 0
    with reading(tmp_path) as reader:
        ended = [event for event in reader.events() if event.offset is not None]
    spans = [(minute.start, minute.end) for _, minute in minutes(tmp_path, "room", 0, 4e9)]
    for event in (ended[0], ended[-1]):
        assert any(start <= event.onset <= end for start, end in spans)
    FAULTS.append(Fault(f"wall clock set by {step}", None, recovered_s, "no event, no restart"))


def test_too_slow_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """A model that skips more than a tenth of the hops is said to be too slow, but not every minute."""
    late = _SkippedHops("room")
    began = time.monotonic()
    late.check(began + 61, windows=58, skipped=2)
    assert caplog.text == ""
    for minute in range(2, 7):
        late.check(began + 61 * minute, windows=58 + 30 * minute, skipped=2 + 30 * minute)
    assert caplog.text.count("slower than real time: ") == 1


def test_a_slow_model_skips_and_never_queues(tmp_path: Path) -> None:
    """A model that needs two seconds for a hop of one: hops are skipped and counted, none is queued."""
    source = {"command": [sys.executable, "-c", BEEPS]}
    config = write(tmp_path, {"room": source}, detection={"on": 0.2})
    with watched(config, {"STREAMER_TEST_ENGINE": "Slow"}, tmp_path) as program:
        program.until(
            lambda: program.status().get("sources", {}).get("room", {}).get("windows_skipped", 0) > 4, ""
        )
        own = program.source("room")
        assert own["windows_skipped"] >= own["windows"] // 2 - 1
        assert own["gap_s"] == 0
        assert program.daemon.stop() == 0
    FAULTS.append(Fault("model at half of real time", None, None, "every second hop, counted"))


assert Path(FAKETIME).exists(), "apt install faketime"
