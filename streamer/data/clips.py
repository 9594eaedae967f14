"""The recordings to train on: read once, at one rate, with their labels and their loud part.

`esc50-free`: `labels.csv` (file, labels, fold) and `audio/`. `more-free`: `index.csv` (clips that nobody
labelled), their files, and `rir/` (impulse responses of rooms).
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streamer.data.audio import decode
from streamer.errors import InputError
from streamer.types import Samples

RATE = 32000
"""Hertz: the teacher's rate, and twice the student's"""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    path: Path
    samples: Samples
    """(n,) at RATE: the part that sounds, peak-normalised"""
    labels: tuple[str, ...]
    """labels that a person gave; empty where nobody did"""
    exact: bool
    """the labels say just what it is, not only something near"""


def active_part(samples: Samples, rate: int = RATE, *, below_db: float = 20.0, gap_s: float = 1.0) -> slice:
    """The loudest stretch whose 20 ms frames stay within `below_db` of the loudest frame, gaps bridged."""
    frame = rate // 50
    n = len(samples) // frame
    if n < 1:
        return slice(0, len(samples))
    energy = np.square(samples[: n * frame].reshape(n, frame), dtype=np.float64).mean(axis=1)
    loud = np.flatnonzero(energy >= energy.max() * 10 ** (-below_db / 10))
    parts = np.split(loud, np.flatnonzero(np.diff(loud) > gap_s * 50) + 1)
    best = max(parts, key=lambda part: energy[part[0] : part[-1] + 1].sum())
    return slice(int(best[0]) * frame, (int(best[-1]) + 1) * frame)


def read(path: Path, labels: tuple[str, ...], exact: bool) -> Clip | None:
    """None, with a line in the log, where the file is unreadable, silent or shorter than 0.1 s."""
    try:
        samples = decode(path, RATE)
    except InputError as error:
        log.warning("skipped: %s", error)
        return None
    samples = samples[active_part(samples)]
    peak = float(np.max(np.abs(samples), initial=0.0))
    if not np.isfinite(peak) or peak < 1e-4 or len(samples) < RATE // 10:
        log.warning("%s: skipped: silent or too short", path)
        return None
    return Clip(path, samples / peak, labels, exact)


def esc50(folder: Path, folds: set[int]) -> Iterator[Clip]:
    """Those of some folds; what cannot be used is left out, and counted in the log."""
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if int(row["fold"]) in folds]
    clips = (
        read(
            folder / "audio" / row["file"],
            tuple(row["audioset_labels"].split("|")),
            row["audioset_exact"] == "1",
        )
        for row in rows
    )
    yield from _usable(folder, clips)


def _usable(folder: Path, clips: Iterable[Clip | None]) -> Iterator[Clip]:
    n_used = n_skipped = 0
    for clip in clips:
        if clip is None:
            n_skipped += 1
        else:
            n_used += 1
            yield clip
    log.warning("%s: %d clips used, %d skipped", folder, n_used, n_skipped)


def credits(data: Path, folds: set[int]) -> Iterator[tuple[str, str, str, str]]:
    """(file, licence, author, title or link) of every clip that is trained on, as the licences ask."""
    with (data / "esc50-free" / "labels.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if int(row["fold"]) in folds:
                yield row["file"], row["clip_licence"], row["author"], row["title"]
    with (data / "more-free" / "index.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            link = row["link"] or f"{row['source_repo']}: {row['source_path']}"
            yield Path(row["file"]).name, row["licence"], row["author"], link


def unlabelled(folder: Path) -> Iterator[Clip]:
    """Clips that nobody labelled; what cannot be used is left out, and counted in the log."""
    with (folder / "index.csv").open(newline="", encoding="utf-8") as file:
        files = [row["file"] for row in csv.DictReader(file)]
    yield from _usable(folder, (read(folder / name, (), exact=False) for name in files))


def room_responses(folder: Path) -> list[Samples]:
    """Impulse responses at RATE, direct sound first, energy 1."""
    responses = []
    for path in sorted(folder.glob("*.flac")):
        response = decode(path, RATE)
        response = response[int(np.argmax(np.abs(response))) :][: 2 * RATE]
        responses.append(response / float(np.sqrt(np.square(response).sum())))
    return responses
