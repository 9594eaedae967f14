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
from functools import partial

import streamer.run.assemble
from streamer.cli import main
from streamer.inference.process.child import ChildWorker, Limits

ENGINE = f"tests.inference.engines:{os.environ.get('STREAMER_TEST_ENGINE', 'Quick')}"
streamer.run.assemble.open_worker = partial(  # type: ignore[assignment]  # the same class, with other arguments
    ChildWorker, engine=ENGINE, limits=Limits(load_s=60, batch_s=3)
)
if os.environ.get("STREAMER_TEST_RESOLVER") == "hangs":
    socket.getaddrinfo = lambda *_, **__: time.sleep(1e6)
if ping_s := os.environ.get("STREAMER_TEST_PING"):
    from streamer.nodes import gateway

    gateway.PING_S = float(ping_s)
signal.signal(signal.SIGUSR1, lambda *_: time.sleep(1e6))  # in the thread of the event loop

main()
