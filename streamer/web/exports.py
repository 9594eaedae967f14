"""Routes by which events become a file: a table, lines of JSON, a label track for Audacity."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable

from starlette.requests import Request
from starlette.responses import Response

from streamer.store.query import Event, reading
from streamer.web.event_fields import event_fields
from streamer.web.guard import ScopedRoute
from streamer.web.parts import Parts
from streamer.web.request import answered, cell, directory_of, filter_of

EXPORT_MAX = 100_000
"""events of one file"""
EXPORT_S = 60.0
"""a disk that takes longer is answered with 503"""
COLUMNS = ("onset", "offset", "source", "sound", "peak", "level_dbfs", "priority", "verdict", "note", "id")


class Exports:
    """The filters are those of the list."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.routes = [
            ScopedRoute("/api/1/events.csv", self.as_table, needs="look"),
            ScopedRoute("/api/1/events.jsonl", self.as_lines, needs="look"),
            ScopedRoute("/api/1/events.audacity", self.as_labels, needs="look"),
        ]

    async def as_table(self, request: Request) -> Response:
        """Events as CSV."""
        return await self._file(request, _table, "text/csv", "events.csv")

    async def as_lines(self, request: Request) -> Response:
        """Events as lines of JSON."""
        return await self._file(request, _lines, "application/jsonl", "events.jsonl")

    async def as_labels(self, request: Request) -> Response:
        """Events as a label track for Audacity."""
        return await self._file(request, _labels, "text/plain", "events.txt")

    async def _file(
        self, request: Request, write: Callable[[Iterable[Event]], str], media_type: str, name: str
    ) -> Response:
        wanted, directory = filter_of(request, self._parts.zone), directory_of(self._parts.directory)

        def read() -> str:
            with reading(directory) as reader:
                return write(reader.events(wanted, n=EXPORT_MAX))

        text = await answered(read, EXPORT_S)
        disposition = {"Content-Disposition": f'attachment; filename="{name}"'}
        return Response(text, media_type=media_type, headers=disposition)


def _table(events: Iterable[Event]) -> str:
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(COLUMNS)
    for event in events:
        fields = event_fields(event)
        rows.writerow([cell(fields[column]) for column in COLUMNS])
    return text.getvalue()


def _lines(events: Iterable[Event]) -> str:
    return "".join(f"{json.dumps(event_fields(event), ensure_ascii=False)}\n" for event in events)


def _labels(events: Iterable[Event]) -> str:
    """Seconds from the first event on: https://manual.audacityteam.org/man/importing_and_exporting_labels.html"""
    ordered = sorted(events, key=lambda event: event.onset)
    rows = [
        (event.onset, event.onset if event.offset is None else event.offset, event.sound) for event in ordered
    ]
    begin = rows[0][0] if rows else 0.0
    return "".join(f"{onset - begin:.3f}\t{offset - begin:.3f}\t{sound}\n" for onset, offset, sound in rows)
