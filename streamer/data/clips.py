"""The recordings that crops are made of: decoded once, with what is known of each, kept in a run's folder.

`esc50-free`: `labels.csv` (file, labels, fold) and `audio/`. `more-free`, `more-free-2` and what `render`
makes: `index.csv` (file, source, licence, author, and labels where they are certain). `rir/`: responses of
rooms.
"""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from streamer.data.audio import decode
from streamer.data.teacher import Teacher
from streamer.errors import InputError
from streamer.model.labels import AUDIOSET
from streamer.signal.sounding import sounding
from streamer.types import Samples

Scores = npt.NDArray[np.float32]

RATE = 32000
"""Hertz: the teacher's rate, and twice the student's"""
ESC50 = "esc50-free"
PEAK = 30_000
"""of every piece, in steps of int16"""
_RESPONSE_S = 1.0
"""of a room's response that is kept: what comes later is under the noise of most recordings"""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of a table: a file, and what is known of it without listening."""

    path: Path
    folder: str
    """the data set's"""
    source: str
    """whose recordings: what is held out is held out by source"""
    labels: tuple[str, ...]
    """that are certain; empty where none is"""
    exact: bool
    """the labels say just what it is, not only something near"""
    credit: tuple[str, str, str]
    """licence, author, title or link"""


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    entry: Entry
    samples: npt.NDArray[np.int16]
    """(n,) at RATE, peak PEAK"""
    active: npt.NDArray[np.float32]
    """(k, 2) seconds: from when to when it sounds"""
    rms: float
    """of where it sounds, in steps of int16"""
    scores: Scores
    """(n_labels,) what the teacher says of it alone"""


def entries(
    data: Path, folds: Iterable[int], folders: Sequence[str], held_out: Iterable[str] = ()
) -> list[Entry]:
    """All that may be trained on. Raises InputError where a table is missing."""
    wanted, apart = set(folds), set(held_out)
    found = [entry for fold, entry in _esc50(data / ESC50) if fold in wanted]
    for folder in folders:
        found += [entry for entry in indexed(data / folder) if entry.source not in apart]
    return found


def validating(
    data: Path, folds: Iterable[int], folders: Sequence[str], held_out: Iterable[str]
) -> list[Entry]:
    """The clips of other folds and of the sources that are held out. Raises InputError."""
    wanted, apart = set(folds), set(held_out)
    found = [entry for fold, entry in _esc50(data / ESC50) if fold in wanted]
    for folder in folders:
        found += [entry for entry in indexed(data / folder) if entry.source in apart]
    return found


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}: see docs/training.md for what is needed") from error


def _esc50(folder: Path) -> Iterator[tuple[int, Entry]]:
    for row in _rows(folder / "labels.csv"):
        labels = tuple(row["audioset_labels"].split("|"))
        credit = (row["clip_licence"], row["author"], row["title"])
        exact = row["audioset_exact"] == "1"
        yield (
            int(row["fold"]),
            Entry(folder / "audio" / row["file"], folder.name, row["esc50_label"], labels, exact, credit),
        )


def indexed(folder: Path) -> Iterator[Entry]:
    """The clips of a folder with an `index.csv`. Raises InputError."""
    for row in _rows(folder / "index.csv"):
        labels = tuple(label for label in (row.get("labels") or "").split("|") if label in AUDIOSET)
        link = row["link"] or f"{row['source_repo']}: {row['source_path']}"
        credit = (row["licence"], row["author"], link)
        yield Entry(folder / row["file"], folder.name, row["source_repo"], labels, bool(labels), credit)


def _rms(samples: npt.NDArray[np.int16], active: npt.NDArray[np.float32]) -> float:
    parts = [samples[int(begin * RATE) : int(end * RATE)] for begin, end in active]
    return float(np.sqrt(np.square(np.concatenate(parts).astype(np.float32)).mean()) + 1e-3)


