"""Routes by which events become a file: a table, lines of JSON, a label track for Audacity."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from starlette.requests import Request
from starlette.responses import Response

from streamer.store import event_files
from streamer.store.query import Event, reading
from streamer.web.guard import ScopedRoute
from streamer.web.parts import Parts
from streamer.web.request import answered, directory_of, filter_of

EXPORT_MAX = 100_000
"""events of one file"""
EXPORT_S = 60.0
"""a disk that takes longer is answered with 503"""


class Exports:
    """The filters are those of the list."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.routes = [
            ScopedRoute("/api/1/events.csv", self.as_table, needs="look", answers="text/csv"),
            ScopedRoute("/api/1/events.jsonl", self.as_lines, needs="look", answers="application/jsonl"),
            ScopedRoute("/api/1/events.audacity", self.as_labels, needs="look", answers="text/plain"),
        ]

    async def as_table(self, request: Request) -> Response:
        """Events as CSV."""
        return await self._file(request, event_files.as_table, "text/csv", "events.csv")

    async def as_lines(self, request: Request) -> Response:
        """Events as lines of JSON."""
        return await self._file(request, event_files.as_lines, "application/jsonl", "events.jsonl")

    async def as_labels(self, request: Request) -> Response:
        """Events as a label track for Audacity."""
        return await self._file(request, event_files.as_labels, "text/plain", "events.txt")

    async def _file(
        self, request: Request, write: Callable[[Iterable[Event]], Iterable[str]], media_type: str, name: str
    ) -> Response:
        wanted, directory = filter_of(request, self._parts.zone), directory_of(self._parts.directory)

        def read() -> str:
            with reading(directory) as reader:
                return "".join(write(reader.events(wanted, n=EXPORT_MAX)))

        text = await answered(read, EXPORT_S)
        disposition = {"Content-Disposition": f'attachment; filename="{name}"'}
        return Response(text, media_type=media_type, headers=disposition)
