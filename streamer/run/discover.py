"""What is loud again and again and no sound of the configuration explains, from the scores that were kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streamer.config.schema import TAUGHT, Config
from streamer.core.json_file import JsonFile
from streamer.detection.veto import evidence, score_of
from streamer.errors import InputError, UsageError
from streamer.run.replay import Coverage, logged_sources, of_one_model, readable
from streamer.store.query import Filter, reading
from streamer.store.score_minutes import Minute
from streamer.teaching.recurring import ALIKE, Cluster, Stretch, alike, clusters
from streamer.types import Hop, Samples

FILE = "ignored.json"
MERGE_S = 1.0
"""the longest pause within a stretch"""
SHORTEST_S, LONGEST_S = 0.25, 30.0
"""of a stretch: a click is too little to know, and what is longer is the room"""
AROUND_S = 2.0
"""about an event, whose echo and attack belong to it"""
SEEN_S = 1.0
"""after its end a window has seen a stretch"""
STRETCHES = 5000
"""of a source, the latest"""
LABELS = 2
"""that name a sound for people"""
TOGETHER = 5
"""minutes that are unpacked at once: 8 MB each"""
NAMED = 0.05
"""the score of a label from which on it says something"""


@dataclass(frozen=True, slots=True)
class Found:
    """A sound that recurs."""

    id: str
    cluster: Cluster
    labels: list[tuple[str, float]]
    """those that score at all, the strongest first"""

    @property
    def most_like(self) -> list[str]:
        """The labels that say something; none where the model does not know it."""
        return [label for label, score in self.labels[:LABELS] if score >= NAMED]


@dataclass(frozen=True, slots=True)
class Discovery:
    found: list[Found]
    n_stretches: int
    """loud ones that no sound explains"""
    n_ignored: int
    """sounds that recur, and are ignored"""
    coverage: Coverage


def discover(
    directory: Path,
    config: Config,
    since: float,
    until: float,
    *,
    loud_db: float,
    fewest: int,
    source: str | None = None,
) -> Discovery:
    """Sounds that came so many times, so loud above the background; those to be ignored are left out.

    Raises InputError where no scores were kept.
    """
    coverage, stretches = Coverage(), list[Stretch]()
    labels: tuple[str, ...] = ()
    for one in logged_sources(directory, source):
        with reading(directory) as reader:
            # A loudness is an event of whatever is loud, and explains nothing.
            explained = [
                (event.onset - AROUND_S, (event.seen_at if event.offset is None else event.offset) + AROUND_S)
                for event in reader.events(Filter(since=since - LONGEST_S, until=until, source=one))
                if event.sound not in config.sounds or config.sounds[event.sound].labels
            ]
        own = list[Stretch]()
        kept = of_one_model(directory, config, one, since, until, coverage)
        for together in _loud(kept, loud_db):
            labels = labels or tuple(one for one in together[0].labels if not one.startswith(TAUGHT))
            columns = [together[0].labels.index(label) for label in labels]
            own += [
                found
                for found in _stretches(together, columns, loud_db)
                if found.begin >= since
                and not any(begin < found.end and found.begin < end for begin, end in explained)
            ]
        stretches += own[-STRETCHES:]
    if not coverage.listened_s:
        raise InputError(f"{directory}: no scores were kept in this time; `store.scores` keeps them")
    ignored = _ignored(directory, labels)
    recurring = clusters(stretches, fewest)
    wanted = [
        one
        for one in recurring
        if all(alike(one.centre, one.seconds, other, seconds) < ALIKE for other, seconds in ignored)
    ]
    return Discovery(
        [_found(one, labels) for one in wanted], len(stretches), len(recurring) - len(wanted), coverage
    )


def ignore(directory: Path, discovery: Discovery, found_id: str) -> None:
    """Leave a sound out from now on. Raises UsageError where there is none of this id."""
    found = next((one for one in discovery.found if one.id == found_id), None)
    if found is None:
        known = ", ".join(one.id for one in discovery.found) or "none"
        raise UsageError(f"{found_id!r} is no sound of these: {known}")
    file = JsonFile(directory, FILE)
    seconds = round(found.cluster.seconds, 2)
    file.save({**file.load(), found.id: {"seconds": seconds, "labels": dict(found.labels)}})


def _ignored(directory: Path, labels: Sequence[str]) -> list[tuple[Samples, float]]:
    """Evidence and length of each; entries that make no sense are left out."""
    place = {label: column for column, label in enumerate(labels)}
    found = []
    for saved in JsonFile(directory, FILE).load().values():
        match saved:
            case {"seconds": int() | float() as seconds, "labels": dict() as own}:
                scores = np.zeros(len(labels), np.float32)
                for label, score in own.items():
                    if label in place and isinstance(score, int | float):
                        scores[place[label]] = score
                found.append((evidence(scores), float(seconds)))
    return found


def _found(cluster: Cluster, labels: Sequence[str]) -> Found:
    scores = score_of(cluster.centre)
    order = np.argsort(-scores, kind="stable")[: np.count_nonzero(scores)]
    first = cluster.stretches[0]
    return Found(
        f"{int(1000 * first.begin) & 0xFFFFFF:06x}",
        cluster,
        [(labels[i], round(float(scores[i]), 3)) for i in order],
    )


def _loud(found: Iterable[Minute], loud_db: float) -> Iterator[list[Minute]]:
    """Loud minutes in a row, with the one after them, whose windows have seen the end of the last."""
    together: list[Minute] = []
    for minute in found:
        if together and (minute.follows is None or minute.labels != together[-1].labels):
            yield together
            together = []
        is_loud = minute.above_db >= loud_db
        if together or is_loud:
            together.append(minute)
        if together and (not is_loud or len(together) == TOGETHER):
            yield together
            together = []
    if together:
        yield together


def _stretches(together: Sequence[Minute], columns: Sequence[int], loud_db: float) -> Iterator[Stretch]:
    """The loud stretches of minutes in a row, each with the evidence of a window that saw it whole."""
    hops = [hop for minute in together for hop in readable(minute)]
    if not hops:
        return
    at, above_db = _levels(hops)
    loud = np.flatnonzero(above_db >= loud_db)
    if not len(loud):
        return
    step = float(np.median(np.diff(at))) if len(at) > 1 else 1.0
    for part in np.split(loud, np.flatnonzero(np.diff(at[loud]) > MERGE_S) + 1):
        begin, end = float(at[part[0]]), float(at[part[-1]] + step)
        if not SHORTEST_S <= end - begin <= LONGEST_S:
            continue
        own = _evidence(hops, begin, end, columns)
        if own is not None:
            yield Stretch(together[0].source, begin, end, float(above_db[part].max()), own)


def _levels(hops: Sequence[Hop]) -> tuple[Samples, Samples]:
    """(n,) begins and levels above the background of the audio that is new in each hop."""
    at, above_db = [], []
    for hop in hops:
        sensed = hop.sensed
        n = len(sensed.levels)
        at.append(sensed.since + (sensed.end - sensed.since) * np.arange(n) / max(1, n))
        above_db.append(sensed.levels[:, 1])
    return np.concatenate(at), np.concatenate(above_db)


def _evidence(hops: Sequence[Hop], begin: float, end: float, columns: Sequence[int]) -> Samples | None:
    """Of the first window that has seen all of it, else of the last that has seen some."""
    best = None
    for hop in hops:
        if hop.scores is not None and hop.scores.start < end and hop.scores.end > begin:
            best = hop.scores
            if best.end >= end + SEEN_S:
                break
    if best is None:
        return None
    if best.frames is None:
        return evidence(best.clip[columns])
    middle = best.start + (np.arange(len(best.frames)) + 0.5) * best.frame_s
    inside = (middle >= begin) & (middle <= end)
    frames = best.frames[inside] if inside.any() else best.frames[[int(np.abs(middle - begin).argmin())]]
    return np.asarray(evidence(frames[:, columns]).mean(axis=0), np.float32)
