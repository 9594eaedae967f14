"""A source's fault is noticed, mended where it can be, and touches no other source."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.capture.rtsp import Packet, serve_rtsp
from tests.faults.program import BESIDE, BLOCK, Watched, watched, write
from tests.faults.table import FAULTS, Fault
from tests.pulse import FakeMicrophone

pytestmark = pytest.mark.slow


@contextmanager
def listening_to(microphone: FakeMicrophone, folder: Path) -> Iterator[Watched]:
    """A daemon that hears the microphone, and another source beside it."""
    config = write(folder, {"mic": {"microphone": "fakemic"}, "beside": BESIDE})
    with watched(config, microphone.environment, folder) as program:
        program.says("mic: listening", 0)
        program.says("beside: listening", 0)
        program.until(lambda: program.source("beside")["windows"] > 0, "no window of the other source")
        yield program
        beside = program.source("beside")
        assert (beside["phase"], beside["reopens"], beside["overflows"]) == ("listening", 0, 0)
        assert not any("beside:" in line for line in program.daemon.lines[-1:])
        assert program.daemon.stop() == 0


def test_a_server_that_dies_is_used_again(own_fake_microphone: FakeMicrophone, tmp_path: Path) -> None:
    """A killed sound server is noticed at once, waited for, and back in use soon after it returns."""
    with listening_to(own_fake_microphone, tmp_path) as program:
        n_lines, began = len(program.daemon.lines), time.monotonic()
        own_fake_microphone.kill()
        noticed_s = program.says("mic: reopening", n_lines) - began
        program.says("mic: waiting", n_lines)
        own_fake_microphone.restart()
        began = time.monotonic()
        recovered_s = program.says("mic: listening", n_lines) - began
        assert program.source("mic")["reopens"] == 1
    FAULTS.append(Fault("audio server killed, started again", noticed_s, recovered_s, "the outage"))


def test_a_device_that_is_pulled_out_is_used_again(
    own_fake_microphone: FakeMicrophone, tmp_path: Path
) -> None:
    """A device that goes and comes back is heard again, by its name."""
    with listening_to(own_fake_microphone, tmp_path) as program:
        n_lines, began = len(program.daemon.lines), time.monotonic()
        own_fake_microphone.unplug()
        noticed_s = program.says("mic: reopening", n_lines) - began
        own_fake_microphone.plug()
        began = time.monotonic()
        recovered_s = program.says("mic: listening", n_lines) - began
    FAULTS.append(Fault("device pulled out, put back", noticed_s, recovered_s, "the outage"))


def test_a_server_that_hangs_for_a_while_loses_nothing(
    own_fake_microphone: FakeMicrophone, tmp_path: Path
) -> None:
    """A server that stands still for two seconds is said to stall, and hands over what it kept."""
    with listening_to(own_fake_microphone, tmp_path) as program:
        n_lines, began = len(program.daemon.lines), time.monotonic()
        own_fake_microphone.hang()
        noticed_s = program.says("mic: stalled", n_lines) - began
        time.sleep(max(0.0, began + 2 - time.monotonic()))  # the hang itself
        own_fake_microphone.wake()
        began = time.monotonic()
        recovered_s = program.says("mic: listening", n_lines) - began
        own = program.source("mic")
        assert (own["reopens"], own["gap_s"], own["overflows"]) == (0, 0, 0)
    FAULTS.append(Fault("audio server hangs for 2 s", noticed_s, recovered_s))


def test_a_driver_that_never_returns_ends_the_process(
    own_fake_microphone: FakeMicrophone, tmp_path: Path
) -> None:
    """A server that hangs for good makes the close hang: exit code 75, and systemd starts a new process."""
    config = write(tmp_path, {"mic": {"microphone": "fakemic"}, "beside": BESIDE})
    with watched(config, own_fake_microphone.environment, tmp_path) as program:
        program.says("mic: listening", 0)
        began = time.monotonic()
        own_fake_microphone.hang()
        try:
            noticed_s = program.says("mic: stalled", 0) - began
            assert program.daemon.wait() == 75
            ended_s = time.monotonic() - began
        finally:
            own_fake_microphone.wake()
        assert "the driver did not close it" in program.daemon.lines[-1]
    FAULTS.append(Fault("audio server hangs for good: exit 75", noticed_s, ended_s, "until the restart"))


def test_a_server_that_comes_later_is_waited_for(own_fake_microphone: FakeMicrophone, tmp_path: Path) -> None:
    """A device that is not there at the start is a source that waits, not an error."""
    own_fake_microphone.kill()
    config = write(tmp_path, {"mic": {"microphone": "fakemic"}})
    with watched(config, own_fake_microphone.environment, tmp_path) as program:
        program.says("mic: waiting", 0)
        own_fake_microphone.restart()
        began = time.monotonic()
        recovered_s = program.says("mic: listening", 0) - began
        assert program.source("mic")["reopens"] == 0
        assert program.daemon.stop() == 0
    FAULTS.append(Fault("audio server absent at the start", None, recovered_s))


@pytest.mark.parametrize(
    ("how", "lost"), [("sys.exit(3)", "exit code 3"), ("time.sleep(1e6)", "it wrote nothing")]
)
def test_a_program_that_fails_is_started_again(tmp_path: Path, how: str, lost: str) -> None:
    """A program that ends, or writes nothing any more though it runs, is started again."""
    code = f"import os, sys, time\nfor _ in range(15): {BLOCK}\n{how}"
    config = write(tmp_path, {"room": {"command": [sys.executable, "-c", code]}, "beside": BESIDE})
    with watched(config, {}, tmp_path) as program:
        program.says("room: listening", 0)
        program.says(lost, 0)
        n_lines = len(program.daemon.lines)
        began = time.monotonic()
        recovered_s = program.says("room: listening", n_lines) - began
        assert program.daemon.stop() == 0
    FAULTS.append(Fault(f"program: {lost}", None, recovered_s, "the outage"))


def test_a_stream_that_stalls_is_opened_again(tmp_path: Path) -> None:
    """A camera that keeps the connection and sends nothing: said to stall, given up, opened again."""
    packets = [Packet(i * 1600, bytes(3200)) for i in range(40)]
    with serve_rtsp(packets, 16000, hang=True) as address:
        config = write(tmp_path, {"camera": {"stream": address}, "beside": BESIDE})
        with watched(config, {}, tmp_path) as program:
            program.says("camera: listening", 0)
            began = time.monotonic()
            noticed_s = program.says("camera: stalled", 0) - began
            program.says("camera: reopening", 0)
            n_lines = len(program.daemon.lines)
            program.says("camera: listening", n_lines)
            recovered_s = time.monotonic() - began
            assert program.source("camera")["reopens"] == 1
            assert program.source("beside")["reopens"] == 0
            assert program.daemon.stop() == 0
    FAULTS.append(Fault("RTSP stalls without an end", noticed_s, recovered_s, "the outage"))


def test_opening_again_leaks_nothing(fake_microphone: FakeMicrophone) -> None:
    """However often a microphone is opened again, descriptors, threads and memory stay."""
    cycles = int(os.environ.get("FAULTS_CYCLES", "25"))
    code = f"""if True:
        import asyncio, psutil, threading, time
        from streamer.capture.microphone import Microphone

        async def once():
            heard = asyncio.Event()
            loop = asyncio.get_running_loop()
            microphone = Microphone("fakemic")
            await microphone.open()
            running = asyncio.create_task(microphone.run(lambda _: loop.call_soon_threadsafe(heard.set)))
            await asyncio.wait_for(heard.wait(), 30)
            running.cancel()
            await asyncio.wait((running,))
            await microphone.close()

        own = psutil.Process()

        def show():
            # A thread that has given its result back may take a moment to end.
            for thread in threading.enumerate():
                if thread is not threading.current_thread():
                    thread.join(30)
            fds, threads = [], []
            for _ in range(20):
                fds.append(own.num_fds())
                threads.append(own.num_threads())
                time.sleep(0.05)
            print(min(fds), min(threads), own.memory_info().rss, flush=True)

        async def main():
            for cycle in range(5 + {cycles}):
                if cycle == 5:
                    show()
                await once()
            show()

        asyncio.run(main())
    """
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=fake_microphone.environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60 + 10 * cycles,
    )
    before, after = (list(map(int, line.split())) for line in done.stdout.splitlines())
    assert after[0] <= before[0]
    assert after[1] <= before[1]
    grown = (after[2] - before[2]) / 1e6
    assert grown < 5
    FAULTS.append(
        Fault(f"opened again {cycles} times", None, None, f"{grown:.1f} MB, no descriptor, no thread")
    )
