"""What is counted: one place for every bound that was hit and every second that was spent."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass, field


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
    windows: int = 0
    windows_skipped: int = 0
    """hops that came due while the one before was still being scored"""
    events: int = 0


@dataclass(slots=True)
class Metrics:
    """Counters of the daemon."""

    sources: dict[str, SourceMetrics] = field(default_factory=dict)
    batches: int = 0
    batch_windows: int = 0
    inference_s: float = 0.0
    dropped: dict[str, int] = field(default_factory=dict)
    """reports that a sink could not keep, by sink"""
    reconnects: int = 0
    latencies_s: deque[float] = field(default_factory=lambda: deque(maxlen=1000))
    """capture to emission of the latest events"""

    def source(self, source_id: str) -> SourceMetrics:
        return self.sources.setdefault(source_id, SourceMetrics())

    def drop(self, sink: str, n: int = 1) -> None:
        self.dropped[sink] = self.dropped.get(sink, 0) + n

    def snapshot(self) -> dict[str, object]:
        """Plain values, ready for JSON."""
        ordered = sorted(self.latencies_s)
        return {
            "sources": {source_id: asdict(source) for source_id, source in self.sources.items()},
            "inference": {
                "batches": self.batches,
                "windows": self.batch_windows,
                "seconds": round(self.inference_s, 3),
                "ms_a_window": round(1000 * self.inference_s / self.batch_windows, 1)
                if self.batch_windows
                else None,
            },
            "latency_ms": {
                f"p{percent}": round(1000 * ordered[min(len(ordered) - 1, len(ordered) * percent // 100)], 1)
                if ordered
                else None
                for percent in (50, 99)
            },
            "dropped": dict(self.dropped),
            "reconnects": self.reconnects,
        }
