"""Events against the truth: which were found, which were false; and scores kept to try settings on."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from streamer.config.schema import Config
from streamer.detection.decider import Decider
from streamer.detection.pipeline import Pipeline
from streamer.errors import InputError
from streamer.inference.worker import Scorer
from streamer.run.offline import detect
from streamer.types import Scores, Sensed, SoundEvent, Window

SHARE = 0.5
"""of an event that lies in the truth, or of the truth that is covered, that makes it right"""


@dataclass(frozen=True, slots=True)
class Span:
    """One occurrence of a sound; seconds from the start of the recording."""

    sound: str
    onset: float
    offset: float
    clip: str = ""
    """the file that it was made of, where that is known"""


@dataclass(slots=True)
class Count:
    """Of one sound: true events, those found, and events that are none."""

    true: int = 0
    found: int = 0
    false: int = 0
    false_for: Counter[str] = field(default_factory=Counter, compare=False)
    """the false events by the clip that they are for, or by the minute where nothing sounds"""

    @property
    def false_but_worst(self) -> int:
        """False events without those for the clip that causes most of them: no clip decides alone."""
        return self.false - max(self.false_for.values(), default=0)


def read_truth(path: Path) -> list[Span]:
    """A table with tabs: onset, offset, event_label and, where it is known, clip. Raises InputError."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file, delimiter="\t")
            return [
                Span(row["event_label"], float(row["onset"]), float(row["offset"]), row.get("clip") or "")
                for row in rows
            ]
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f"{path}: not a table of onset, offset and event_label ({error})") from error


def write_truth(path: Path, spans: Iterable[Span]) -> None:
    """What `read_truth` reads. Raises OSError."""
    lines = [f"{span.onset:.3f}\t{span.offset:.3f}\t{span.sound}\t{span.clip}\n" for span in spans]
    path.write_text("".join(["onset\toffset\tevent_label\tclip\n", *lines]), encoding="utf-8")


def ended(events: Iterable[SoundEvent]) -> list[Span]:
    """What the ends of events say, for a recording that began at 0."""
    return [Span(event.sound, event.onset, event.offset) for event in events if event.offset is not None]


def count(truth: Iterable[Span], detected: Iterable[Span]) -> dict[str, Count]:
    """Intersection-based counts by sound.

    An event is right if at least half of it lies in true events of its sound; a true event is found if right
    ones cover at least half of it.
    """
    truth = list(truth)
    counts: dict[str, Count] = defaultdict(Count)
    true_of, detected_of = _by_sound(truth), _by_sound(detected)
    for sound in true_of.keys() | detected_of.keys():
        own, found = true_of.get(sound, []), detected_of.get(sound, [])
        right = [span for span in found if _covered(span, own) >= SHARE * (span.offset - span.onset)]
        wrong = [span for span in found if span not in right]
        counts[sound] = Count(
            true=len(own),
            found=sum(_covered(span, right) >= SHARE * (span.offset - span.onset) for span in own),
            false=len(wrong),
            false_for=Counter(_cause(span, truth) for span in wrong),
        )
    return counts


def _by_sound(spans: Iterable[Span]) -> dict[str, list[Span]]:
    by_sound: dict[str, list[Span]] = defaultdict(list)
    for span in spans:
        by_sound[span.sound].append(span)
    return by_sound


def _cause(span: Span, truth: Iterable[Span]) -> str:
    """The clip, or else the sound, that an event overlaps most; the minute where nothing sounds."""
    most = max(truth, key=lambda other: _covered(span, (other,)), default=None)
    if most is None or not _covered(span, (most,)):
        return f"minute {int(span.onset // 60)}"
    return most.clip or most.sound


def _covered(span: Span, by: Iterable[Span]) -> float:
    """How many seconds of a span others cover; those others do not overlap."""
    return sum(max(0.0, min(span.offset, other.offset) - max(span.onset, other.onset)) for other in by)


def every_window(config: Config) -> Config:
    """The configuration, but every window is scored, quiet ones too."""
    return config.model_copy(update={"windows": config.windows.model_copy(update={"skip_quiet": False})})


class SavedScores:
    """A `Scorer` that keeps the scores of another on disk, of the labels that a configuration uses.

    The same recording is then tried with other settings in seconds. `model` makes the file's name.
    """

    def __init__(self, scorer: Scorer, config: Config, folder: Path, model: str) -> None:
        listened = {label for sound in config.sounds.values() for label in sound.labels}
        self.labels = tuple(label for label in scorer.labels if label in listened)
        self.window_s = scorer.window_s
        self._columns = [scorer.labels.index(label) for label in self.labels]
        self._scorer, self._folder, self._model = scorer, folder, model
        self._kept: dict[str, dict[str, np.ndarray]] = {}

    def keep(self, recording: Path, config: Config) -> str:
        """Score a recording unless that has been done; its windows' source is to be the returned name."""
        name = recording.stem.lower()
        path = self._folder / f"{self._model}-{name}.npz"
        if not path.exists():
            scores: list[Scores] = []

            def see(_: Pipeline, __: Window, scored: Scores | None) -> None:
                if scored is not None:
                    scores.append(scored)

            for _ in detect(recording, every_window(config), self._scorer, source_id=name, observe=see):
                pass
            frames = [s.frames if s.frames is not None else s.clip[None] for s in scores]
            self._folder.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(
                path,
                labels=np.array(self.labels),
                frames=np.array(frames)[:, :, self._columns].astype(np.float16),
                frame_s=[scores[0].frame_s],
            )
        with np.load(path) as kept:
            if tuple(kept["labels"]) != self.labels:
                raise InputError(f"{path}: of other sounds; delete it")
            self._kept[name] = {"frames": kept["frames"], "frame_s": kept["frame_s"]}
        return name

    def replay(self, name: str, config: Config) -> list[SoundEvent]:
        """The events of a recording by its saved scores alone, without audio."""
        decider = Decider(name, config, self.labels)
        silence = np.zeros((1, 2), np.float32)
        events: list[SoundEvent] = []
        end = 0.0
        for k in range(len(self._kept[name]["frames"])):
            end = (k + 1) * config.hop_s
            start = end - self.window_s
            sensed = Sensed(k, start, end, max(start, 0.0), end - config.hop_s, silence)
            events += decider.decide(sensed, self._score(name, k, start, end), end)
        return events + decider.close(end, end)

    def hours(self, hop_s: float) -> float:
        """The length of all that is kept."""
        return sum(len(kept["frames"]) for kept in self._kept.values()) * hop_s / 3600

    def score(self, windows: Sequence[Window]) -> list[Scores]:
        return [self._score(window.source_id, window.index, window.start, window.end) for window in windows]

    def _score(self, name: str, index: int, start: float, end: float) -> Scores:
        kept = self._kept[name]
        frames = kept["frames"][index].astype(np.float32)
        frame_s = float(kept["frame_s"][0])
        says_when = frames if frame_s else None
        clip = frames.max(axis=0)
        return Scores(name, index, start, end, clip, says_when, frame_s)


def total(counts: Iterable[Mapping[str, Count]]) -> dict[str, Count]:
    """The counts of several recordings, by sound."""
    by_sound: dict[str, Count] = defaultdict(Count)
    for each in counts:
        for sound, own in each.items():
            sums = by_sound[sound]
            sums.true, sums.found = sums.true + own.true, sums.found + own.found
            sums.false, sums.false_for = sums.false + own.false, sums.false_for + own.false_for
    return dict(by_sound)
