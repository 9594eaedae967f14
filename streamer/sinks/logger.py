"""Logs events and states, one line each: for a pipe or the journal."""

from __future__ import annotations

import asyncio
import logging

from streamer.types import Recurrence, Report, SoundEvent, SourceState

log = logging.getLogger(__name__)


class LogSink:
    """Logs the start and the end of events and the states of sources; levels of every hop are left out."""

    def __init__(self) -> None:
        self._logged: dict[str, tuple[str, str]] = {}
        """by source, the state that was logged last"""
        self._overdue: set[tuple[str, str]] = set()

    def put(self, report: Report) -> None:
        match report:
            case SoundEvent(phase="start"):
                log.info(
                    "%s: %s began (score %.2f, %.0f dBFS, latency %.1f s)",
                    report.source_id,
                    report.sound,
                    report.score,
                    report.level_dbfs,
                    max(0.0, report.emitted_at - report.heard_at),
                )
            case SoundEvent(phase="end", offset=float(offset)):
                log.info(
                    "%s: %s ended after %.1f s (peak %.2f, %.0f dBFS)",
                    report.source_id,
                    report.sound,
                    offset - report.onset,
                    report.peak,
                    report.level_dbfs,
                )
            case Recurrence():
                self._put_recurrence(report)
            case SourceState() if (report.phase, report.reason) != self._logged.get(report.source_id):
                self._logged[report.source_id] = report.phase, report.reason
                level = logging.INFO if report.phase in ("listening", "paused", "ended") else logging.WARNING
                reason = f" ({report.reason})" if report.reason else ""
                log.log(level, "%s: %s%s", report.source_id, report.phase, reason)

    def _put_recurrence(self, found: Recurrence) -> None:
        key = found.source_id, found.sound
        if found.is_overdue and key not in self._overdue:
            self._overdue.add(key)
            log.warning("%s: %s is overdue: not heard in %.0f h of listening", *key, found.listened_s / 3600)
        elif not found.is_overdue and key in self._overdue:
            self._overdue.remove(key)
            log.info("%s: %s is not overdue any more", *key)

    async def run(self) -> None:
        """Everything is logged at once; nothing is left to do until cancelled."""
        await asyncio.Event().wait()
