"""What a capture node is to do: its configuration, as plain values for a process without a schema."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass
from typing import Any

STOP_SIGNALS = signal.SIGINT, signal.SIGTERM
"""what ends a node; blocked while the process that takes this one's place is loaded"""


@dataclass(frozen=True, slots=True)
class Orders:
    """The keys of `CaptureSettings`, which has their meaning; paths as text."""

    node: str
    to: str
    is_local: bool
    source: dict[str, Any]
    token_file: str | None
    ca_file: str | None
    cert_file: str | None
    key_file: str | None
    codec: str
    sample_rate: int
    keep_s: float
    gate_dbfs: float | None


def write_orders(values: dict[str, Any]) -> int:
    """Keep them in memory for the process that takes this one's place; returns the descriptor."""
    descriptor = os.memfd_create("streamer-capture", 0)  # 0: it is still open there
    os.write(descriptor, json.dumps(values).encode())
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def read_orders(descriptor: int) -> Orders:
    with os.fdopen(descriptor, "rb") as file:
        return Orders(**json.load(file))
