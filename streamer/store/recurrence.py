"""Whether sounds that should be heard again and again are overdue, by what the history knows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from streamer.config.schema import Expectation
from streamer.core.json_file import JsonFile
from streamer.core.times import utc
from streamer.errors import StreamerError
from streamer.metrics import Metrics
from streamer.store.query import reading
from streamer.types import Recurrence, Report, SoundEvent

CHECK_S = 60.0
"""between two questions to the history, which is written once a minute, too"""
RETRY_S = 2.0
"""where it could not be asked: at the very first start the event log has yet to make it"""
FILE = "expected.json"
HOUR_S = 3600.0

Key = tuple[str, str]
"""source and sound"""


class RecurrenceWatch:
    """A sink that says of each expected sound whether it is overdue, and at once when it is heard.

    The clock of a sound runs only while its source is listened to.
    """

    def __init__(
        self,
        directory: Path | None,
        expected: Callable[[], Sequence[Expectation]],
        listens_for: Callable[[str, str], bool],
        emit: Callable[[Report], None],
        metrics: Metrics,
    ) -> None:
        """`listens_for` gives whether a sound is switched on at a source."""
        self._directory = directory
        self._expected = expected
        self._listens_for = listens_for
        self._emit = emit
        self._metrics = metrics
        self._since_file = JsonFile(directory, FILE)
        self._since = {
            key: float(at) for key, at in self._since_file.load().items() if isinstance(at, int | float)
        }
        """by source and sound, with a space between: from when on it is expected"""
        self._heard: dict[Key, float] = {}
        """events that the history may not have yet"""

    def put(self, report: Report) -> None:
        """Take note of an event. Never blocks."""
        if not isinstance(report, SoundEvent):
            return
        for one in self._expected():
            key = one.source, one.sound
            if key == (report.source_id, report.sound):
                self._heard[key] = now = time.time()
                if key in self._metrics.overdue:
                    self._report(Recurrence(*key, now, False, now, True, 0.0, one.every_s))

    async def run(self) -> None:
        """Ask the history until cancelled."""
        while True:
            is_done = await self.check(time.time())
            await asyncio.sleep(CHECK_S if is_done else RETRY_S)

    async def check(self, now: float) -> bool:
        """Say of each expected sound whether it is overdue; False where the history cannot be asked."""
        expected = list(self._expected())
        for key in set(self._metrics.unheard_s) - {(one.source, one.sound) for one in expected}:
            del self._metrics.unheard_s[key]
            self._metrics.overdue.pop(key, None)
        self._note_begins(expected, now)
        if not expected or self._directory is None:
            return True
        try:
            found = await asyncio.to_thread(self._ask, self._directory, expected, now)
        except StreamerError:  # there is none yet, or the event log says what is wrong with it
            return False
        for one in found:
            heard = self._heard.get((one.source_id, one.sound))
            if heard is None or heard < now:  # else it is newer than what was read
                self._report(one)
        return True

    def _note_begins(self, expected: Sequence[Expectation], now: float) -> None:
        """A sound is expected from when it was configured, or was switched on again."""
        since = {
            f"{one.source} {one.sound}": self._since.get(f"{one.source} {one.sound}", now)
            for one in expected
            if self._listens_for(one.source, one.sound)
        }
        if since != self._since:
            self._since = since
            self._since_file.save(dict(since))

    def _ask(self, directory: Path, expected: Sequence[Expectation], now: float) -> list[Recurrence]:
        """Raises InputError."""
        found = []
        with reading(directory) as reader:
            for one in expected:
                begin = self._since.get(f"{one.source} {one.sound}")
                heard = reader.last_heard(one.source, one.sound)
                since = max((at for at in (heard, begin) if at is not None), default=now)
                listened_s = reader.listened_s(one.source, since, now)
                is_overdue = begin is not None and listened_s >= one.every_s
                if begin is None:
                    note = "switched off"
                elif not is_overdue and now - since >= one.every_s:
                    hours = f"{listened_s / HOUR_S:.0f} of {(now - since) / HOUR_S:.0f} hours"
                    note = f"listened to for {hours} since then"
                else:
                    note = ""
                was_heard = heard is not None and heard == since
                found.append(
                    Recurrence(
                        one.source,
                        one.sound,
                        now,
                        is_overdue,
                        since,
                        was_heard,
                        listened_s,
                        one.every_s,
                        note,
                    )
                )
        return found

    def _report(self, found: Recurrence) -> None:
        key = found.source_id, found.sound
        self._metrics.unheard_s[key] = found.listened_s
        if found.is_overdue:
            since = utc(found.since)[:16].replace("T", " ")
            self._metrics.overdue[key] = f"no {found.sound} at {found.source_id} since {since} UTC"
        else:
            self._metrics.overdue.pop(key, None)
        self._emit(found)
