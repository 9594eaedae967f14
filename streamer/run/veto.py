"""A veto of a sound, from events that were marked wrong and the scores that were kept; what it changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streamer.config.control import Control, SetVeto
from streamer.config.schema import TAUGHT, Config, SoundRule, VetoSettings
from streamer.core.json_file import JsonFile
from streamer.detection.veto import evidence
from streamer.errors import InputError, UsageError
from streamer.run.replay import Comparison, Coverage, compare, logged_sources, of_one_model, readable
from streamer.store.directory import locked
from streamer.store.query import Event, Filter, reading
from streamer.store.score_minutes import Minute
from streamer.teaching.veto import Example, Learned, learn
from streamer.types import Samples

EVENTS = 300
"""of a sound at a source, the latest: more take memory and teach little"""
MOMENTS = 100
"""of an event, evenly spread"""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A veto, and what it would have changed."""

    veto: VetoSettings
    learned: Learned
    effect: Comparison
    verdicts: dict[str, str]
    """of the events that it would have held back: right or wrong, where they were reviewed"""


def propose(
    directory: Path,
    config: Config,
    sound: str,
    since: float,
    until: float,
    *,
    effect_since: float,
    source: str | None = None,
) -> Proposal:
    """Learn from the events between two times; the effect is that on those since `effect_since`.

    Raises UsageError where the sound can have no veto, InputError where there is too little to learn from.
    """
    _check(config, sound)
    examples = list[Example]()
    labels: tuple[str, ...] = ()
    for one in logged_sources(directory, source):
        if one in config.sources:
            found, own = _examples(directory, config, one, sound, since, until)
            examples, labels = examples + found, own or labels
    try:
        learned = learn(examples, labels)
    except InputError as error:
        raise InputError(f"{sound}: {error}") from None
    veto = VetoSettings(model=config.model.path, bias=learned.bias, weights=dict(learned.weights))
    effect = compare(directory, config, effect_since, until, source=source, vetoes={sound: veto})
    with reading(directory) as reader:
        events = reader.events(Filter(since=effect_since, until=until, source=source, sound=sound))
        verdicts = {event.id: event.verdict for event in events if event.verdict is not None}
    return Proposal(veto, learned, effect, {one.id: verdicts.get(one.id, "") for one in effect.gone})


def apply(directory: Path, config: Config, sound: str, veto: VetoSettings | None) -> None:
    """Put a veto in force from the next start on, or take it back.

    Raises ConfigError where a daemon runs, which would not know of it, UsageError where there can be none.
    """
    _check(config, sound)
    with locked(directory) as own:
        if own is None:
            raise UsageError(f"{directory}: cannot be written: run this as the daemon's user")
        control = Control(config, JsonFile(own, "control.json"))
        for source in config.sources:
            control.apply(SetVeto(source, sound, veto))


def _check(config: Config, sound: str) -> None:
    """Raises UsageError."""
    if sound not in config.sounds:
        raise UsageError(f"there is no sound {sound!r}; there are: {', '.join(config.sounds)}")
    if not config.sounds[sound].labels:
        raise UsageError(f"{sound} is a loudness: it has no labels that could tell right from wrong")
    if config.sounds[sound].priority == "critical":
        raise UsageError(f"{sound} is critical: nothing may hold it back")


def _examples(
    directory: Path, config: Config, source: str, sound: str, since: float, until: float
) -> tuple[list[Example], tuple[str, ...]]:
    """The events of a sound at a source of which scores were kept, and the labels of their evidence."""
    rule = Control(config, JsonFile(directory, "control.json")).in_force(source).sounds.get(sound)
    if rule is None:  # switched off here
        return [], ()
    with reading(directory) as reader:
        wanted = Filter(since=since, until=until, source=source, sound=sound)
        events = list(reader.events(wanted, n=EVENTS))[::-1]
    found: dict[str, list[Samples]] = {event.id: [] for event in events}
    labels: tuple[str, ...] = ()
    settings = config.sound(sound)
    for minute in of_one_model(directory, config, source, since, until, Coverage()):
        own = [
            event
            for event in events
            if event.onset < minute.end and _end(event) > minute.start - minute.window_s
        ]
        if own:
            labels = tuple(one for one in minute.labels if not one.startswith(TAUGHT) or one in rule.labels)
            for event in own:
                found[event.id] += _moments(minute, event, settings, labels)
    examples = [
        Example(_thinned(np.concatenate(parts)), event.verdict == "wrong", event.verdict is not None)
        for event in events
        if (parts := found[event.id])
    ]
    return examples, labels


def _moments(minute: Minute, event: Event, rule: SoundRule, labels: Sequence[str]) -> list[Samples]:
    """The evidence of the time steps of windows in which an event counted."""
    place = {label: column for column, label in enumerate(minute.labels)}
    columns = [place[label] for label in labels]
    heard = [place[label] for label in rule.labels if label in place]
    parts = []
    for hop in readable(minute):
        scores = hop.scores
        if scores is None or scores.end <= event.onset or scores.start >= _end(event):
            continue
        if scores.frames is None:
            steps, at = scores.clip[None], np.array([scores.end])
        else:
            steps = scores.frames
            at = scores.start + (np.arange(len(steps)) + 0.5) * scores.frame_s
        counts = (at >= event.onset) & (at <= _end(event)) & (steps[:, heard].max(axis=1) >= rule.off)
        if counts.any():
            parts.append(evidence(steps[counts][:, columns]))
    return parts


def _end(event: Event) -> float:
    return event.seen_at if event.offset is None else event.offset


def _thinned(evidence: Samples) -> Samples:
    return evidence[:: -(-len(evidence) // MOMENTS)]
