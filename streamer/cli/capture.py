"""streamer capture: a capture node, in a process that has nothing of this one."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from streamer.config.capture import load_capture
from streamer.nodes.orders import STOP_SIGNALS, write_orders

LEAN = {"OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
"""a thread of either kind costs memory, and has nothing to do"""


def capture(
    config: Annotated[
        Path,
        typer.Option(
            "--config", "-c", help="Of the node, for example configs/capture/node.yaml.", metavar="FILE"
        ),
    ],
) -> None:
    """Send the audio of this machine to a daemon elsewhere, which listens to it. Ctrl-C stops it.

    Example: streamer capture --config configs/capture/node.yaml
    """
    settings = load_capture(config)
    descriptor = write_orders({**settings.model_dump(mode="json"), "is_local": settings.is_local})
    command = [sys.executable, "-m", "streamer.run.capture", str(descriptor)]
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)  # they wait until the process can end in order
    os.execve(sys.executable, command, LEAN | os.environ)  # noqa: S606  # the process becomes the node


def register(app: typer.Typer) -> None:
    app.command()(capture)
