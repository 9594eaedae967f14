"""Runs the recordings of a folder through the stages, and writes what was found in each."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from streamer.archive.folder import Entry, Kind
from streamer.archive.output import Line, Output
from streamer.config.schema import Config, ModelSettings
from streamer.inference.worker import Scorer
from streamer.run.offline import Recording, detect_all
from streamer.types import SoundEvent

NAME_MAX = 240
"""bytes of a file's name to which an ending can be added"""


class Progress(Protocol):
    """What is shown while the job runs."""

    def begin(self, n_files: int, n_bytes: int) -> None: ...

    def update(self, n_files: int, n_bytes: float, audio_s: float) -> None:
        """All so far: files that are through, bytes that were read, seconds of audio."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a job leaves."""

    results: Mapping[str, int]
    """number of files by `Line.result`, of the whole shard"""
    n_new: int
    """files that this job heard"""
    audio_s: float
    """seconds of audio that this job heard"""
    took_s: float

    @property
    def n_failed(self) -> int:
        """Files that could not be heard, or not to their end."""
        return sum(self.results.get(result, 0) for result in ("failed", "damaged", Kind.UNREADABLE))


def as_chosen(settings: ModelSettings, kind: str | None) -> ModelSettings:
    """With the engine and dtype of results that are there, where the configuration leaves them open."""
    engine, _, dtype = (kind or "").partition(", ")
    chosen = {"engine": engine, "dtype": dtype}
    is_open = {key: value for key, value in chosen.items() if value and getattr(settings, key) == "auto"}
    return ModelSettings.model_validate({**settings.model_dump(), **is_open})


def settings_of(
    config: Config, scorer: Scorer, kind: str, ending: str, fingerprints: Mapping[str, str]
) -> dict[str, Any]:
    """What the results depend on: results of others must not be mixed with them. `kind` is the engine's.

    `fingerprints` are those of the model and of the heads of taught sounds.
    """
    what = config.model_dump_json(
        include={"node", "language", "model", "windows", "detection", "sounds"},
        exclude={"model": {"engine", "device", "dtype", "threads", "batch_wait_s"}},
    )
    labels = "\n".join(scorer.labels)
    return {
        "configuration": sha256(what.encode()).hexdigest()[:16],
        "model": config.model.path,
        "weights": sha256(repr(sorted(fingerprints.items())).encode()).hexdigest()[:16],
        "engine": kind,
        "labels": sha256(labels.encode()).hexdigest()[:16],
        "format": ending.lstrip("."),
    }


def run(
    recordings: Path,
    output: Output,
    config: Config,
    scorer: Scorer,
    found: list[Entry],
    render: Callable[[Path, Iterable[SoundEvent]], str],
    progress: Progress,
    *,
    at_once: int = 1,
) -> Summary:
    """Hear what is not done yet; every file gets its line in the report.

    `render` makes the text of a file's events. The scorer gets so many batches `at_once`.
    Raises InferenceError, ConfigError, OutputError; what was finished by then stays.
    """
    began = time.monotonic()
    todo: list[Entry] = []
    for entry in found:
        if entry.kind is not Kind.AUDIO:
            output.put(Line(entry.file, entry.kind, entry.note))
        elif len(os.fsencode(Path(entry.file).name)) > NAME_MAX:
            output.put(Line(entry.file, "failed", f"its name has more than {NAME_MAX} bytes; rename it"))
        elif not output.is_done(entry):
            todo.append(entry)
    progress.begin(len(todo), sum(entry.n_bytes for entry in todo))

    of_file: list[SoundEvent] = []
    n_files, n_bytes, audio_s = 0, 0, 0.0
    files = (Recording(recordings / entry.file, source_id(entry.file)) for entry in todo)
    steps = detect_all(files, config, scorer, batch=at_once * config.model.max_batch, is_padded=True)
    with closing(steps):
        for step, events in steps:
            entry = todo[n_files]  # files come one after the other
            of_file += events
            if step.window is not None:
                share = min(1.0, step.read_s / step.duration_s) if step.duration_s else 0.0
                progress.update(n_files, n_bytes + share * entry.n_bytes, audio_s + step.read_s)
                continue
            note = "" if step.error is None else str(step.error)
            if step.error is not None and not step.read_s:
                output.put(Line(entry.file, "failed", note))
            else:
                n_events = len({event.id for event in of_file})
                result = "damaged" if note else "done"
                line = Line(entry.file, result, note, seconds=round(step.read_s, 3), events=n_events)
                output.put(line, render(Path(entry.file), of_file))
            of_file = []
            n_files, n_bytes, audio_s = n_files + 1, n_bytes + entry.n_bytes, audio_s + step.read_s
            progress.update(n_files, n_bytes, audio_s)

    results = Counter(line.result for line in output.finish(found))
    return Summary(dict(results), n_files, audio_s, time.monotonic() - began)


def source_id(file: str) -> str:
    """A path as the name of a source: the file's, and a hash of the whole, which tells folders apart."""
    stem = re.sub(r"[^a-z0-9_-]+", "_", Path(file).stem.lower()).strip("_-")[:50] or "file"
    return f"{stem}-{sha256(os.fsencode(file)).hexdigest()[:12]}"
