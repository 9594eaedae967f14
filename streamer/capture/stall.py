"""Whether the blocks of a source arrive: they flow, stall, or are fewer than the sample rate promises."""

from __future__ import annotations

from dataclasses import dataclass

FROZEN_S = 1.0
"""a check this late means that this process itself was suspended; it proves nothing about the source"""
SURVEY_S = 60.0
"""seconds over which samples are counted before they are compared with the clock"""
SHORT_WARN = 0.01
SHORT_LOST = 0.10
"""share of the samples that may be missing before it is logged, and before the source is opened again"""


@dataclass(slots=True)
class Flow:
    """Watches the counters of a source. Has no clock of its own: time is passed in."""

    sample_rate: int
    quiet_s: float = 0.0
    """seconds without a block, as far as this process was awake to see it"""
    shortage: float | None = None
    """share of the samples missing in the last minute; None until a minute has been counted"""
    _seen_at: float | None = None
    _n_blocks: int = 0
    _since: float = 0.0
    _since_sample: int | None = None

    def check(self, now: float, n_blocks: int, n_samples: int) -> None:
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
