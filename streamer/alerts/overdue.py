"""Alerts of sounds that should have been heard again, once for each time that one is overdue.

They are a state and no event: a target that does not take one is tried again, as what leads to it is said
anew each minute, for as long as the sound is overdue.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from streamer.alerts.rules import is_quiet
from streamer.alerts.sender import Sender
from streamer.alerts.targets import Alert
from streamer.config.schema import AlertSettings
from streamer.core.json_file import JsonFile
from streamer.language import Names
from streamer.types import Recurrence

FILE = "overdue_alerts.json"


class OverdueAlerts:
    """Sends to all targets what each was not sent yet, also after a restart."""

    def __init__(
        self,
        settings: AlertSettings,
        senders: Sequence[Sender],
        names: Callable[[], Names],
        zone: ZoneInfo,
        directory: Path | None,
    ) -> None:
        """`zone` is that of the quiet hours."""
        self._settings = settings
        self._senders = senders
        self._names = names
        self._zone = zone
        self._file = JsonFile(directory, FILE)
        self._sent = self._file.load()
        """by target, source and sound, with spaces between: since when it had not been heard"""
        self._waiting: dict[tuple[str, str], Recurrence] = {}
        """the latest of each source and sound"""
        self._wake = asyncio.Event()

    def put(self, found: Recurrence) -> None:
        """Never blocks."""
        self._waiting[found.source_id, found.sound] = found
        self._wake.set()

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            found, self._waiting = list(self._waiting.values()), {}
            for one in found:
                await asyncio.gather(*(self._send(one, sender) for sender in self._senders))

    async def _send(self, one: Recurrence, sender: Sender) -> None:
        key = f"{sender.target} {one.source_id} {one.sound}"
        if not one.is_overdue:
            if self._sent.pop(key, None) is not None:
                self._file.save(self._sent)
            return
        is_due = self._is_wanted(one) and self._sent.get(key) != one.since
        if is_due and await sender.send(lambda: self._alert(one)):
            self._sent[key] = one.since
            self._file.save(self._sent)

    def _is_wanted(self, one: Recurrence) -> bool:
        """Later, where hours are quiet now."""
        own = self._settings.sounds.get(one.sound)
        if not self._settings.overdue or (own is not None and not own.send):
            return False
        is_any_time = own is not None and own.in_quiet_hours
        return is_any_time or not is_quiet(self._settings.quiet_hours, one.at, self._zone)

    def _alert(self, one: Recurrence) -> Alert:
        names = self._names()
        since = datetime.fromtimestamp(one.since, self._zone)
        lines = [names.text("not_heard_since").format(time=f"{since:%Y-%m-%d %H:%M}")]
        if self._settings.page_url is not None:
            lines.append(f"{self._settings.page_url.rstrip('/')}/#/health")
        return Alert(f"{names.text('overdue', one.sound)} · {names.source(one.source_id)}", "\n".join(lines))
