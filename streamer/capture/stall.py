"""Whether blocks arrive as they should: none, too few or too many samples, or samples that are none."""

from __future__ import annotations

from dataclasses import dataclass

FROZEN_S = 1.0
"""a check this late means that this process itself was suspended; it proves nothing about the source"""
SURVEY_S = 60.0
"""seconds over which samples are counted before they are compared with the clock"""
SHORT_WARN = 0.01
"""share of the samples that may be missing before it is logged"""
SHORT_LOST = 0.10
"""share of the samples that may be missing before the source is opened again"""
FAST_SURVEYS = 2
"""surveys in a row with SHORT_LOST more samples than are due; one may be the burst of a stream's begin"""
BAD_S = 10.0
"""seconds over which samples that are no audio are counted"""
BAD_SHARE = 0.01
"""share of them that is a problem"""


@dataclass(slots=True)
class Flow:
    """Watches the counters of a source. Has no clock of its own: time is passed in."""

    sample_rate: int
    quiet_s: float = 0.0
    """seconds without a block, as far as this process was awake to see it"""
    shortage: float | None = None
    """share of the samples missing in the last minute; None until a minute has been counted"""
    is_fast: bool = False
    """it gives more samples than its rate promises, minute after minute"""
    bad_share: float = 0.0
    """share of samples that were NaN, infinite or beyond full scale, in the last BAD_S seconds of audio"""
    _seen_at: float | None = None
    _n_blocks: int = 0
    _since: float = 0.0
    _since_sample: int | None = None
    _n_fast: int = 0
    _counted: tuple[int, int] = (0, 0)

    def check(self, now: float, n_blocks: int, n_samples: int, n_bad: int = 0) -> None:
        """`now` is monotonic; blocks, samples and bad samples are counted since the source was opened."""
        n_new = n_samples - self._counted[0]
        if n_new >= BAD_S * self.sample_rate:
            self.bad_share = (n_bad - self._counted[1]) / n_new
            self._counted = (n_samples, n_bad)
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
            self._n_fast = self._n_fast + 1 if self.shortage < -SHORT_LOST else 0
            self.is_fast = self._n_fast >= FAST_SURVEYS
            self._since, self._since_sample = now, n_samples
