"""One source's way from windows and their scores to events; the same live and offline."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from streamer.capture.level import level_dbfs
from streamer.config import Config
from streamer.detection.detector import SoundDetector, View
from streamer.detection.sounds import Sounds
from streamer.detection.timeline import CELL_S, Timeline
from streamer.types import Hearing, Samples, Scores, SoundEvent, Window

_TOP = 5


class Pipeline:
    """Turns scores into events. Knows no clock: time comes with the windows."""

    def __init__(self, source_id: str, config: Config, labels: Sequence[str]) -> None:
        """`labels` are the model's. Raises ConfigError when a sound has a label that the model does not."""
        rules = {name: config.sound(name) for name in config.sounds}
        self._source_id = source_id
        self._labels = labels
        self._hop_s = config.hop_s
        self._announce_s = config.detection.announce_s
        self._sounds = Sounds({name: rule.labels for name, rule in rules.items()}, labels)
        self._detectors = {name: SoundDetector(source_id, name, rule) for name, rule in rules.items()}
        self._end = -math.inf
        """when what was heard ends"""
        self._memory: _Memory | None = None

    def update(self, window: Window, scores: Scores, emitted_at: float) -> list[SoundEvent]:
        """What there is to say after a window, in order. Windows may be skipped, but come in time's order.

        Where time breaks off (nothing was heard for a while, the clock was set back), open events end first.
        """
        start = window.start
        if window.warm_up:  # what lies before the source's start was not heard
            start = max(start, window.end - (window.index + 1) * self._hop_s)
        events = []
        if window.end <= self._end:
            events = self.close(self._end, max(emitted_at, self._end))
            self._end = window.end - self._hop_s  # the rest of the window was heard before, by another time
        elif start > self._end + CELL_S:
            events = self.close(self._end, emitted_at)

        memory = self._memory
        if memory is None:
            if scores.frames is None:  # such a score tells only what is new in the window
                start = max(start, window.end - self._hop_s)
            keep_s = window.end - window.start + self._announce_s + 1
            memory = self._memory = _Memory(len(self._sounds), max(start, self._end), keep_s)
        memory.add(window, scores, self._sounds, self._hop_s, self._announce_s)
        self._end = window.end
        return events + self._detect(memory, window.end, emitted_at)

    def close(self, at: float, emitted_at: float) -> list[SoundEvent]:
        """End everything: the source has ended, or nobody listens any more. Windows may follow later."""
        memory, self._memory = self._memory, None
        if memory is None:
            return []
        events = self._detect(memory, min(at, self._end), emitted_at, closing=True)
        for detector in self._detectors.values():
            detector.reset()
        return events

    def hearing(self, window: Window, scores: Scores) -> Hearing:
        """What is heard now: the level of the newest hop and the strongest labels of the window."""
        strongest = np.argsort(-scores.clip, kind="stable")[:_TOP]
        return Hearing(
            source_id=self._source_id,
            at=window.end,
            level_dbfs=level_dbfs(window.samples[-max(1, round(self._hop_s * window.sample_rate)) :]),
            top={self._labels[i]: float(scores.clip[i]) for i in strongest},
        )

    def _detect(
        self, memory: _Memory, end: float, emitted_at: float, *, closing: bool = False
    ) -> list[SoundEvent]:
        labels = memory.scores.means()
        levels = memory.levels.means()[:, 0]
        events = []
        for (name, detector), own in zip(
            self._detectors.items(), self._sounds.highest(labels).T, strict=True
        ):
            view = View(
                scores=own,
                labels=labels[:, self._sounds.parts[name]],
                levels=levels,
                first=memory.scores.first,
                settled=memory.scores.until if closing else memory.settled,
                final=memory.final,
                lag=memory.lag,
                grain=memory.grain,
                origin=memory.scores.time(0),
                end=end,
                emitted_at=emitted_at,
                closing=closing,
            )
            events += detector.update(view)
        return events


class _Memory:
    """What is known of the latest seconds of an unbroken time: scores and levels, by moment."""

    def __init__(self, n_columns: int, origin: float, keep_s: float) -> None:
        self.scores = Timeline(n_columns, origin, keep_s)
        self.levels = Timeline(1, origin, keep_s)
        self._end = origin
        self.settled = self.final = self.lag = 0
        self.grain = 1

    def add(self, window: Window, scores: Scores, sounds: Sounds, hop_s: float, announce_s: float) -> None:
        since, self._end = self._end, window.end
        levels = _levels(window, since, hop_s)
        self.levels.add(levels, since, window.end, (window.end - since) / len(levels))
        if scores.frames is not None:
            self.scores.add(sounds.pick(scores.frames), window.start, window.end, scores.frame_s)
            self.final = self.scores.cell(window.start)
            self.settled = max(self.settled, self.scores.cell(window.end - announce_s))
            return
        # A clip-level score rises when the window's end passes an onset, and falls when its start passes the
        # offset: it stands for the newest hop, and falls late by the rest of the window.
        self.scores.add(sounds.pick(scores.clip[None]), since, window.end, window.end - since)
        self.final = self.settled = self.scores.until
        self.grain = round(hop_s / CELL_S)
        self.lag = max(0, round((window.end - window.start) / CELL_S) - self.grain)


def _levels(window: Window, since: float, hop_s: float) -> Samples:
    """(n_hops, 1) dBFS of what no window before has shown: one hop, or more where windows were skipped."""
    n_hops = max(1, round((window.end - since) / hop_s))
    n_samples = max(n_hops, round((window.end - since) * window.sample_rate))
    hops = np.array_split(window.samples[-n_samples:], n_hops)
    return np.array([[level_dbfs(hop)] for hop in hops], np.float32)
