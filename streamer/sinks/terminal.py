"""A live view in the terminal: levels and labels of each source, and the latest events."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from streamer.types import SILENCE_DBFS, Hearing, Report, SoundEvent, SourcePhase, SourceState

TICK_S = 0.25
"""seconds between two checks for changes; the view is drawn only where there are some"""
FLOOR_DBFS = -80.0
"""where the level meter begins; a quiet room is not far above"""
KEPT_EVENTS = 100
_TOP_LABELS = 3
_MIN_EVENT_ROWS = 5
_PHASE_STYLES: dict[SourcePhase, str] = {
    SourcePhase.WAITING: "yellow",
    SourcePhase.LISTENING: "green",
    SourcePhase.SILENT: "yellow",
    SourcePhase.STALLED: "red",
    SourcePhase.REOPENING: "red",
    SourcePhase.PAUSED: "dim",
    SourcePhase.ENDED: "dim",
    SourcePhase.FAILED: "bold red",
}


@dataclass(slots=True)
class _Source:
    """What the view shows of a source."""

    phase: SourcePhase = SourcePhase.WAITING
    reason: str = ""
    problem: str = ""
    level_dbfs: float = SILENCE_DBFS
    level_dba: float | None = None
    top: Mapping[str, float] = field(default_factory=dict)


class TerminalSink:
    """A live view at the foot of the terminal; log lines scroll by above it, and it stays when it ends.

    `model` and `destination` are lines for people: what scores, and how to see the events elsewhere;
    `page` is the address of the page, where there is one.
    """

    def __init__(
        self, node: str, model: str, destination: str, *, page: str = "", console: Console | None = None
    ) -> None:
        self._node = node
        self._model = model
        self._destination = destination
        self._page = page
        self._console = console or Console()
        self._sources: dict[str, _Source] = {}
        self._ongoing: dict[str, SoundEvent] = {}
        self._ended: deque[SoundEvent] = deque(maxlen=KEPT_EVENTS)
        self._changed = True

    def put(self, report: Report) -> None:
        """Take a report. It shows at the next tick."""
        self._changed = True
        match report:
            case SoundEvent(phase="end"):
                self._ongoing.pop(report.id, None)
                self._ended.appendleft(report)
            case SoundEvent():
                self._ongoing[report.id] = report
            case SourceState():
                source = self._sources.setdefault(report.source_id, _Source())
                source.phase, source.reason, source.problem = report.phase, report.reason, report.problem
            case Hearing():
                source = self._sources.setdefault(report.source_id, _Source())
                source.level_dbfs, source.level_dba = report.level_dbfs, report.level_dba
                source.top = report.top

    async def run(self) -> None:
        """Draw until cancelled; the last view stays."""
        streams = (sys.stdout, sys.stderr)
        live = Live(console=self._console, auto_refresh=False, vertical_overflow="crop")
        drawn_at = 0.0
        with live, _logging_above(streams):
            try:
                while True:
                    now = time.monotonic()
                    # The length of an open event grows every second.
                    if self._changed or (self._ongoing and now - drawn_at >= 1.0):
                        self._changed = False
                        drawn_at = now
                        live.update(self.render(time.time()), refresh=True)
                    await asyncio.sleep(TICK_S)
            finally:
                live.update(self.render(time.time()), refresh=True)

    def render(self, now: float) -> RenderableType:
        """The view at a moment, not higher than the console."""
        header = self._header()
        # A line is left free for the cursor, three are for the title of the events and the space around it.
        rows = self._console.height - 1 - len(header) - 3 - len(self._sources)
        labels = max(0, min(_TOP_LABELS, (rows - _MIN_EVENT_ROWS) // max(1, len(self._sources))))
        rows -= labels * len(self._sources)
        return Group(
            *header,
            Text(),
            *(self._source(name, source, labels) for name, source in self._sources.items()),
            Text(),
            Text("Events", style="bold"),
            self._events(now, max(1, rows)),
        )

    def _header(self) -> list[Text]:
        lines = [_line(("streamer", "bold"), f"  {self._node}  ", (self._model, "dim"))]
        if self._page:
            lines.append(_line(("page", "bold"), "      ", (self._page, "cyan")))
        return [*lines, _line(("events", "bold"), "    ", (self._destination, "cyan"))]

    def _source(self, name: str, source: _Source, labels: int) -> RenderableType:
        style = _PHASE_STYLES[source.phase]
        state = _line((f"{_cut(name, 14):<14}", "bold"), ("● ", style), f"{source.phase:<10}  ")
        if source.phase not in (SourcePhase.LISTENING, SourcePhase.SILENT):
            return state.append(source.reason, "dim")
        cells = min(60, max(8, self._console.width - 52))
        level_style = "red" if source.level_dbfs > -3 else "yellow" if source.level_dbfs > -12 else "green"
        state.append_text(_bar((source.level_dbfs - FLOOR_DBFS) / -FLOOR_DBFS, cells, level_style))
        if source.level_dba is None:
            state.append(f"  {source.level_dbfs:4.0f} dBFS")
        else:
            state.append(f"  {source.level_dba:3.0f} dB(A)")
        if source.problem:
            state.append(f"  {source.problem}", "red")
        top = [
            _line(f"  {_cut(label, 24):<24}  ", _bar(score, cells, "blue"), f"  {score:.2f}")
            for label, score in list(source.top.items())[:labels]
        ]
        # The view keeps its height, however many labels there are.
        return Group(state, *top, *(Text() for _ in range(labels - len(top))))

    def _events(self, now: float, rows: int) -> RenderableType:
        table = Table.grid(padding=(0, 2), expand=False)
        latest_first = [*reversed(self._ongoing.values()), *self._ended][:rows]
        for event in latest_first:
            over = event.phase == "end" and event.offset is not None
            duration_s = max(0.0, (event.offset if event.offset is not None else now) - event.onset)
            table.add_row(
                Text(" " if over else "●", "green"),
                Text(time.strftime("%H:%M:%S", time.localtime(event.onset)), "dim"),
                Text(event.source_id, no_wrap=True),
                Text(event.sound, "" if over else "bold green", no_wrap=True),
                Text(_duration(duration_s) if over else f"for {_duration(duration_s, 0)}", justify="right"),
                Text(f"peak {event.peak:.2f}", "dim"),
            )
        return table if latest_first else Text("none yet", "dim")


@contextmanager
def _logging_above(before: tuple[object, object]) -> Iterator[None]:
    """Let log lines appear above the view.

    rich puts its own streams in the place of those `before`, but a handler holds on to the one it was given.
    """
    now = dict(zip(before, (sys.stdout, sys.stderr), strict=True))
    lent = [
        (handler, handler.setStream(now[handler.stream]))
        for handler in logging.getLogger().handlers
        if isinstance(handler, logging.StreamHandler) and handler.stream in now
    ]
    try:
        yield
    finally:
        for handler, stream in lent:
            handler.setStream(stream)


def _line(*parts: str | tuple[str, str] | Text) -> Text:
    return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")


def _bar(share: float, cells: int, style: str) -> Text:
    filled = round(cells * min(1.0, max(0.0, share)))
    return Text.assemble(("━" * filled, style), ("─" * (cells - filled), "bright_black"))


def _cut(text: str, cells: int) -> str:
    return text if len(text) <= cells else f"{text[: cells - 1]}…"


def _duration(seconds: float, digits: int = 1) -> str:
    if seconds < 60:
        return f"{seconds:.{digits}f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"
