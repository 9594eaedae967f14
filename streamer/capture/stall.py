"""What the flow of blocks says of a source: that it flows, stands still, runs short, or is silent."""

from __future__ import annotations

from dataclasses import dataclass

FROZEN_S = 1.0
"""a look that comes this late means that this process itself stood still, and proves nothing of the source"""
SURVEY_S = 60.0
"""how long samples are counted before they are held against the clock"""
SHORT_WARN = 0.01
SHORT_LOST = 0.10
"""the part of its samples that a source may lack: more is worth a line in the log, and then a new attempt"""
SILENT_DBFS = -90.0
"""quieter than any room: a switched-off or dead input"""
SILENT_S = 600.0


@dataclass(slots=True)
class Flow:
    """Looks at the counters of a source from time to time. Knows no clock: time comes in."""

    sample_rate: int
    quiet_s: float = 0.0
    """how long no block has come, as far as this process was awake to see it"""
    shortage: float | None = None
    """the part of its samples that were missing in the last minute, once there is one"""
    _seen_at: float | None = None
    _n_blocks: int = 0
    _since: float = 0.0
    _since_sample: int | None = None

    def look(self, now: float, n_blocks: int, n_samples: int) -> None:
        """`now` is monotonic; `n_blocks` and `n_samples` are counted since the source was opened."""
        passed_s = now - self._seen_at if self._seen_at is not None else 0.0
        self._seen_at = now
        frozen = passed_s > FROZEN_S
        flows = n_blocks > self._n_blocks
        self._n_blocks = n_blocks
        self.quiet_s = 0.0 if flows else self.quiet_s + (0.0 if frozen else passed_s)
        self.shortage = None
        if frozen:
            self._since_sample = None
        elif not flows:  # streams come in bursts: a survey goes from block to block
            return
        elif self._since_sample is None:
            self._since, self._since_sample = now, n_samples
        elif now - self._since >= SURVEY_S:
            due = (now - self._since) * self.sample_rate
            self.shortage = 1 - (n_samples - self._since_sample) / due
            self._since, self._since_sample = now, n_samples


@dataclass(slots=True)
class Silence:
    """Whether nothing at all has been heard for ten minutes."""

    _silent_s: float = 0.0

    def update(self, heard_s: float, level_dbfs: float) -> bool:
        """`heard_s` is how much audio has the level."""
        self._silent_s = 0.0 if level_dbfs > SILENT_DBFS else self._silent_s + heard_s
        return self._silent_s >= SILENT_S
