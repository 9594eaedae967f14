"""A daemon with a gateway, capture nodes, and a link between them that can be cut: processes and sockets."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from tests.daemon import DEADLINE_S, Daemon
from tests.faults.program import Watched, watched, write

TOKEN = "a-token-of-the-tests-0123456789"  # noqa: S105  # opens nothing
PROGRAM = """
import sys, time
import numpy as np
rng, began, n = np.random.default_rng(0), time.monotonic(), 0
while True:
    t = n * 0.1
    samples = rng.integers(-60, 60, 1600).astype("<i2")
    if LOUD[0] <= t < LOUD[1]:
        samples[:] = 29000 * np.sin(np.arange(1600))
    sys.stdout.buffer.write(samples.tobytes())
    sys.stdout.flush()
    n += 1
    time.sleep(max(0.0, began + 0.1 * n - time.monotonic()))
"""


def sound(begin_s: float, end_s: float) -> dict[str, Any]:
    """A source at a node: noise at 16 kHz in real time, loud from `begin_s` to `end_s` after its start."""
    return {"command": [sys.executable, "-c", f"LOUD = ({begin_s}, {end_s}){PROGRAM}"]}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def gateway(
    folder: Path, port: int, environment: Mapping[str, str] | None = None, **options: Any
) -> Iterator[Watched]:
    """A daemon with a quick engine whose one source, `room`, is the node `pi`."""
    tokens = folder / "tokens"
    tokens.write_text(f"# name token\npi {TOKEN}\nother another-token-0123456789\n")
    sections = {"gateway": {"port": port, "tokens_file": str(tokens), **options}}
    config = write(folder, {"room": {"node": "pi"}}, **sections)
    with watched(config, dict(environment or {}), folder / "state") as daemon:
        daemon.until(lambda: daemon.status().get("ready", False), "never ready")
        yield daemon


@contextmanager
def node(
    folder: Path, to: str, source: Mapping[str, Any], ping_s: float | None = None, **settings: Any
) -> Iterator[Daemon]:
    """`streamer capture`, the node `pi` where `settings` do not say otherwise; `ping_s` between its pings."""
    token = folder / f"token-{settings.get('node', 'pi')}"
    if not token.exists():
        token.write_text(TOKEN + "\n")
    config = {"node": "pi", "to": to, "source": dict(source), "token_file": str(token), **settings}
    path = folder / f"node-{time.monotonic_ns()}.yaml"
    path.write_text(yaml.safe_dump(config))
    program = "streamer" if ping_s is None else "tests.nodes.quick"
    process = subprocess.Popen(
        [sys.executable, "-m", program, "capture", "--config", str(path)],
        env={**os.environ, "STREAMER_TEST_PING": str(ping_s)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield Daemon(process)
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()


class Cable:
    """Relays to a port of this machine. Pulled, it swallows what is sent, and neither end is told."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self._pulled = threading.Event()
        self._flows = threading.Event()
        self._flows.set()
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @contextmanager
    def pulled(self) -> Iterator[None]:
        """For the length of the block; what was connected before is dead for good."""
        self._pulled.set()
        dead = list(self._sockets)
        yield
        self._pulled.clear()
        for one in dead:
            one.close()

    @contextmanager
    def held(self) -> Iterator[None]:
        """For the length of the block nothing gets through; all of it does afterwards, as TCP has it."""
        self._flows.clear()
        yield
        self._flows.set()

    def close(self) -> None:
        self._server.close()
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._server.accept()
                self._sockets.append(near)
                if self._pulled.is_set():
                    continue
                far = socket.create_connection(("127.0.0.1", self._to))
                self._sockets.append(far)
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._relay, args=(source, sink), daemon=True).start()

    def _relay(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self._flows.wait()
                if not self._pulled.is_set():
                    sink.sendall(data)
            if not self._pulled.is_set():
                sink.shutdown(socket.SHUT_WR)


@contextmanager
def cable(port: int) -> Iterator[Cable]:
    made = Cable(port)
    try:
        yield made
    finally:
        made.close()


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
