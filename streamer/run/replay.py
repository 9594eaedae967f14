"""What another configuration would have made of the scores of the past days: new, gone and same events."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import MappingProxyType

import numpy as np

from streamer.config.control import Control
from streamer.config.schema import Config, VetoSettings
from streamer.core.json_file import JsonFile
from streamer.detection.decider import Decider, Inspection
from streamer.detection.explain import Explanation, explanation
from streamer.detection.steps import scores_of
from streamer.errors import InputError, UsageError
from streamer.run.fingerprints import MODEL, fingerprints
from streamer.run.trial import only_with, with_threshold, with_veto
from streamer.store.query import Event, Filter, reading
from streamer.store.score_files import About, minutes, sources
from streamer.store.score_minutes import UNREADABLE, Minute
from streamer.types import Hop, SoundEvent

LEAD_S = 900.0
"""replay begins so much earlier, with what had begun before"""
EXPLAIN_S = 60.0
"""after a moment, by which all is known of it"""
_ROUNDING = 1e-3
"""by which a mean may be above the highest of its scores"""


@dataclass(frozen=True, slots=True)
class Replayed:
    """An event as rules have it."""

    id: str
    source: str
    sound: str
    onset: float
    offset: float | None
    """None while it goes on"""
    peak: float

    @property
    def end(self) -> float:
        return float("inf") if self.offset is None else self.offset

    @property
    def day(self) -> str:
        """Local date."""
        return datetime.fromtimestamp(self.onset).astimezone().date().isoformat()


@dataclass(slots=True)
class Coverage:
    """What the log holds of a span of time."""

    listened_s: float = 0.0
    scored_s: float = 0.0
    """the rest was as quiet as the room always is, and was not scored"""
    spans: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """by source"""
    other_model_until: float | None = None
    """up to then another model scored"""

    def add(self, minute: Minute) -> None:
        self.listened_s += minute.end - minute.start
        self.scored_s += (minute.end - minute.start) * minute.n_scored / max(1, minute.n_hops)
        spans = self.spans.setdefault(minute.source, [])
        if spans and spans[-1][1] == minute.start:
            spans[-1] = (spans[-1][0], minute.end)
        else:
            spans.append((minute.start, minute.end))

    def has(self, source: str, at: float) -> bool:
        return any(start <= at <= end for start, end in self.spans.get(source, ()))


@dataclass(slots=True)
class Comparison:
    """Events of a span of time, as they were and as they would have been."""

    coverage: Coverage
    same: list[tuple[Replayed, Replayed]] = field(default_factory=list)
    """as it was, as it would have been"""
    new: list[Replayed] = field(default_factory=list)
    gone: list[Replayed] = field(default_factory=list)
    unknown: list[Replayed] = field(default_factory=list)
    """events of times that the log does not hold"""

    def per_day(self) -> dict[str, dict[str, int]]:
        """By local date: how many `were`, and how many would have been `same`, `new` and `gone`."""
        days: dict[str, dict[str, int]] = {}
        for name, events in (("same", [was for was, _ in self.same]), ("new", self.new), ("gone", self.gone)):
            for event in events:
                day = days.setdefault(event.day, {"same": 0, "new": 0, "gone": 0})
                day[name] += 1
        return {
            day: {"were": counts["same"] + counts["gone"], **counts} for day, counts in sorted(days.items())
        }


def compare(
    directory: Path,
    config: Config,
    since: float,
    until: float,
    *,
    source: str | None = None,
    thresholds: Mapping[str, float] = MappingProxyType({}),
    vetoes: Mapping[str, VetoSettings] = MappingProxyType({}),
    progress: Callable[[float], None] = lambda _: None,
) -> Comparison:
    """Replay the sources of the log between two times by a configuration, with the commands in force.

    With `thresholds` or `vetoes`, by sound, these go before all others, and only the events of these sounds
    are compared.
    `progress` is called with the share that is done.
    Raises InputError where there is nothing to replay, or where the configuration has another model.
    """
    control = Control(config, JsonFile(directory, "control.json"))
    coverage, asked = Coverage(), {*thresholds, *vetoes}
    would_be: list[Replayed] = []
    known = logged_sources(directory, source)
    for number, one in enumerate(known):
        in_force = control.in_force(one) if one in config.sources else config
        tried = asked.intersection(in_force.sounds)
        if tried:
            in_force = only_with(in_force, tried)
        elif asked:
            continue  # all of them are switched off here
        for name in tried:
            if name in thresholds:
                in_force = with_threshold(in_force, name, thresholds[name])
            if name in vetoes:
                in_force = with_veto(in_force, name, vetoes[name])
        found = _followed(
            of_one_model(directory, config, one, since, until, coverage),
            lambda at, number=number: progress((number + (at - since) / (until - since)) / len(known)),  # type: ignore[misc]  # bound now
        )
        would_be += replayed(decided(found, in_force))
    if not coverage.spans:
        raise InputError(f"{directory}: no scores were kept in this time; `store.scores` keeps them")
    with reading(directory) as reader:
        wanted = Filter(since=since - LEAD_S, until=until, source=source)
        were = [_as_replayed(event) for event in reader.events(wanted)]
    if asked:
        were = [event for event in were if event.sound in asked]
        would_be = [event for event in would_be if event.sound in asked]
    return match(were, would_be, coverage, since, until)


def _followed(found: Iterable[Minute], progress: Callable[[float], None]) -> Iterator[Minute]:
    """The same minutes; `progress` is called with the end of each."""
    for minute in found:
        yield minute
        progress(minute.end)


def logged_sources(directory: Path, source: str | None) -> list[str]:
    """The sources that there are scores of, or the one that is named. Raises InputError."""
    known = sources(directory)
    if source is not None and source not in known:
        raise InputError(f"there are no scores of {source!r}; there are of: {', '.join(known) or 'none'}")
    return known if source is None else [source]


def of_one_model(
    directory: Path, config: Config, source: str, since: float, until: float, coverage: Coverage
) -> Iterator[Minute]:
    """The minutes of a source, and of LEAD_S before; only those of the model that scored last.

    Labels that the configuration does not ask for may differ: a sound that was taught since adds one.
    `coverage` takes note of those since `since`. Raises InputError where the configuration has another model,
    also one of the same name, or another head of a taught sound.
    """
    latest: About | None = None
    for about, _ in minutes(directory, source, since, until):
        latest = about
    if latest is not None and latest.model != config.model.path:
        raise InputError(
            f"{source} was scored by {latest.model}: what {config.model.path} would say is not known"
        )
    if latest is not None and (other := _other(latest.fingerprints, fingerprints(config), config)):
        raise InputError(
            f"{source} was scored by another {other} than is here now: what this one would say is not known;"
            " it is of what the daemon scores after a restart"
        )
    for about, minute in minutes(directory, source, since - LEAD_S, until):
        if latest is None or not _is_same(about, latest, config):
            coverage.other_model_until = max(minute.end, coverage.other_model_until or 0.0)
            continue
        if minute.end > since:
            coverage.add(minute)
        yield minute


def _is_same(about: About, latest: About, config: Config) -> bool:
    """Whether both have the same model, and the same of the labels that are asked for."""
    is_one_model = (about.model, about.window_s) == (latest.model, latest.window_s)
    has_labels = config.labels.intersection(latest.labels) <= set(about.labels)
    return is_one_model and has_labels and not _other(about.fingerprints, latest.fingerprints, config)


def _other(first: Mapping[str, str], second: Mapping[str, str], config: Config) -> str:
    """What the configuration asks for of which both have one, and not the same; empty where there is none."""
    for name in (MODEL, *sorted(config.labels)):
        if name in first and name in second and first[name] != second[name]:
            return config.model.path if name == MODEL else f"head of {name!r}"
    return ""


def decided(
    found: Iterable[Minute], config: Config, observe: Callable[[Decider, Hop], None] | None = None
) -> Iterator[SoundEvent]:
    """The events of one source's minutes, in order, by the rules of a configuration.

    Minutes in which, and near which, no sound reaches its threshold are passed over unread, unless `observe`
    is called after each hop. Raises ConfigError where a sound has a label that the model does not.
    """
    decider: Decider | None = None
    before: Minute | None = None
    for minute, is_needed in _needed(found, config):
        hop_s = minute.hop_s
        if decider is None or before is None or minute.is_first or minute.labels != before.labels:
            if decider is not None and before is not None:
                yield from decider.close(before.end, before.end)
            own = config.model_copy(update={"windows": config.windows.model_copy(update={"hop_s": hop_s})})
            decider, at = Decider(minute.source, own, minute.labels), float("-inf")
        if is_needed or observe is not None or not decider.is_quiet:
            if decider.is_quiet and not minute.is_first:
                _leap(decider, at, before, minute)
            for hop in readable(minute):
                if hop.scores is None and hop.sensed.is_wanted:
                    decider.miss(hop.sensed)
                else:
                    yield from decider.decide(hop.sensed, hop.scores, hop.sensed.end)
                at = hop.sensed.end
                if observe is not None:
                    observe(decider, hop)
        before = minute
    if decider is not None and before is not None:
        yield from decider.close(before.end, before.end)


def readable(minute: Minute) -> list[Hop]:
    """Its hops; none where it is damaged."""
    with suppress(*UNREADABLE):
        return list(minute.hops())
    return []


def _leap(decider: Decider, at: float, before: Minute | None, minute: Minute) -> None:
    """Take a decider, which has seen all up to a time, over what was passed over, to a minute."""
    if minute.follows is not None and minute.origin is not None and minute.follows != at:
        decider.leap(minute.follows, minute.origin, minute.window_s)
    elif minute.follows is None and before is not None and before.origin is not None and before.end != at:
        decider.leap(before.end, before.origin, before.window_s)  # so that it sees where time breaks off


def replayed(events: Iterable[SoundEvent]) -> list[Replayed]:
    """The latest message of each event, by onset."""
    latest = {event.id: event for event in events}
    found = [
        Replayed(one.id, one.source_id, one.sound, one.onset, one.offset, one.peak) for one in latest.values()
    ]
    return sorted(found, key=lambda event: event.onset)


def match(
    were: Sequence[Replayed], would_be: Sequence[Replayed], coverage: Coverage, since: float, until: float
) -> Comparison:
    """Pair events of the same id, then those of the same source and sound that overlap, in order of time."""
    comparison = Comparison(coverage)
    left = {event.id: event for event in sorted(would_be, key=lambda event: event.onset)}
    unpaired = []
    pairs = []
    for was in sorted(were, key=lambda event: event.onset):
        if (other := left.pop(was.id, None)) is not None:
            pairs.append((was, other))
        else:
            unpaired.append(was)
    waiting: dict[tuple[str, str], deque[Replayed]] = {}
    for one in left.values():
        waiting.setdefault((one.source, one.sound), deque()).append(one)
    for was in unpaired:
        candidates = waiting.get((was.source, was.sound), deque())
        while candidates and candidates[0].end <= was.onset:
            candidates.popleft()
        other = candidates.popleft() if candidates and candidates[0].onset < was.end else None
        if other is not None:
            del left[other.id]
            pairs.append((was, other))
        elif since <= was.onset < until:
            (comparison.gone if coverage.has(was.source, was.onset) else comparison.unknown).append(was)
    comparison.same = sorted(
        (pair for pair in pairs if since <= pair[0].onset < until), key=lambda pair: pair[0].onset
    )
    comparison.new = [event for event in left.values() if since <= event.onset < until]
    return comparison


def _needed(found: Iterable[Minute], config: Config) -> Iterator[tuple[Minute, bool]]:
    """Each minute, with whether a sound may reach its threshold in it, or so near that its scores count."""
    rules = {name: config.sound(name) for name in config.sounds}
    merge_s = max((rule.merge_gap_s for rule in rules.values() if rule.verify != "none"), default=0.0)
    columns: dict[tuple[str, ...], list[tuple[list[int], float]]] = {}
    loud_db = min(
        (rule.above_background_db for rule in rules.values() if rule.above_background_db is not None),
        default=float("inf"),
    )
    waiting: deque[tuple[Minute, bool]] = deque()
    reached_until = float("-inf")
    for minute in found:
        if minute.labels not in columns:
            place = {label: number for number, label in enumerate(minute.labels)}
            columns[minute.labels] = [
                ([place[label] for label in rule.labels if label in place], rule.on)
                for rule in rules.values()
                if rule.labels
            ]
        # All that a decider remembers, and the window that a first score may lie in.
        reach_s = 3 * minute.window_s + config.detection.announce_s + 2 + merge_s
        peaks = scores_of(minute.peaks_by_label())
        is_reached = minute.above_db + 0.1 >= loud_db or any(
            float(np.max(peaks[own], initial=0.0)) >= on - _ROUNDING for own, on in columns[minute.labels]
        )
        if is_reached:
            waiting = deque(
                (one, is_needed or one.end > minute.start - reach_s) for one, is_needed in waiting
            )
        is_needed = is_reached or minute.follows is None or minute.start < reached_until + reach_s
        waiting.append((minute, is_needed))
        if is_reached:
            reached_until = minute.end
        while waiting[0][0].end <= minute.end - reach_s:
            yield waiting.popleft()
    yield from waiting


def _as_replayed(event: Event) -> Replayed:
    return Replayed(event.id, event.source, event.sound, event.onset, event.offset, event.peak)


def as_json(comparison: Comparison, *, most: int | None = None) -> str:
    """One line for programs; times are seconds since the Unix epoch. At most so many new and gone events."""

    def plain(event: Replayed) -> dict[str, object]:
        return {
            "id": event.id,
            "source": event.source,
            "sound": event.sound,
            "onset": round(event.onset, 3),
            "offset": None if event.offset is None else round(event.offset, 3),
            "peak": round(event.peak, 4),
        }

    def latest(events: list[Replayed]) -> list[Replayed]:
        return events if most is None else events[-most:]

    coverage = comparison.coverage
    return json.dumps(
        {
            "same": len(comparison.same),
            "new": [plain(event) for event in latest(comparison.new)],
            "gone": [plain(event) for event in latest(comparison.gone)],
            "not_in_log": len(comparison.unknown),
            "per_day": comparison.per_day(),
            "listened_s": round(coverage.listened_s),
            "scored_s": round(coverage.scored_s),
        },
        ensure_ascii=False,
    )


def explain_at(
    directory: Path, config: Config, source: str | None, *, sound: str, at: float
) -> tuple[str, Explanation]:
    """Why a sound started an event at a moment that the log holds, or did not; with the source's name.

    `source` may be left out where there are scores of one alone. Raises InputError, UsageError.
    """
    known = logged_sources(directory, source)
    if len(known) != 1:
        raise UsageError(f"say which source, with --source: {', '.join(known) or 'there are scores of none'}")
    control = Control(config, JsonFile(directory, "control.json"))
    in_force = control.in_force(known[0]) if known[0] in config.sources else config
    if sound not in in_force.sounds:
        raise InputError(f"{sound} is switched off at {known[0]}, by command")
    coverage = Coverage()
    found = list(of_one_model(directory, config, known[0], at, at + EXPLAIN_S, coverage))
    if not coverage.has(known[0], at):
        raise InputError(f"{known[0]}: no scores were kept of that moment; `store.scores` keeps them")
    inspections = list[Inspection]()
    is_scored = False

    def inspect(decider: Decider, hop: Hop) -> None:
        nonlocal is_scored
        is_scored = is_scored or (hop.scores is not None and hop.sensed.since < at <= hop.sensed.end)
        if (inspection := decider.inspect(sound, at)) is not None:
            inspections.append(inspection)

    events = list(decided(found, in_force, observe=inspect))
    return known[0], explanation(in_force, events, inspections, sound=sound, at=at, is_scored=is_scored)
