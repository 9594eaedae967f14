"""Clips of events, only where they are switched on: FLAC from the ring, and a row that says of what.

A file is written whole before its row says `kept`, and a row says that a clip is gone before its file goes.
So a kill leaves at most files without a row, and those go at the next start.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from streamer.capture.ring import Ring
from streamer.capture.tapes import Tapes
from streamer.config.schema import ClipSettings
from streamer.core.clock import STEP_S
from streamer.core.files import writing
from streamer.core.rate_limit import RateLimit
from streamer.detection.timeline import CELL_S
from streamer.errors import ConfigError, InputError
from streamer.metrics import Metrics
from streamer.model.labels import descendants
from streamer.store import history
from streamer.store.flac import encode
from streamer.store.query import reading
from streamer.store.retention import ClipBounds, KeptClip, clips_to_remove
from streamer.types import Hop, Report, Samples, SoundEvent

log = logging.getLogger(__name__)

FOLDER = "clips"
SPEECH = ("Speech", "Whispering")
"""labels that, with all below them, are voices"""
VOICE = 0.1
"""score of a voice at which a clip is not kept"""
VOICE_S = 120.0
"""how much longer than its audio it is remembered when voices were heard"""
WAITING_MAX = 32
"""clips that wait for their end, or for the disk"""
TURN_S = 0.5
ASK_S = 2.0
"""how often is asked for reports of missed sounds"""
REPORTED_S = 10.0
"""how old a report may be: the audio is in memory, or it is not"""
TEND_S = 600.0
"""how often old clips are looked for"""
STOP_S = 1.0
"""how long a stop waits for clips that can still be written"""
SPARE_S = 3.0
"""of the ring: audio that is as near to be overwritten is taken at once"""
TURN = 200
"""clips that are removed at once"""

T = TypeVar("T")


class Rows(Protocol):
    """Where the rows of events are changed: the event log's writer."""

    async def change(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        """Do it in one transaction; None where the disk refuses."""


@dataclass(slots=True)
class _Job:
    """A clip that is to be cut."""

    id: str
    """of its event, or of the report that a sound was missed"""
    source_id: str
    onset: float
    offset: float | None
    """None while it goes on"""
    ring: Ring
    began: float
    """of the ring's time line, when the event did"""


@dataclass(slots=True)
class _Scored:
    """What the scores of a source say."""

    until: float = float("-inf")
    """all windows that began before have been scored"""
    end: float = float("inf")
    """of the latest window; before the first nothing is known to be skipped"""
    voices: deque[tuple[float, float]] = field(default_factory=deque)
    """spans in which a voice may be"""
    lost: deque[tuple[float, float]] = field(default_factory=deque)
    """windows that had to be scored and were not: a voice may have been in them"""


class Clips:
    """A sink, and a watcher of hops."""

    def __init__(
        self,
        directory: Path,
        settings: ClipSettings,
        tapes: Tapes,
        labels: Sequence[str],
        rows: Rows,
        metrics: Metrics,
        *,
        min_free: int,
    ) -> None:
        """`labels` are the model's, `min_free` bytes stay free on the disk.

        Raises ConfigError where voices are to be dropped and the model cannot hear any.
        """
        self._directory = directory
        self._settings = settings
        self._tapes = tapes
        self._rows = rows
        self._metrics = metrics
        self._bounds = ClipBounds(settings.days, settings.max_mb << 20, settings.per_sound, min_free)
        voices = descendants(SPEECH)
        self._voices = [] if settings.speech == "keep" else [i for i, x in enumerate(labels) if x in voices]
        if settings.speech == "drop" and not self._voices:
            raise ConfigError("clips.speech: the model has no label of speech: set `keep` to have clips")
        self._scored: dict[str, _Scored] = {}
        self._jobs: dict[str, _Job] = {}
        """by the clip's name"""
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="clips")
        self._logged = RateLimit(3600.0)
        self._tended_at = self._asked_at = float("-inf")
        self._reported = set[tuple[str, str, str, float, float]]()
        """the latest reports of missed sounds, which were seen to"""

    def put(self, report: Report) -> None:
        """Take note of an event. Never blocks."""
        if not isinstance(report, SoundEvent):
            return
        if (job := self._jobs.get(report.id)) is not None:
            job.onset, job.offset = report.onset, report.offset
            return
        if report.phase != "start" or (self._settings.sounds and report.sound not in self._settings.sounds):
            return
        ring = self._tapes.ring(report.source_id)
        if ring is None:
            self._metrics.drop("clips")
            return
        self._add(_Job(report.id, report.source_id, report.onset, report.offset, ring, ring.time(0)))

    def _add(self, job: _Job) -> None:
        if len(self._jobs) >= WAITING_MAX:
            self._metrics.drop("clips")
            return
        self._jobs[job.id] = job

    def watch(self, hop: Hop) -> None:
        """Take note of where voices are. Never blocks."""
        scored, sensed = self._scored.setdefault(hop.source_id, _Scored()), hop.sensed
        ring = self._tapes.ring(hop.source_id)
        seen_until = ring.time(0) if hop.is_first and ring is not None else scored.end
        if sensed.audio_start > seen_until + CELL_S:  # the windows between were skipped
            scored.lost.append((seen_until, sensed.audio_start))
        scored.until, scored.end = sensed.start, sensed.end
        remembered_s = VOICE_S + (0.0 if ring is None else ring.seconds)
        for spans in (scored.voices, scored.lost):
            while spans and spans[0][1] < sensed.end - remembered_s:
                spans.popleft()
        scores = hop.scores
        if scores is None:
            if sensed.is_wanted:
                scored.lost.append((sensed.start, sensed.end))
            return
        if not self._voices:
            return
        # Scores are in steps: one that was just above is just below.
        if scores.frames is None:
            if scores.clip[self._voices].max() > VOICE - 0.003:
                scored.voices.append((scores.start, scores.end))
            return
        loud = np.flatnonzero(scores.frames[:, self._voices].max(axis=1) > VOICE - 0.003)
        if loud.size:
            frame_s = scores.frame_s
            scored.voices.append(
                (scores.start + int(loud[0]) * frame_s, scores.start + (int(loud[-1]) + 1) * frame_s)
            )

    async def run(self) -> None:
        """Cut clips until cancelled."""
        try:
            while True:
                try:
                    await self._turn()
                except Exception:  # no reason to end the daemon
                    self._metrics.drop("clips")
                    if self._logged.due("fault"):
                        log.exception("clips: a fault in the program; a clip is not kept")
                await asyncio.sleep(TURN_S)
        finally:
            try:
                await self._finish()
            finally:
                self._thread.shutdown(wait=False, cancel_futures=True)

    async def _finish(self) -> None:
        """Cut what can still be cut: no more audio comes. Where windows have yet to be scored, say so."""
        states = Counter[str]()
        n_jobs = len(self._jobs)
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                while self._jobs:
                    _, job = self._jobs.popitem()
                    states[await self._cut(job)] += 1
        n_left = n_jobs - states.total()
        self._metrics.drop("clips", n_left)
        if n_lost := n_left + states["failed"]:
            log.warning(
                "clips: no clip of %d events: the program ends before all windows that saw them were scored",
                n_lost,
            )

    async def _turn(self) -> None:
        if time.monotonic() - self._asked_at >= ASK_S:
            self._asked_at = time.monotonic()
            await self._take_missed()
        for clip_id in [key for key, job in self._jobs.items() if self._is_due(job)]:
            await self._cut(self._jobs.pop(clip_id))
        if time.monotonic() - self._tended_at >= TEND_S:
            try:
                await self._reconcile()
                await self._make_room(0)
            finally:
                self._tended_at = time.monotonic()

    async def _take_missed(self) -> None:
        """Have clips of what was reported as missed, where the moment is still in memory."""
        found = await self._rows.change(lambda db: history.missed_without_clip(db, time.time() - REPORTED_S))
        new, self._reported = [one for one in found or () if one not in self._reported], set(found or ())
        for clip_id, source_id, sound, onset, offset in new:
            ring = self._tapes.ring(source_id)
            if (
                (not self._settings.sounds or sound in self._settings.sounds)
                and ring is not None
                and ring.time(ring.start) <= onset <= ring.time(ring.end)
            ):
                self._add(_Job(clip_id, source_id, onset, offset, ring, ring.time(0)))

    def _span(self, job: _Job) -> tuple[float, float]:
        """Begin and end of what a clip is to hold."""
        longest = job.onset + self._settings.longest_s
        end = longest if job.offset is None else min(job.offset, longest)
        return job.onset - self._settings.before_s, end + self._settings.after_s

    def _is_due(self, job: _Job) -> bool:
        """All is there, and every window that saw some of it was scored; or no more will come.

        A clip that may hold voices waits for its audio alone, one that holds a voice for nothing.
        """
        start, end = self._span(job)
        now = job.ring.time(job.ring.end)
        is_over = self._tapes.ring(job.source_id) is not job.ring
        if is_over or now - start > job.ring.seconds - SPARE_S:
            return True
        if job.offset is not None and self._has_voice(job.source_id, start, end):
            return True
        is_scored = self._scored.get(job.source_id, _Scored()).until >= end
        return now >= end and (is_scored or self._settings.speech == "keep")

    async def _cut(self, job: _Job) -> str:
        """Write a clip and its row, or the row that says why there is none; returns what it says."""
        start, end = self._span(job)
        state, clip_start, clip_end, size = "failed", None, None, 0
        if self._has_voice(job.source_id, start, end):
            state = "speech"
        elif (
            abs(job.ring.time(0) - job.began) < STEP_S  # the clock was not set meanwhile
            and (self._settings.speech == "keep" or self._is_scored(job.source_id, start, end))
        ):
            start, end = max(start, job.ring.time(job.ring.start)), min(end, job.ring.time(job.ring.end))
            if end > start:
                excerpt = job.ring.between(start, end)
                state, size = await self._write(job.id, excerpt.samples, job.ring.sample_rate, excerpt.start)
                clip_start, clip_end = excerpt.start, excerpt.end
        place = (clip_start, clip_end, size) if state == "kept" else (None, None, 0)
        is_known = await self._rows.change(lambda db: history.set_clip(db, job.id, state, *place))
        if state == "failed" or is_known is None:
            self._metrics.drop("clips")
        if state == "kept" and not is_known and clip_start is not None:
            # The event was deleted meanwhile, or its row cannot be written.
            await self._in_thread(
                lambda: clip_path(self._directory, job.id, clip_start).unlink(missing_ok=True)
            )
        return state

    def _has_voice(self, source_id: str, start: float, end: float) -> bool:
        return any(
            first < end and start < last for first, last in self._scored.get(source_id, _Scored()).voices
        )

    def _is_scored(self, source_id: str, start: float, end: float) -> bool:
        """Whether every window of a span was: else nobody knows whether somebody speaks in it."""
        scored = self._scored.get(source_id, _Scored())
        return scored.until >= end and not any(first < end and start < last for first, last in scored.lost)

    async def _write(self, clip_id: str, samples: Samples, rate: int, start: float) -> tuple[str, int]:
        """The state of the clip, and bytes."""
        try:
            data = await self._in_thread(lambda: encode(samples, rate))
            if not await self._make_room(len(data)):
                if self._logged.due("full"):
                    log.error("%s: no clips are kept: the disk, or `clips.max_mb`, is full", self._directory)
                return "full", 0
            await self._in_thread(lambda: _write_file(clip_path(self._directory, clip_id, start), data))
        except (OSError, ValueError) as error:  # the disk, or a rate that FLAC does not have
            if self._logged.due("failed"):
                log.error("%s: a clip is not kept: %s", self._directory, error)  # noqa: TRY400  # it says all
            return "failed", 0
        return "kept", len(data)

    async def _make_room(self, needed: int) -> bool:
        """Remove what is beyond its bounds, so that so many bytes more are within them. False where not."""
        while True:
            clips = await self._rows.change(history.kept_clips)
            if clips is None:
                return False
            free = await self._in_thread(self._free)
            gone, is_enough = clips_to_remove(
                clips, now=time.time(), free=free, needed=needed, bounds=self._bounds
            )
            if not gone:
                return is_enough
            if not await self._remove(gone[:TURN]):
                return False

    async def _remove(self, clips: Sequence[KeptClip]) -> bool:
        """Rows first, then files. False where the disk refuses."""
        event_ids = [clip.id for clip in clips]
        if await self._rows.change(lambda db: history.expire_clips(db, event_ids)) is None:
            return False
        files = [(clip.id, clip.start) for clip in clips]
        await self._in_thread(lambda: remove_clips(self._directory, files))
        return True

    def _free(self) -> int:
        status = os.statvfs(self._directory)
        return status.f_bavail * status.f_frsize

    async def _reconcile(self) -> None:
        """What a kill or a deletion has left: files without a row go; rows without a file say so."""
        clips = await self._rows.change(history.kept_clips)
        if clips is None:
            return
        known = {clip_path(self._directory, one.id, one.start): one.id for one in clips}
        oldest = await self._rows.change(_oldest_onset)

        def sweep() -> list[str]:
            found, left = set(), 0
            for path in (self._directory / FOLDER).glob("*/*"):
                if path in known:
                    found.add(path)
                elif oldest is None or path.stat().st_mtime < oldest:
                    left += 1  # of a history that was lost: it is not this one's to delete
                else:
                    path.unlink(missing_ok=True)
            if left and self._logged.due("left"):
                log.warning("%s: %d clips are of no event of this history, and stay", self._directory, left)
            return [event_id for path, event_id in known.items() if path not in found]

        with suppress(OSError):
            if missing := await self._in_thread(sweep):
                await self._rows.change(lambda db: history.expire_clips(db, missing))

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.wrap_future(self._thread.submit(call))


