"""Thresholds for the room: by the false alarms a day that each would have had, from what was scored there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from streamer.config.control import HIGHEST, LOWEST, PLAIN, Control, SetThreshold
from streamer.config.schema import Config
from streamer.core.json_file import JsonFile
from streamer.errors import InputError, UsageError
from streamer.run.curve import THRESHOLDS, Curve, Point, curve
from streamer.run.replay import logged_sources
from streamer.store.directory import locked


@dataclass(frozen=True, slots=True)
class Proposal:
    """A sound at a source: its threshold now, and the one that keeps to what is accepted."""

    source: str
    sound: str
    now: Point
    proposed: Point
    found: Curve

    @property
    def lost(self) -> int:
        """Events that were marked right, are found now, and would not be any more."""
        return max(0, self.now.n_right_kept - self.proposed.n_right_kept)


def calibrate(
    directory: Path, config: Config, since: float, until: float, *, per_day: float, source: str | None = None
) -> list[Proposal]:
    """A proposal for each source and each sound that was heard there at some threshold.

    Raises InputError where no scores were kept in this time.
    """
    control = Control(config, JsonFile(directory, "control.json"))
    proposals = list[Proposal]()
    failure: InputError | None = InputError(
        f"{directory}: no scores of a source of this configuration were kept"
    )
    for one in logged_sources(directory, source):
        if one not in config.sources:
            continue
        try:
            proposals += _of_source(directory, config, control, one, since, until, per_day)
        except InputError as error:  # of none of the others
            failure = failure and error
        else:
            failure = None
    if failure is not None:
        raise failure
    return proposals


def _of_source(
    directory: Path, config: Config, control: Control, source: str, since: float, until: float, per_day: float
) -> Iterator[Proposal]:
    for sound in control.sounds:
        if not control.listens_for(source, sound):
            continue
        on = round(control.on_off(source, sound)[0], 3)
        thresholds = sorted({*THRESHOLDS, on})
        found = curve(directory, config, sound, since, until, source=source, thresholds=thresholds)
        if any(point.n_events for point in found.points):
            now = next(point for point in found.points if point.on == on)
            yield Proposal(source, sound, now, choose(found, on, per_day), found)


def choose(found: Curve, on: float, per_day: float) -> Point:
    """The lowest threshold with no more false alarms a day, nor has any above it; the highest where none has.

    Where nothing was reviewed, each event counts as a false alarm; where none was marked right, nothing is
    gained by a threshold below today's.
    """
    best = found.points[-1]
    for point in reversed(found.points):
        if _false_alarms(found, point) > per_day or (point.on < on and not found.n_right):
            break
        best = point
    return best


def apply(directory: Path, config: Config, proposals: Sequence[Proposal]) -> int:
    """Put thresholds in force from the next start on; how many changed.

    Raises ConfigError where a daemon runs, which would not know of them, UsageError where a profile is not
    `balanced`.
    """
    changed = 0
    with locked(directory) as own:
        if own is None:
            raise UsageError(f"{directory}: cannot be written: run this as the daemon's user")
        control = Control(config, JsonFile(own, "control.json"))
        for source in {one.source for one in proposals}:
            if (profile := control.profile(source)) != PLAIN:
                raise UsageError(f"{source}: its profile is {profile}: set it to {PLAIN}, then calibrate")
        for one in proposals:
            if one.proposed.on != one.now.on:
                on = min(HIGHEST, max(LOWEST, one.proposed.on))
                control.apply(SetThreshold(one.source, one.sound, on))
                changed += 1
    return changed


def _false_alarms(found: Curve, point: Point) -> float:
    estimate = found.false_alarms_a_day(point)
    return found.events_a_day(point) if estimate is None else estimate[0]
