"""The files of the score log: `scores/SOURCE/TIME.scores`, records one after the other, each with a checksum.

What is old goes by whole files; what is damaged, or was not written to its end, costs its own minute alone.
Nothing is changed in place, and nothing is synced: a power cut may take the newest minutes.
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from streamer.core.files import writing
from streamer.detection.timeline import CELL_S, Timeline
from streamer.errors import StreamerError
from streamer.store.score_minutes import UNREADABLE, Minute, decode_minute
from streamer.types import Samples

FOLDER = "scores"
SUFFIX = ".scores"
LAYOUT = 1
SEGMENT = 8 << 20
"""bytes, after which another file is begun: they go as a whole"""
REACH_S = 120.0
"""a minute may begin so long before its end"""

_RECORD = struct.Struct(">2sBII")
"""magic, kind, length of what follows, CRC-32 of it"""
_MAGIC = b"\x93S"
_ABOUT, _MINUTE = 1, 2


@dataclass(frozen=True, slots=True)
class About:
    """What all minutes of a file have in common, up to the next one of these."""

    model: str
    """its name"""
    labels: tuple[str, ...]
    window_s: float
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    """of the model and of each label that was taught, where they are known: names are given anew"""


def about_record(about: About) -> bytes:
    values = {
        "layout": LAYOUT,
        "model": about.model,
        "window_s": about.window_s,
        "labels": about.labels,
        "fingerprints": dict(sorted(about.fingerprints.items())),
    }
    return _record(_ABOUT, zlib.compress(json.dumps(values, ensure_ascii=False).encode(), 9))


def minute_record(minute: bytes) -> bytes:
    return _record(_MINUTE, minute)


def segments(directory: Path, source: str) -> list[Path]:
    """The files of a source, oldest first."""
    return sorted((directory / FOLDER / source).glob(f"*{SUFFIX}"))


def segment_path(directory: Path, source: str, start: float) -> Path:
    """The file that begins at a time."""
    name = datetime.fromtimestamp(start, UTC).strftime("%Y%m%dT%H%M%SZ")
    return directory / FOLDER / source / f"{name}{SUFFIX}"


def sources(directory: Path) -> list[str]:
    """Those that there are scores of."""
    with suppress(OSError):
        return sorted(path.name for path in (directory / FOLDER).iterdir() if path.is_dir())
    return []


def sizes(directory: Path) -> dict[str, int]:
    """Bytes, by source."""
    found: dict[str, int] = {}
    for source in sources(directory):
        with suppress(OSError):  # a file that goes meanwhile
            found[source] = sum(path.stat().st_size for path in segments(directory, source))
    return found


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Alone among those who write or remove in the block. Raises OSError."""
    folder = directory / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def append(path: Path, records: bytes) -> None:
    """All of it or nothing. Raises OSError."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        before = os.fstat(descriptor).st_size
        left = memoryview(records)
        try:
            while left:
                left = left[os.write(descriptor, left) :]
        except OSError:
            with suppress(OSError):
                os.ftruncate(descriptor, before)
            raise
    finally:
        os.close(descriptor)


def begins_with(path: Path, record: bytes) -> bool:
    """Whether a file, if it is there, was begun by such a record."""
    try:
        with path.open("rb") as file:
            return file.read(len(record)) == record
    except OSError:
        return False


def minutes(directory: Path, source: str, since: float, until: float) -> Iterator[tuple[About, Minute]]:
    """The minutes of a source that reach into a span of time, in the order in which they were written.

    What is damaged, or of another layout, is left out.
    """
    paths = segments(directory, source)
    starts = [path.name for path in paths]
    first, last = (segment_path(directory, source, at).name for at in (since, until))
    for number, path in enumerate(paths):
        is_over = number + 1 < len(paths) and starts[number + 1] < first
        # A clock that was set back leaves files that go on beyond the next one's begin: read one more.
        is_next = number + 2 < len(paths) and starts[number + 2] < first
        if (is_over and is_next) or starts[number] > last:
            continue
        for about, minute in read_segment(path, source):
            if minute.end > since and minute.start < until:
                yield about, minute


def read_segment(path: Path, source: str) -> Iterator[tuple[About, Minute]]:
    """The whole minutes of a file. One that is gone meanwhile has none."""
    about: About | None = None
    for kind, body, _ in _records(path):
        with suppress(*UNREADABLE):
            if kind == _ABOUT:
                about = _about(body)
            elif kind == _MINUTE and about is not None:
                yield about, decode_minute(body, source, about.labels, about.window_s)


def forget_scores(directory: Path, *, since: float | None = None, source: str | None = None) -> float:
    """Delete what was scored since then; returns how many seconds that was.

    What the daemon has not written yet, up to a minute, stays. Raises StreamerError.
    """
    if not (directory / FOLDER).is_dir():
        return 0.0
    seconds = 0.0
    try:
        with locked(directory):
            for one in sources(directory) if source is None else [source]:
                for path in segments(directory, one):
                    seconds += _forget_in(path, one, float("-inf") if since is None else since)
                with suppress(OSError):  # some are left
                    (directory / FOLDER / one).rmdir()
    except OSError as error:
        raise StreamerError(f"{directory / FOLDER}: not all scores were deleted: {error.strerror}") from None
    return seconds


def scores_between(
    directory: Path, source: str, start: float, end: float, labels: tuple[str, ...]
) -> tuple[Samples, Samples]:
    """The scores of some labels over a span of time, as the detector saw them: means over all windows.

    Returns (n,) seconds from `start` on, 0.04 s apart, and (n, n_labels); a moment that no window has scored
    is not a number. Unknown labels score 0.
    """
    n = max(0, round((end - start) / CELL_S))
    times = (np.arange(n) * CELL_S).astype(np.float32)
    timeline = Timeline(len(labels), start, (end - start) + CELL_S)
    known = np.zeros(n, bool)
    for about, minute in minutes(directory, source, start - REACH_S, end + REACH_S):
        columns = [about.labels.index(one) if one in about.labels else -1 for one in labels]
        with suppress(*UNREADABLE):
            for hop in minute.hops():
                scores = hop.scores
                if scores is None or scores.frames is None or scores.end <= start or scores.start >= end:
                    continue
                picked = np.pad(scores.frames, ((0, 0), (0, 1)))[:, columns]
                keep = slice(0, max(1, round((min(end, scores.end) - scores.start) / scores.frame_s)))
                timeline.add(picked[keep], scores.start, min(end, scores.end), scores.frame_s)
                first = max(0, timeline.cell(scores.start))
                known[first : timeline.cell(min(end, scores.end))] = True
    values: Samples = np.full((n, len(labels)), np.nan, np.float32)
    with np.errstate(invalid="ignore"):
        means = timeline.means()[:n]
    values[: len(means)] = means
    values[~known] = np.nan
    return times, values


def _forget_in(path: Path, source: str, since: float) -> float:
    kept, seconds, n_kept = bytearray(), 0.0, 0
    about: About | None = None
    for kind, body, record in _records(path):
        if kind == _ABOUT:
            with suppress(*UNREADABLE):
                about = _about(body)
            kept += record
            continue
        with suppress(*UNREADABLE):
            if about is not None:
                minute = decode_minute(body, source, about.labels, about.window_s)
                if minute.end <= since:
                    kept += record
                    n_kept += 1
                else:
                    seconds += minute.end - minute.start
    if not n_kept:
        path.unlink(missing_ok=True)
    elif seconds:
        with writing(path, mode=0o600) as file:
            file.write(kept)
    return seconds


def _about(body: bytes) -> About:
    values = json.loads(zlib.decompress(body))
    if values["layout"] != LAYOUT:
        raise ValueError(values["layout"])
    fingerprints = {str(name): str(one) for name, one in values.get("fingerprints", {}).items()}
    labels = tuple(map(str, values["labels"]))
    return About(str(values["model"]), labels, float(values["window_s"]), fingerprints)


def _record(kind: int, body: bytes) -> bytes:
    return _RECORD.pack(_MAGIC, kind, len(body), zlib.crc32(body)) + body


def _records(path: Path) -> Iterator[tuple[int, bytes, bytes]]:
    """Kind, body and the whole record of each that is whole; after damage, from the next mark on."""
    try:
        data = path.read_bytes()
    except OSError:
        return
    at = 0
    while (at := data.find(_MAGIC, at)) >= 0 and at + _RECORD.size <= len(data):
        _, kind, length, crc = _RECORD.unpack_from(data, at)
        end = at + _RECORD.size + length
        body = data[at + _RECORD.size : end]
        if len(body) == length and zlib.crc32(body) == crc:
            yield kind, body, data[at:end]
            at = end
        else:
            at += 1
