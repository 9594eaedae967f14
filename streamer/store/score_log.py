"""Keeps what the model scored, window by window, so that other rules can be tried on it later.

One thread of its own takes hops, puts a minute of each source together, and writes it. Detection never waits
for it: what finds no room, in memory or on the disk, is left out, counted, and logged.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from streamer.core.rate_limit import RateLimit
from streamer.core.threads import in_thread
from streamer.metrics import Metrics
from streamer.store.score_files import (
    SEGMENT,
    About,
    about_record,
    append,
    begins_with,
    locked,
    minute_record,
    segment_path,
    segments,
    sources,
)
from streamer.store.score_minutes import PackedHop, encode_minute, goes_on, pack
from streamer.types import Hop

log = logging.getLogger(__name__)

HOPS = 60
"""of a minute"""
MINUTE_S = 60.0
"""after so long a minute is written, however many hops it has"""
WAITING_MAX = 100
"""hops that wait for the thread: 0.13 MB each"""
TEND_S = 600.0
"""how often old files are looked for"""
STOP_S = 2.0
"""how long a stop waits for the disk"""


@dataclass(frozen=True, slots=True)
class KeepScores:
    """How long scores are kept."""

    days: float = 30.0
    size: int = 1 << 30
    """bytes of a source; its oldest go first"""
    min_free: int = 512 << 20
    """bytes that stay free on the disk: where there is less, nothing is written"""


@dataclass(slots=True)
class _Source:
    """What is not written yet."""

    hops: list[PackedHop] = field(default_factory=list)
    began_at: float = 0.0
    """monotonic, of the first of them"""
    before: PackedHop | None = None
    """the last one that was written"""
    path: Path | None = None


class ScoreLog:
    """Writes while it runs; `put` may be called from any thread."""

    def __init__(
        self, directory: Path, about: About, metrics: Metrics, keep: KeepScores = KeepScores()
    ) -> None:
        self._directory = directory
        self._record = about_record(about)
        self._metrics = metrics
        self._keep = keep
        self._waiting: queue.Queue[Hop | None] = queue.Queue(WAITING_MAX)
        self._sources: dict[str, _Source] = {}
        self._logged = RateLimit()
        self._is_refused = False
        self._tended_at = float("-inf")
        self._thread = threading.Thread(target=self._run, name="score log", daemon=True)
        self._thread.start()

    def put(self, hop: Hop) -> None:
        """Take a hop. Never blocks."""
        try:
            self._waiting.put_nowait(hop)
        except queue.Full:
            self._lose(1, "the disk does not answer")

    async def close(self) -> None:
        """Write what there is, for at most STOP_S."""
        with suppress(queue.Full):
            self._waiting.put_nowait(None)
        with suppress(TimeoutError):
            await in_thread(self._thread.join, "end of the score log", STOP_S)

    def _run(self) -> None:
        while True:
            try:
                hop = self._waiting.get(timeout=MINUTE_S)
            except queue.Empty:
                hop = None
            else:
                if hop is None:
                    break
            try:
                self._turn(hop)
            except Exception:
                if self._logged.due("fault"):
                    log.exception("score log: a fault in the program; it goes on")
        for source in self._sources.values():
            self._write(source)

    def _turn(self, hop: Hop | None) -> None:
        if hop is not None:
            self._take(hop)
        now = time.monotonic()
        for source in self._sources.values():
            if source.hops and now - source.began_at > MINUTE_S:
                self._write(source)
        if now - self._tended_at >= TEND_S:
            self._tended_at = now
            self._expire()

    def _take(self, hop: Hop) -> None:
        source = self._sources.setdefault(hop.source_id, _Source())
        taken = pack(hop)
        if source.hops and not goes_on(source.hops[-1], taken):
            self._write(source)
        if not source.hops:
            source.began_at = time.monotonic()
        source.hops.append(taken)
        if len(source.hops) >= HOPS:
            self._write(source)

    def _write(self, source: _Source) -> None:
        hops, source.hops = source.hops, []
        if not hops:
            return
        before, source.before = source.before, hops[-1]
        first = hops[0].hop
        follows = before.hop.sensed.end if before is not None and goes_on(before, hops[0]) else None
        record = minute_record(encode_minute(hops, follows))
        try:
            self._check_room()
            with locked(self._directory):
                self._append(source, first.source_id, first.sensed.since, record)
        except OSError as error:
            source.path = None
            self._lose(len(hops), str(error.strerror))
            return
        if self._is_refused:
            log.info("the score log is written again")
            self._is_refused = False
            self._logged.forget("lost")

    def _check_room(self) -> None:
        """Raises OSError where too little is free."""
        status = os.statvfs(self._directory)
        if status.f_bavail * status.f_frsize < self._keep.min_free:
            raise OSError(0, f"less than {self._keep.min_free >> 20} MiB are free on the disk")

    def _append(self, source: _Source, source_id: str, start: float, record: bytes) -> None:
        path = source.path
        if path is None or not path.exists():  # at the start, and after a `forget`
            newest = segments(self._directory, source_id)[-1:]
            path = newest[0] if newest and begins_with(newest[0], self._record) else None
        if path is None or path.stat().st_size >= min(SEGMENT, self._keep.size // 8):
            path = segment_path(self._directory, source_id, start)
            while path.exists():
                path = path.with_name(f"{path.stem}~{path.suffix}")
        append(path, record if path.exists() else self._record + record)
        source.path = path
        self._shorten(source_id)

    def _shorten(self, source_id: str) -> None:
        """Remove the oldest files of a source while it is beyond its bound; the newest stays."""
        paths = segments(self._directory, source_id)
        size = sum(path.stat().st_size for path in paths)
        for path in paths[:-1]:
            if size <= self._keep.size:
                break
            size -= path.stat().st_size
            path.unlink()

    def _expire(self) -> None:
        """Remove what is too old, also of sources that are not configured any more."""
        before = time.time() - self._keep.days * 86400.0
        try:
            for source_id in sources(self._directory):
                for path in segments(self._directory, source_id):
                    if path.stat().st_mtime < before:
                        path.unlink()
        except OSError as error:
            if self._logged.due("old"):
                log.warning("score log: old files cannot be removed: %s", error.strerror)

    def _lose(self, n: int, why: str) -> None:
        self._metrics.drop("scores", n)
        self._is_refused = True
        if self._logged.due("lost"):
            log.error("%s: scores are not kept (%s): replay will not know of this time", self._directory, why)
