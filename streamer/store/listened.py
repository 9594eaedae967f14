"""How long each source was listened to, by quarters of an hour: of these, hours of any zone can be made."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import defaultdict

from streamer.store.layouts import QUARTER_S
from streamer.store.writer import Writer
from streamer.types import Hearing, Report

FLUSH_S = 60.0
"""so much may be missing after a crash"""
LONGEST_S = 10.0
"""between two hops; what is longer was not listened to"""


class Listened:
    """A sink that counts seconds, and writes them to the history once a minute."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._latest: dict[str, float] = {}
        """end of the latest hop, by source"""
        self._seconds: defaultdict[tuple[int, str], float] = defaultdict(float)
        """not written yet"""

    def put(self, report: Report) -> None:
        """Take note of a hop. Never blocks."""
        if not isinstance(report, Hearing):
            return
        before = self._latest.get(report.source_id, float("-inf"))
        self._latest[report.source_id] = report.at
        if 0 < report.at - before <= LONGEST_S:
            self._seconds[int(before // QUARTER_S), report.source_id] += report.at - before

    async def run(self) -> None:
        """Write until cancelled, and what is left then, too."""
        try:
            while True:
                await asyncio.sleep(FLUSH_S)
                await self._flush()
        finally:
            await self._flush()

    async def _flush(self) -> None:
        seconds = dict(self._seconds)
        n_rows: int | None = await self._writer.change(lambda db: add_listened(db, seconds))
        if n_rows is not None:
            for key, written in seconds.items():
                self._seconds[key] -= written
                if self._seconds[key] <= 0:
                    del self._seconds[key]


def add_listened(db: sqlite3.Connection, seconds: dict[tuple[int, str], float]) -> int:
    """More seconds, by quarter since the Unix epoch and source; returns how many rows changed."""
    return db.executemany(
        "INSERT INTO listened VALUES (?, ?, ?) "
        "ON CONFLICT (quarter, source) DO UPDATE SET seconds = seconds + excluded.seconds",
        ((quarter, source, n) for (quarter, source), n in seconds.items()),
    ).rowcount
