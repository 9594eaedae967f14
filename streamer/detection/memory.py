"""The scores and levels of the latest seconds of a source, without a break in time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamer.detection.sounds import Sounds
from streamer.detection.timeline import CELL_S, Timeline
from streamer.types import Scores, Sensed

_GUESS = 0.01
"""weight of scores that are repeated for a window that was not scored"""


class Memory:
    """Takes what is known of windows; gives it moment by moment, with how old and how final it is."""

    def __init__(
        self, sounds: Sounds, origin: float, *, hop_s: float, announce_s: float, window_s: float
    ) -> None:
        keep_s = window_s + announce_s + 1
        self.scores = Timeline(len(sounds), origin, keep_s)
        self.levels = Timeline(2, origin, keep_s)
        """as `Sensed.levels`"""
        self._sounds = sounds
        self._hop_s = hop_s
        self._announce_s = announce_s
        self._end = origin
        self.mature = self.final = self.late_by = 0
        """as `SoundScores` has them"""
        self.resolution = 1

    def leap(self, to: float) -> None:
        """Go on at a later time, as if windows up to then had been added that were not scored."""
        for timeline in (self.scores, self.levels):
            timeline.leap(timeline.cell(to), _GUESS)
        self._end = to
        if self.late_by:
            self.final = self.mature = self.scores.until

    def add(self, sensed: Sensed, scores: Scores | None, missed: Sequence[Sensed] = ()) -> None:
        """Take a window, with its scores if it was scored, and the levels of the `missed` ones before it."""
        since, self._end = self._end, sensed.end
        levels = np.concatenate([*(one.levels for one in missed), sensed.levels])
        known_s = sensed.end - (missed[0] if missed else sensed).since
        n = max(1, round(len(levels) * (sensed.end - since) / known_s))  # a memory may begin within a window
        self.levels.add(levels[-n:], since, sensed.end, (sensed.end - since) / min(n, len(levels)))
        if scores is None:
            # Not scored: the last scores again, with a tiny weight. Frame-level scores overwrite them later;
            # until then `mature` does not advance.
            is_known = self.scores.until > self.scores.first
            last = (
                self.scores.means(slice(-1, None))
                if is_known
                else np.zeros((1, len(self._sounds)), np.float32)
            )
            self.scores.add(last, since, sensed.end, sensed.end - since, certainty=_GUESS)
            if self.late_by:
                self.final = self.mature = self.scores.until
        elif scores.frames is not None:
            self.scores.add(self._sounds.pick(scores.frames), scores.start, scores.end, scores.frame_s)
            self.final = self.scores.cell(scores.start)
            self.mature = max(self.mature, self.scores.cell(scores.end - self._announce_s))
        else:
            # A clip-level score rises when the window's end passes an onset, and falls when its start passes
            # the offset: it counts for the newest hop, and falls late by the rest of the window.
            self.scores.add(self._sounds.pick(scores.clip[None]), since, sensed.end, sensed.end - since)
            self.final = self.mature = self.scores.until
            self.resolution = round(self._hop_s / CELL_S)
            self.late_by = max(0, round((sensed.end - sensed.start) / CELL_S) - self.resolution)