def measure(entry: Entry, samples: Samples, teacher: Teacher) -> Piece | None:
    """A piece of (n,) samples at RATE; None where it is silent or shorter than 0.1 s."""
    peak = float(np.max(np.abs(samples), initial=0.0))
    if not np.isfinite(peak) or peak < 1e-4 or len(samples) < RATE // 10:
        return None
    whole = (samples * (PEAK / peak)).astype(np.int16)
    active = sounding(whole, RATE)
    # The teacher was trained on ten seconds; a clip of a fraction of one says more when it comes again.
    heard: Samples = whole.astype(np.float32) / np.float32(65536)
    if len(heard) < 3 * RATE:
        again = min(6, 3 * RATE // len(heard))
        heard = np.tile(np.concatenate((heard, np.zeros(RATE // 5, np.float32))), max(1, again))
    return Piece(entry, whole, active, _rms(whole, active), teacher.score(heard[: 10 * RATE]))


def prepare(found: Sequence[Entry], folder: Path, teacher: Teacher) -> int:
    """Decode and measure what `folder` does not hold yet; the number that it then holds of `found`.

    A data set is a file of samples (`NAME.s16`), one of numbers (`NAME.npz`) and one of names (`NAME.json`).
    """
    folder.mkdir(parents=True, exist_ok=True)
    n = 0
    for name in dict.fromkeys(entry.folder for entry in found):
        own = [entry for entry in found if entry.folder == name]
        if not (folder / f"{name}.json").exists():
            _write(own, folder / name, teacher)
        n += len(json.loads((folder / f"{name}.json").read_text()))
    return n


def _write(own: Sequence[Entry], base: Path, teacher: Teacher) -> None:
    names, begins, actives, counts, rms, scores = [], [0], [], [], [], []
    with base.with_suffix(".s16").open("wb") as file:
        for entry in own:
            try:
                piece = measure(entry, decode(entry.path, RATE), teacher)
            except InputError as error:
                log.warning("skipped: %s", error)
                continue
            if piece is None:
                log.warning("%s: skipped: silent or too short", entry.path)
                continue
            file.write(piece.samples.tobytes())
            names.append(entry.path.name)
            begins.append(begins[-1] + len(piece.samples))
            actives.append(piece.active)
            counts.append(len(piece.active))
            rms.append(piece.rms)
            scores.append(piece.scores)
    np.savez(
        base.with_suffix(".npz"),
        begins=np.array(begins, np.int64),
        active=np.concatenate(actives),
        counts=np.array(counts, np.int64),
        rms=np.array(rms, np.float32),
        scores=np.stack(scores),
    )
    partial = base.with_suffix(".partial")
    partial.write_text(json.dumps(names))
    partial.replace(base.with_suffix(".json"))


def load(found: Sequence[Entry], folder: Path) -> list[Piece]:
    """What `prepare` left of these entries; the samples stay on disk until they are used."""
    pieces = []
    for name in dict.fromkeys(entry.folder for entry in found):
        own = {entry.path.name: entry for entry in found if entry.folder == name}
        values = np.load(folder / f"{name}.npz")
        begins, rms, scores = values["begins"], values["rms"], values["scores"]
        actives = np.split(values["active"], np.cumsum(values["counts"])[:-1])
        samples = np.memmap(folder / f"{name}.s16", np.int16, mode="r")
        for i, file in enumerate(json.loads((folder / f"{name}.json").read_text())):
            if file in own:
                part = samples[begins[i] : begins[i + 1]]
                pieces.append(Piece(own[file], part, actives[i], float(rms[i]), scores[i]))
    return pieces


def room_responses(folder: Path) -> list[Samples]:
    """Impulse responses at RATE, direct sound first, energy 1."""
    responses = []
    for path in sorted(folder.glob("*.flac")):
        response = decode(path, RATE)
        response = response[int(np.argmax(np.abs(response))) :][: int(_RESPONSE_S * RATE)]
        responses.append(response / float(np.sqrt(np.square(response).sum())))
    return responses
