"""Tell in the log, a line for what matters: for a pipe or the journal, where no terminal shows it."""

from __future__ import annotations

import asyncio
import logging

from streamer.types import Report, SoundEvent, SourceState

log = logging.getLogger(__name__)


class LogSink:
    """Events as they begin and end, sources as they come and go. What is heard every hop is not for a log."""

    def put(self, report: Report) -> None:
        match report:
            case SoundEvent(phase="start"):
                log.info(
                    "%s: %s began (score %.2f, %.0f dBFS, latency %.1f s)",
                    report.source_id,
                    report.sound,
                    report.score,
                    report.level_dbfs,
                    report.emitted_at - report.heard_at,
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
            case SourceState():
                level = logging.INFO if report.phase in ("listening", "paused", "ended") else logging.WARNING
                reason = f" ({report.reason})" if report.reason else ""
                log.log(level, "%s: %s%s", report.source_id, report.phase, reason)

    async def run(self) -> None:
        """Everything is told at once; there is nothing to do but to be cancelled."""
        await asyncio.Event().wait()
