"""`streamer` with an engine of the tests in place of the model, so that it starts in a second.

All else is as users run it: `python -m tests.faults.quick run --config FILE`. $STREAMER_TEST_ENGINE names the
class in `tests.inference.engines`; $STREAMER_TEST_RESOLVER=hangs is a name server that never answers;
$STREAMER_TEST_PING is how often, in seconds, the gateway asks whether a node is still there.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from typing import Any

import streamer.run.assemble
from streamer.cli import main
from streamer.config.schema import ModelSettings
from streamer.inference.process.child import ChildWorker, Limits
from streamer.inference.worker import Worker
from streamer.metrics import Metrics

ENGINE = f"tests.inference.engines:{os.environ.get('STREAMER_TEST_ENGINE', 'Quick')}"


def quick_worker(settings: ModelSettings, metrics: Metrics, **others: Any) -> Worker:
    """As `open_worker` without a fleet, with the engine of the tests."""
    own = {name: others[name] for name in ("n_sources", "heads")}
    return ChildWorker(settings, metrics, engine=ENGINE, limits=Limits(load_s=60, batch_s=3), **own)


streamer.run.assemble.open_worker = quick_worker
if os.environ.get("STREAMER_TEST_RESOLVER") == "hangs":
    socket.getaddrinfo = lambda *_, **__: time.sleep(1e6)
if ping_s := os.environ.get("STREAMER_TEST_PING"):
    from streamer.nodes import gateway

    gateway.PING_S = float(ping_s)
signal.signal(signal.SIGUSR1, lambda *_: time.sleep(1e6))  # in the thread of the event loop

main()
