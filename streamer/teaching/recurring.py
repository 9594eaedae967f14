"""Stretches that sound alike and come again: clusters by the scores of labels, and by length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from streamer.types import Samples

ALIKE = 0.8
"""cosine of the evidence of two stretches from which on they may be the same sound"""
LENGTHS = 2.5
"""by how much their lengths may differ"""
MOSTLY = 0.7
"""share of the stretches in the time of the day at which a sound is said to come"""
NARROW_H = 4.0
"""a longer time of the day says nothing"""
DAY_H = 24.0


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """A loud moment that no sound explains."""

    source: str
    begin: float
    end: float
    above_db: float
    """the loudest, above the background"""
    evidence: Samples
    """(n_labels,) as `detection.veto.evidence` has it, the mean over it"""

    @property
    def seconds(self) -> float:
        return self.end - self.begin


class Cluster:
    """Stretches of one source that sound alike, in order of time."""

    def __init__(self, first: Stretch) -> None:
        self.stretches = [first]
        self.centre = first.evidence
        """the mean of their evidence"""

    def add(self, one: Stretch) -> None:
        """One more, the latest."""
        self.stretches.append(one)
        self.centre = self.centre + (one.evidence - self.centre) / np.float32(len(self.stretches))

    @property
    def source(self) -> str:
        return self.stretches[0].source

    @property
    def seconds(self) -> float:
        """Of most of them."""
        return float(np.median([one.seconds for one in self.stretches]))

    def time_of_day(self) -> tuple[float, float] | None:
        """From which hour to which most of them begin, local time; None where that is most of a day, or two.

        The end is beyond 24 where midnight lies between.
        """
        hours = sorted(_hour(one.begin) for one in self.stretches)
        n = max(2, int(np.ceil(MOSTLY * len(hours))))
        around = [*hours, *(hour + DAY_H for hour in hours)]
        spans = [(around[i + n - 1] - around[i], around[i]) for i in range(len(hours))]
        length, begin = min(spans)
        return (begin, begin + length) if length <= NARROW_H else None


def clusters(stretches: Sequence[Stretch], fewest: int) -> list[Cluster]:
    """Those that have so many stretches, the largest first. Stretches are taken in order of time."""
    found: list[Cluster] = []
    for one in sorted(stretches, key=lambda stretch: stretch.begin):
        near = [
            (likeness, number)
            for number, cluster in enumerate(found)
            if cluster.source == one.source
            and (likeness := alike(one.evidence, one.seconds, cluster.centre, cluster.seconds)) >= ALIKE
        ]
        if near:
            found[max(near)[1]].add(one)
        else:
            found.append(Cluster(one))
    return sorted(
        (cluster for cluster in found if len(cluster.stretches) >= fewest),
        key=lambda cluster: -len(cluster.stretches),
    )


def alike(evidence: Samples, seconds: float, other: Samples, other_seconds: float) -> float:
    """The cosine of two; 0 where one is far longer. What no label knows is alike."""
    if max(seconds, other_seconds) > LENGTHS * min(seconds, other_seconds):
        return 0.0
    lengths = float(np.linalg.norm(evidence)), float(np.linalg.norm(other))
    if not all(lengths):
        return float(lengths[0] == lengths[1])
    return float(evidence @ other) / (lengths[0] * lengths[1])


def _hour(at: float) -> float:
    local = datetime.fromtimestamp(at).astimezone()
    return local.hour + local.minute / 60 + local.second / 3600
