"""A minute of one source's hops as bytes and back: scores and levels in steps, compressed. Pure.

What is sensed and what is scored are compressed apart, and the highest score of each label stands before
both: whoever asks for a sound need not unpack the minutes in which it cannot have been.
"""

from __future__ import annotations

import bz2
import json
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from streamer.detection.steps import Steps, level_steps_of, levels_of, scores_of, steps_of
from streamer.detection.timeline import CELL_S
from streamer.store.codec import NOT_AS_WRITTEN
from streamer.types import SILENCE_DBFS, Beeps, Hop, Samples, Scores, Sensed

UNREADABLE = (*NOT_AS_WRITTEN, EOFError, OSError, struct.error, zlib.error)
"""what comes of decoding bytes that a disk has changed"""

_HEAD = struct.Struct("<BddddfffHHHHII")
_FIRST, _FRAMES, _NO_TIMELINE = 1, 2, 4
_WANTED, _SCORED, _SILENT = 1, 2, 4
_NO_LEVEL = -32768

Bits: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Minute:
    """Hops of one source in a row, of one stretch of listening, without a break in time."""

    source: str
    labels: tuple[str, ...]
    is_first: bool
    """it begins a stretch of listening"""
    follows: float | None
    """end of the hop before it, where it goes on from there; None where time breaks off"""
    start: float
    """begin of the audio that is new in it"""
    end: float
    origin: float | None
    """as in its last `Hop`"""
    hop_s: float
    window_s: float
    above_db: float
    """the loudest above the background"""
    ids: npt.NDArray[np.uint16]
    """columns of the labels that have a score in it; all others are 0"""
    peaks: Steps
    """the highest score of each of them"""
    n_hops: int
    n_scored: int
    """of them"""
    sensed: bytes
    scored: bytes
    has_frames: bool
    frame_s: float
    n_frames: int

    def peaks_by_label(self) -> Steps:
        """(n_labels,) the highest score of each label, in steps."""
        peaks = np.zeros(len(self.labels), np.uint8)
        peaks[self.ids] = self.peaks
        return peaks

    def hops(self) -> Iterator[Hop]:
        """In order. Raises one of UNREADABLE."""
        sensed, is_scored = _unpack_sensed(zlib.decompress(self.sensed), self)
        shape = (len(self.ids), sum(is_scored), self.n_frames)
        steps = np.frombuffer(bz2.decompress(self.scored), np.uint8).reshape(shape)
        values = iter(scores_of(np.ascontiguousarray(steps.transpose(1, 2, 0))))
        for number, (one, has_scores) in enumerate(zip(sensed, is_scored, strict=True)):
            scores = self._scores(one, next(values)) if has_scores else None
            yield Hop(self.source, one, scores, self.origin, self.hop_s, self.is_first and number == 0)

    def _scores(self, sensed: Sensed, values: Samples) -> Scores:
        frames: Samples = np.zeros((self.n_frames, len(self.labels)), np.float32)
        frames[:, self.ids] = values
        clip: Samples = np.zeros(len(self.labels), np.float32)
        clip[self.ids] = values.max(axis=0)
        return Scores(
            source_id=self.source,
            index=sensed.index,
            start=sensed.start,
            end=sensed.end,
            clip=clip,
            frames=frames if self.has_frames else None,
            frame_s=self.frame_s,
        )


@dataclass(frozen=True, slots=True, eq=False)
class PackedHop:
    """A hop on its way into a minute: what is small of it."""

    hop: Hop
    """without scores"""
    ids: npt.NDArray[np.intp]
    steps: Steps | None
    """(n_frames, n_ids), or (1, n_ids) of a clip-level score"""
    has_frames: bool = False
    frame_s: float = 0.0


def pack(hop: Hop) -> PackedHop:
    """What is to be kept of a hop, a tenth of a millisecond's work; most of a quiet room is nothing."""
    scores, bare = hop.scores, replace(hop, scores=None)
    if scores is None:
        return PackedHop(bare, np.zeros(0, np.intp), None)
    steps = steps_of(scores.clip[None] if scores.frames is None else scores.frames)
    ids = np.flatnonzero(steps.any(axis=0))
    return PackedHop(bare, ids, steps[:, ids], scores.frames is not None, scores.frame_s)


def goes_on(before: PackedHop, after: PackedHop) -> bool:
    """Whether two hops may be in one minute: one stretch of listening and one timeline."""
    first, second = before.hop, after.hop
    is_one_time = (
        first.sensed.end < second.sensed.end and second.sensed.audio_start <= first.sensed.end + CELL_S
    )
    is_one_shape = (
        before.steps is None
        or after.steps is None
        or (before.steps.shape[0], before.has_frames) == (after.steps.shape[0], after.has_frames)
    )
    return is_one_time and is_one_shape and not second.is_first