def _oldest_onset(db: sqlite3.Connection) -> float | None:
    (onset,) = db.execute("SELECT min(onset) FROM event").fetchone()
    return None if onset is None else float(onset)


def clip_path(directory: Path, clip_id: str, start: float) -> Path:
    """Where a clip is, by the id of its event, or of the missed sound, and the clip's own begin."""
    day = datetime.fromtimestamp(start, UTC).date().isoformat()
    return directory / FOLDER / day / f"{clip_id}.flac"


def kept_clip(directory: Path, clip_id: str) -> tuple[Path, float, float]:
    """The file of a clip, its begin and end. Raises InputError without one."""
    with reading(directory) as reader:
        start, end = reader.clip(clip_id)
    path = clip_path(directory, clip_id, start)
    if path.is_symlink() or not path.is_file():
        raise InputError(f"the clip of {clip_id} is gone")
    return path, start, end


def remove_clips(directory: Path, clips: Sequence[tuple[str, float]]) -> None:
    """Files of events whose rows do not name them any more; (id, start)."""
    for event_id, start in clips:
        path = clip_path(directory, event_id, start)
        with suppress(OSError):
            path.unlink(missing_ok=True)
        with suppress(OSError):  # others are left of that day
            path.parent.rmdir()


def _write_file(path: Path, data: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with writing(path, mode=0o600) as file:
        file.write(data)
