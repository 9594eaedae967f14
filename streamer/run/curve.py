"""One sound at many thresholds: how many events a day, and how many of them would be false alarms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from streamer.config.control import Control
from streamer.config.schema import Config
from streamer.core.json_file import JsonFile
from streamer.errors import InputError, UsageError
from streamer.model.support import bounds
from streamer.run.replay import Coverage, Replayed, decided, logged_sources, match, of_one_model, replayed
from streamer.run.trial import only_with, with_threshold
from streamer.store.query import Event, Filter, reading

THRESHOLDS = tuple(round(0.05 * number, 2) for number in range(1, 20))


@dataclass(frozen=True, slots=True)
class Point:
    """What one threshold makes of the time that the log holds."""

    on: float
    n_events: int
    n_reviewed: int
    """of them, or of events that they overlap"""
    n_wrong: int
    """of those reviewed"""
    n_right_kept: int
    """events that were marked right, and are still found"""


@dataclass(frozen=True, slots=True)
class Curve:
    points: Sequence[Point]
    days: float
    """of listening that the log holds"""
    n_right: int
    """events that were marked right in this time"""

    def events_a_day(self, point: Point) -> float:
        return point.n_events / self.days

    def false_alarms_a_day(self, point: Point) -> tuple[float, float, float] | None:
        """Estimated from the share of reviewed events that were wrong, with its 95 % interval.

        None where nothing was reviewed. It is true as far as what was reviewed is a fair sample.
        """
        if not point.n_reviewed:
            return None
        low, high = bounds(point.n_wrong, point.n_reviewed)
        scale = self.events_a_day(point)
        return scale * point.n_wrong / point.n_reviewed, scale * low, scale * high


def curve(
    directory: Path,
    config: Config,
    sound: str,
    since: float,
    until: float,
    *,
    source: str | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
) -> Curve:
    """Replay a sound at each threshold, with `off` in proportion and the rules of all others as they are.

    Raises InputError where there is nothing to replay, UsageError where the sound has no threshold.
    """
    if sound not in config.sounds:
        raise UsageError(f"there is no sound {sound!r}; there are: {', '.join(config.sounds)}")
    if not config.sounds[sound].labels:
        raise UsageError(f"{sound} is a loudness: its threshold is above_background_db; try it with `replay`")
    control = Control(config, JsonFile(directory, "control.json"))
    coverage = Coverage()
    found: dict[float, list[Replayed]] = {on: [] for on in thresholds}
    for one in logged_sources(directory, source):
        in_force = control.in_force(one) if one in config.sources else config
        if sound not in in_force.sounds:
            continue
        for number, on in enumerate(thresholds):
            taken = coverage if number == 0 else Coverage()
            kept = of_one_model(directory, config, one, since, until, taken)
            events = decided(kept, with_threshold(only_with(in_force, {sound}), sound, on))
            found[on] += [event for event in replayed(events) if event.sound == sound]
    if not coverage.listened_s:
        raise InputError(f"{directory}: no scores were kept in this time; `store.scores` keeps them")
    with reading(directory) as reader:
        wanted = Filter(since=since, until=until, source=source, sound=sound)
        reviewed = [event for event in reader.events(wanted) if event.verdict is not None]
    points = [_point(on, found[on], reviewed, since, until) for on in thresholds]
    n_right = sum(event.verdict == "right" for event in reviewed)
    return Curve(points, coverage.listened_s / 86400, n_right)


def _point(
    on: float, events: Sequence[Replayed], reviewed: Sequence[Event], since: float, until: float
) -> Point:
    events = [event for event in events if since <= event.onset < until]
    were = [Replayed(one.id, one.source, one.sound, one.onset, one.offset, one.peak) for one in reviewed]
    verdicts = {event.id: event.verdict for event in reviewed}
    pairs = match(were, events, Coverage(), since, until).same
    judged = [verdicts[was.id] for was, _ in pairs]
    return Point(on, len(events), len(judged), judged.count("wrong"), judged.count("right"))
