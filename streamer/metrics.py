"""What is counted: one place for every bound that was hit and every second that was spent."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

BROKER = "mqtt"
"""the consumer of the event log that publishes over MQTT"""


@dataclass(slots=True)
class SourceMetrics:
    """Counters of one source, since the start of the process."""

    blocks: int = 0
    overflows: int = 0
    """blocks that came with the mark that audio was lost before them"""
    gap_s: float = 0.0
    """seconds of audio lost"""
    bad_samples: int = 0
    """NaN, infinite, or beyond -1..1"""
    phase: str = "waiting"
    """a `SourcePhase`"""
    reopens: int = 0
    """how often it was opened again after it had been lost"""
    windows: int = 0
    windows_skipped: int = 0
    """hops that came due while the one before was still being scored"""
    events: int = 0
    problem: str = ""
    """what is wrong with its audio; empty where it is sound"""
    clock_skew_s: float | None = None
    """seconds by which the wall clock of a node is ahead of this machine's; None where it is no node"""
    level_dbfs: float | None = None
    level_dba: float | None = None
    """of the newest hop; dB(A) only where the source is calibrated"""


@dataclass(slots=True)
class OutboxMetrics:
    """What is in the event log, and waits for its consumers."""

    waiting: dict[str, int] = field(default_factory=dict)
    """messages, by consumer"""
    in_memory: int = 0
    """messages that the disk has not taken yet"""
    on_disk: bool = False
    """a crash would lose none of them"""
    oldest_at: float | None = None
    """monotonic, of the oldest that waits for the broker"""
    refused: int = 0
    """events that the broker did not want"""

    @property
    def depth(self) -> int:
        """Messages that wait for the broker."""
        return self.waiting.get(BROKER, 0)


@dataclass(frozen=True, slots=True)
class BrokerMetrics:
    """The connection to the broker."""

    address: str
    problem: str = ""
    """why there is none now, a clause for people; empty where there is"""


@dataclass(slots=True)
class AlertMetrics:
    """Of one target of alerts."""

    sent: int = 0
    expired: int = 0
    """that were too old before the target took them"""
    problem: str = ""
    """why it takes none now; empty where it does"""


@dataclass(slots=True)
class Metrics:
    """Counters of the daemon."""

    sources: dict[str, SourceMetrics] = field(default_factory=dict)
    batches: int = 0
    batch_windows: int = 0
    inference_s: float = 0.0
    devices: dict[int, str] = field(default_factory=dict)
    """that the model is on, by worker"""
    engine: str = ""
    """runtime and arithmetic of the model"""
    worker_restarts: int = 0
    """how often the process of the model was started again"""
    dropped: dict[str, int] = field(default_factory=dict)
    """reports that a sink dropped, by sink"""
    broker: BrokerMetrics | None = None
    """None where nothing is published"""
    reconnects: int = 0
    sounds: dict[str, int] = field(default_factory=dict)
    """events, by sound"""
    overdue: dict[tuple[str, str], str] = field(default_factory=dict)
    """sounds that should have been heard again, by source and sound: a clause for people"""
    unheard_s: dict[tuple[str, str], float] = field(default_factory=dict)
    """seconds of listening since each sound was heard that should be again and again, by source and sound"""
    loop_lag_s: float = 0.0
    """seconds by which the event loop was late at the last check"""
    outbox: OutboxMetrics = field(default_factory=OutboxMetrics)
    alerts: dict[str, AlertMetrics] = field(default_factory=dict)
    """by target"""
    log_lines_lost: Callable[[], int] = lambda: 0
    """lines of the log for which there was no room"""
    latencies_s: deque[float] = field(default_factory=lambda: deque(maxlen=1000))
    """capture to emission of the latest events"""

    @property
    def device(self) -> str:
        """All devices that the model is on."""
        return ", ".join(self.devices.values())

    def source(self, source_id: str) -> SourceMetrics:
        return self.sources.setdefault(source_id, SourceMetrics())

    def alerts_to(self, target: str) -> AlertMetrics:
        return self.alerts.setdefault(target, AlertMetrics())

    def drop(self, sink: str, n: int = 1) -> None:
        self.dropped[sink] = self.dropped.get(sink, 0) + n

    def latency_ms(self) -> dict[str, float | None]:
        """Of the latest events: the median, and what one in a hundred exceeds."""
        ordered = sorted(self.latencies_s)
        return {
            f"p{percent}": round(1000 * ordered[min(len(ordered) - 1, len(ordered) * percent // 100)], 1)
            if ordered
            else None
            for percent in (50, 99)
        }

    def snapshot(self) -> dict[str, object]:
        """Plain values, ready for JSON."""
        return {
            "sources": {source_id: asdict(source) for source_id, source in self.sources.items()},
            "inference": {
                "batches": self.batches,
                "windows": self.batch_windows,
                "seconds": round(self.inference_s, 3),
                "device": self.device,
                "engine": self.engine,
                "restarts": self.worker_restarts,
                "ms_a_window": round(1000 * self.inference_s / self.batch_windows, 1)
                if self.batch_windows
                else None,
            },
            "latency_ms": self.latency_ms(),
            "dropped": dict(self.dropped),
            "log_lines_lost": self.log_lines_lost(),
            "reconnects": self.reconnects,
            "sounds": dict(self.sounds),
            "overdue": list(self.overdue.values()),
            "alerts": {name: asdict(alerts) for name, alerts in self.alerts.items()},
            "outbox": {
                "depth": self.outbox.depth,
                "in_memory": self.outbox.in_memory,
                "on_disk": self.outbox.on_disk,
                "oldest_s": None
                if self.outbox.oldest_at is None
                else round(time.monotonic() - self.outbox.oldest_at),
                "refused": self.outbox.refused,
            },
        }