def encode_minute(packed: Sequence[PackedHop], follows: float | None) -> bytes:
    """The hops of a minute, where `goes_on` holds for each two of them; `follows` as `Minute` has it."""
    hops = [one.hop for one in packed]
    scored = [one for one in packed if one.steps is not None]
    ids = np.unique(np.concatenate([one.ids for one in packed])).astype(np.uint16)
    shape = next(iter(scored), None)
    n_frames = 0 if shape is None or shape.steps is None else shape.steps.shape[0]
    steps = np.zeros((len(ids), len(scored), n_frames), np.uint8)
    for number, one in enumerate(scored):
        if one.steps is not None:
            steps[np.searchsorted(ids, one.ids), number] = one.steps.T
    is_scored = [one.steps is not None for one in packed]
    sensed = zlib.compress(_pack_sensed([hop.sensed for hop in hops], is_scored))
    scores = bz2.compress(steps.tobytes())  # a fifth smaller than zlib makes it
    first, last = hops[0], hops[-1]
    flags = (
        (_FIRST if first.is_first else 0)
        | (_FRAMES if shape is not None and shape.has_frames else 0)
        | (_NO_TIMELINE if last.origin is None else 0)
    )
    above_db = max(float(hop.sensed.levels[:, 1].max(initial=0.0)) for hop in hops)
    head = _HEAD.pack(
        flags,
        float("nan") if follows is None else follows,
        first.sensed.since,
        last.sensed.end,
        last.origin or 0.0,
        first.hop_s,
        above_db,
        0.0 if shape is None else shape.frame_s,
        len(hops),
        len(scored),
        n_frames,
        len(ids),
        len(sensed),
        len(scores),
    )
    peaks = steps.max(axis=(1, 2), initial=0).astype(np.uint8)
    return b"".join((head, ids.astype("<u2").tobytes(), peaks.tobytes(), sensed, scores))


def decode_minute(data: bytes, source: str, labels: tuple[str, ...], window_s: float) -> Minute:
    """Raises one of UNREADABLE."""
    flags, *numbers, n_hops, n_scored, n_frames, n_ids, sensed_size, scored_size = _HEAD.unpack_from(data)
    follows, start, end, origin, hop_s, above_db, frame_s = numbers
    at = _HEAD.size
    ids = np.frombuffer(data, "<u2", n_ids, at)
    peaks = np.frombuffer(data, np.uint8, n_ids, at + 2 * n_ids)
    at += 3 * n_ids
    if len(data) != at + sensed_size + scored_size or (n_ids and int(ids.max()) >= len(labels)):
        raise ValueError("a minute of another length")
    return Minute(
        source=source,
        labels=labels,
        is_first=bool(flags & _FIRST),
        follows=None if follows != follows else follows,  # noqa: PLR0124  # not a number
        start=start,
        end=end,
        origin=None if flags & _NO_TIMELINE else origin,
        hop_s=round(hop_s, 6),
        window_s=window_s,
        above_db=above_db,
        ids=ids,
        peaks=peaks,
        n_hops=n_hops,
        n_scored=n_scored,
        sensed=data[at : at + sensed_size],
        scored=data[at + sensed_size :],
        has_frames=bool(flags & _FRAMES),
        frame_s=round(frame_s, 6),
        n_frames=n_frames,
    )


# Neighbours differ by little: times and levels are kept as differences, and the bytes of equal weight lie
# together, since all but the lowest are mostly equal then.


