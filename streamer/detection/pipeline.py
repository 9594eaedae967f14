"""The windows of one source through both halves: sensed from samples, decided from that and from scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamer.config.schema import Config
from streamer.detection.decider import Decider, Inspection
from streamer.signal.sensor import Sensor, SensorSettings
from streamer.types import Hearing, Scores, Sensed, SoundEvent, Window

_TOP = 5
"""number of labels that `Hearing` names"""


class Pipeline:
    """Turns windows and their scores into events; the same live and offline.

    For each window, in order of time: `sense`; if it `is_wanted`, have it scored; then `decide`, or `miss`
    where that failed.
    """

    def __init__(self, source_id: str, config: Config, labels: Sequence[str]) -> None:
        """`labels` are the model's. Raises ConfigError when a sound has a label that the model does not."""
        self._source_id = source_id
        self._labels = labels
        source = config.sources.get(source_id)  # a file that is not configured has no settings
        self._sensor = Sensor(
            SensorSettings(
                hop_s=config.hop_s,
                hold_s=config.detection.announce_s + 2 * config.hop_s,
                skip_quiet=config.windows.skip_quiet,
                calibration_db=None if source is None else source.calibration_db,
            )
        )
        self._use(config)

    def _use(self, config: Config) -> None:
        self._announce_s = config.detection.announce_s
        self._is_clip_level = False
        self._decider = Decider(self._source_id, config, self._labels)

    def expect_clip_scores(self, window_s: float) -> None:
        """Let the gate wait longer: a clip-level score falls when a sound leaves the window.

        `decide` does so by itself; who senses ahead of the scores does it before.
        """
        self._is_clip_level = True
        self._sensor.hold(window_s + self._announce_s)

    def sense(self, window: Window) -> Sensed:
        """What the window's samples show. Call it once a window, first."""
        return self._sensor.sense(window)

    def decide(self, sensed: Sensed, scores: Scores | None, emitted_at: float) -> list[SoundEvent]:
        """The events that a window leads to, as `Decider.decide` has them."""
        if scores is not None and scores.frames is None and not self._is_clip_level:
            self.expect_clip_scores(sensed.end - sensed.start)
        return self._decider.decide(sensed, scores, emitted_at)

    @property
    def origin(self) -> float | None:
        """As `Decider.origin`."""
        return self._decider.origin

    def miss(self, sensed: Sensed) -> None:
        """A window that had to be scored and was not."""
        self._decider.miss(sensed)

    def change(self, config: Config, at: float, emitted_at: float) -> list[SoundEvent]:
        """Follow other rules from now on. Open events end; audio is not sensed again."""
        events = self._decider.close(at, emitted_at)
        before = self._decider
        self._use(config)
        self._decider.follow(before)
        return events

    def close(self, at: float, emitted_at: float) -> list[SoundEvent]:
        """End all events: the source has ended, or is not listened to any more. Windows may follow later."""
        return self._decider.close(at, emitted_at)

    def inspect(self, sound: str, at: float) -> Inspection | None:
        """As `Decider.inspect`."""
        return self._decider.inspect(sound, at)

    def hearing(self, sensed: Sensed, scores: Scores | None) -> Hearing:
        """The level of the newest hop, the window's strongest labels if it was scored, and input faults.

        Call it after `decide`.
        """
        strongest = [] if scores is None else np.argsort(-scores.clip, kind="stable")[:_TOP].tolist()
        return Hearing(
            source_id=self._source_id,
            at=sensed.end,
            level_dbfs=sensed.level_dbfs,
            top={self._labels[i]: float(scores.clip[i]) for i in strongest if scores is not None},
            level_dba=sensed.level_dba,
            problem=sensed.problem,
            sounds=self._decider.newest_scores(),
        )
