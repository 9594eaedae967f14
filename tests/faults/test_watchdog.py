"""The service manager is told the truth: ready when it is true, alive only while every part is."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from streamer.config.schema import Config, ModelSettings
from streamer.core.backoff import Backoff
from streamer.errors import InferenceError
from streamer.inference.process.child import ChildWorker, Limits
from streamer.metrics import Metrics
from streamer.ops.health import Health
from streamer.ops.systemd import Notifier
from streamer.run.listener import Listener, SourceLimits
from streamer.store import writer
from streamer.store.log import Log, Recorded
from streamer.types import AudioBlock, Scores, SoundEvent, Window
from tests.faults.program import BESIDE, SOUNDS, watched, write
from tests.faults.table import FAULTS, Fault
from tests.inference.engines import LABELS

pytestmark = pytest.mark.slow

DEADLINE_S = 60.0


class Manager:
    """What a service manager hears."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(0.05)
        self.heard: list[str] = []

    def listen(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not until():
            with contextlib.suppress(TimeoutError):
                self.heard += self._socket.recv(4096).decode().split("\n")

    def until(self, words: str) -> None:
        self.listen(DEADLINE_S, until=lambda: any(words in line for line in self.heard))
        assert any(words in line for line in self.heard), self.heard

    def pings(self, seconds: float) -> int:
        """How many in the next seconds."""
        self.listen(0.2)  # what was said before
        self.heard.clear()
        self.listen(seconds)
        return self.heard.count("WATCHDOG=1")

    def close(self) -> None:
        self._socket.close()

    @property
    def environment(self) -> Mapping[str, str]:
        return {"NOTIFY_SOCKET": str(self.path), "WATCHDOG_USEC": "2000000"}


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(tmp_path / "notify")
    yield manager
    manager.close()


def test_it_is_ready_when_it_hears(tmp_path: Path, manager: Manager) -> None:
    """More time while it loads, READY with the first audio, pings and a line for people, and its farewell."""
    config = write(tmp_path, {"room": BESIDE})
    with watched(config, manager.environment, tmp_path) as program:
        manager.until("EXTEND_TIMEOUT_USEC=")
        assert "READY=1" not in manager.heard
        manager.until("READY=1")
        manager.until("STATUS=1 of 1 sources listening; quick on cpu")
        manager.until("WATCHDOG=1")
        program.daemon.process.send_signal(signal.SIGTERM)
        manager.until("STOPPING=1")
        assert program.daemon.wait() == 0


def test_it_is_ready_when_it_waits(tmp_path: Path, manager: Manager) -> None:
    """A source that is not there keeps nobody from starting: that it is waited for is said."""
    config = write(tmp_path, {"room": {"stream": "http://127.0.0.1:9/nothing"}})
    with watched(config, manager.environment, tmp_path):
        manager.until("READY=1")
        manager.until("STATUS=0 of 1 sources listening; room waiting")
        assert manager.pings(2) > 0


def test_a_blocked_loop_is_not_alive(tmp_path: Path, manager: Manager) -> None:
    """Where the event loop stands still, nobody says that all is well."""
    config = write(tmp_path, {"room": BESIDE})
    with watched(config, manager.environment, tmp_path) as program:
        manager.until("READY=1")
        program.daemon.process.send_signal(signal.SIGUSR1)
        manager.listen(1)
        assert manager.pings(2.5) == 0
        program.daemon.process.send_signal(signal.SIGABRT)  # as the watchdog does
        program.says("Current thread", 0)
    FAULTS.append(Fault("event loop blocked: killed by the watchdog", 60, None, "until the restart"))


@asynccontextmanager
async def stuck_source(_: Path, __: pytest.MonkeyPatch) -> AsyncIterator[Callable[[], str | None]]:
    """A source that gives one block, then none, and never fails."""

    class Stuck:
        sample_rate = 16000

        async def open(self) -> None: ...
        async def close(self) -> None: ...

        async def run(self, write: Callable[[AudioBlock], None]) -> None:
            write(AudioBlock(np.zeros(1600, np.float32), time.time()))
            await asyncio.Event().wait()

    class Nobody:
        async def score(self, window: Window) -> Scores:
            raise InferenceError(window.source_id)

    config = Config.model_validate({"sources": {"room": {"demo": True}}, "sounds": SOUNDS})
    listener = Listener(
        "room",
        Stuck(),
        config,
        worker=Nobody(),
        labels=LABELS,
        window_s=1.0,
        emit=lambda _: None,
        metrics=Metrics(),
        limits=SourceLimits(stall_s=0.3, backoff=Backoff(longest_s=0.5), stuck_s=0.5),
    )
    running = asyncio.create_task(listener.run())
    yield listener.problem
    running.cancel()
    await asyncio.wait((running,))


@asynccontextmanager
async def stuck_inference(_: Path, __: pytest.MonkeyPatch) -> AsyncIterator[Callable[[], str | None]]:
    """A child that is gone, and nobody who starts another."""
    limits = Limits(load_s=0.5, batch_s=0.2, restart=Backoff(longest_s=0.1))
    worker = ChildWorker(ModelSettings(), Metrics(), engine="tests.inference.engines:Quick", limits=limits)
    object.__setattr__(limits, "load_s", 60.0)  # but the start may take its time
    await worker.start()
    object.__setattr__(limits, "load_s", 0.5)
    assert worker._supervisor is not None
    worker._supervisor.cancel()
    await asyncio.wait((worker._supervisor,))
    waiting = asyncio.create_task(worker.score(Window("room", 0, np.zeros(8, np.float32), 8, 0.0, 1.0)))
    yield worker.problem
    worker._supervisor = None
    await worker.close()
    await asyncio.wait((waiting,))


@asynccontextmanager
async def stuck_log(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[[], str | None]]:
    """A disk that never answers, as a network drive that is gone."""
    monkeypatch.setattr(writer, "STUCK_S", 1.0)
    answers = threading.Event()

    class Stuck(Log):
        def append(self, recorded: Sequence[Recorded]) -> list[SoundEvent]:
            answers.wait()
            return super().append(recorded)

    metrics = Metrics()
    sink = writer.Writer(Stuck(folder, metrics), metrics)
    running = asyncio.create_task(sink.run())
    yield sink.problem
    answers.set()
    running.cancel()
    await asyncio.wait((running,))


@pytest.mark.parametrize("stuck", [stuck_source, stuck_inference, stuck_log])
async def test_a_stuck_part_is_not_alive(
    stuck: Callable[..., contextlib.AbstractAsyncContextManager[Callable[[], str | None]]],
    tmp_path: Path,
    manager: Manager,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where a part does not move any more, the pings end, and the status says which it is."""
    for name, value in manager.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    state = tmp_path / "state"
    state.mkdir()
    async with stuck(state, monkeypatch) as trouble:
        health = Health(Metrics(), Notifier())
        health.set_parts({"part": trouble}, lambda: True)
        looking = asyncio.create_task(health.run())
        async with asyncio.timeout(DEADLINE_S):
            while trouble() is None:  # noqa: ASYNC110  # time passes, and nothing else happens
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.6)  # the next look
        assert await asyncio.to_thread(manager.pings, 1.5) == 0
        assert any("STATUS=" in line and str(trouble())[:8] in line for line in manager.heard)
        looking.cancel()