def _pack_sensed(sensed: Sequence[Sensed], is_scored: Sequence[bool]) -> bytes:
    starts, ends, audio_starts, sinces = (
        np.array([getattr(one, name) for one in sensed], np.float64).view(np.int64)
        for name in ("start", "end", "audio_start", "since")
    )
    before = np.concatenate((ends[:1], ends[:-1]))
    rows = np.concatenate([level_steps_of(one.levels) for one in sensed])
    newest = np.array([_level_step(one.level_dbfs) for one in sensed], np.int16)
    weighted = np.array([_level_step(one.level_dba) for one in sensed], np.int16)
    flags = [
        (_WANTED if one.is_wanted else 0) | (_SCORED if has_scores else 0) | (_SILENT if one.is_silent else 0)
        for one, has_scores in zip(sensed, is_scored, strict=True)
    ]
    rare = {
        "beeps": [
            [number, beeps.cadence, beeps.begin, beeps.end]
            for number, one in enumerate(sensed)
            for beeps in one.beeps
        ],
        "problems": [
            [0 if number == 0 else number, one.problem]
            for number, one in enumerate(sensed)
            if one.problem != ("" if number == 0 else sensed[number - 1].problem)
        ],
    }
    text = json.dumps({key: value for key, value in rare.items() if value}, ensure_ascii=False).encode()
    parts = (
        _planes(np.diff(starts, prepend=0)),
        _planes(np.diff(ends, prepend=0)),
        _planes(audio_starts - starts),
        _planes(sinces - before),
        _planes(np.diff(np.array([one.index for one in sensed], np.int64), prepend=0)),
        bytes(flags),
        np.array([len(one.levels) for one in sensed], "<u2").tobytes(),
        _planes(np.diff(newest, prepend=np.int16(0))),
        _planes(np.diff(weighted, prepend=np.int16(0))),
        *(_planes(np.diff(rows[:, column], prepend=np.int16(0))) for column in range(2)),
        text,
    )
    return b"".join(parts)


def _unpack_sensed(data: bytes, minute: Minute) -> tuple[list[Sensed], list[bool]]:
    n = minute.n_hops
    reader = _Reader(data)
    starts = np.cumsum(reader.planes(n, np.int64))
    ends = np.cumsum(reader.planes(n, np.int64))
    audio_starts = reader.planes(n, np.int64) + starts
    sinces = reader.planes(n, np.int64) + np.concatenate((ends[:1], ends[:-1]))
    indexes = np.cumsum(reader.planes(n, np.int64))
    flags = reader.take(n)
    counts = np.frombuffer(reader.take(2 * n), "<u2").astype(int)
    newest = np.cumsum(reader.planes(n, np.int16), dtype=np.int16)
    weighted = np.cumsum(reader.planes(n, np.int16), dtype=np.int16)
    n_rows = int(counts.sum())
    columns = [np.cumsum(reader.planes(n_rows, np.int16), dtype=np.int16) for _ in range(2)]
    levels = levels_of(np.stack(columns, axis=1))
    rare: dict[str, Any] = json.loads(reader.rest())
    beeps: dict[int, list[Beeps]] = {}
    for number, cadence, begin, end in rare.get("beeps", []):
        beeps.setdefault(int(number), []).append(Beeps(str(cadence), float(begin), float(end)))
    problems = {int(number): str(text) for number, text in rare.get("problems", [])}
    times = [bits.view(np.float64).tolist() for bits in (starts, ends, audio_starts, sinces)]
    sensed, problem = list[Sensed](), ""
    bounds = np.concatenate(([0], np.cumsum(counts))).tolist()
    for number, (first, last) in enumerate(pairwise(bounds)):
        problem = problems.get(number, problem)
        sensed.append(
            Sensed(
                index=int(indexes[number]),
                start=times[0][number],
                end=times[1][number],
                audio_start=times[2][number],
                since=times[3][number],
                levels=levels[first:last],
                is_wanted=bool(flags[number] & _WANTED),
                beeps=tuple(beeps.get(number, ())),
                level_dbfs=_level(int(newest[number]), SILENCE_DBFS),
                level_dba=_level(int(weighted[number]), None),
                problem=problem,
                is_silent=bool(flags[number] & _SILENT),
            )
        )
    return sensed, [bool(flag & _SCORED) for flag in flags]


def _level_step(level: float | None) -> int:
    return _NO_LEVEL if level is None else int(level_steps_of(np.array(level)))


def _level(step: int, otherwise: Any) -> Any:
    return otherwise if step == _NO_LEVEL else round(step * 0.1, 1)


def _planes(values: npt.NDArray[Any]) -> bytes:
    """The lowest bytes of all values, then the next ones, and so on."""
    little = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<")))
    return bytes(little.view(np.uint8).reshape(len(values), -1).T.tobytes())


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, n: int) -> bytes:
        found = self._data[self._at : self._at + n]
        if len(found) != n:
            raise ValueError("a minute that ends too early")
        self._at += n
        return found

    def planes(self, n: int, kind: type[np.signedinteger[Any]]) -> npt.NDArray[Any]:
        size = np.dtype(kind).itemsize
        by_weight = np.frombuffer(self.take(n * size), np.uint8).reshape(size, n)
        return (
            np.ascontiguousarray(by_weight.T).reshape(-1).view(np.dtype(kind).newbyteorder("<")).astype(kind)
        )

    def rest(self) -> bytes:
        return self._data[self._at :]
