"""Routes of sounds that were there, and of which no event was made: what people report."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from streamer.core.times import utc
from streamer.store import history
from streamer.store.clips import remove_clips
from streamer.store.edit import editing
from streamer.store.query import Filter, Missed, reading
from streamer.web.guard import RequestError, ScopedRoute
from streamer.web.parts import Parts
from streamer.web.request import NOTE_MAX, answered, body_of, clip_id_of, directory_of, filter_of, time_of

LONGEST_S = 3600.0


class MissedSounds:
    """Reads the reports in the history; a new one is a transaction in it."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        one = "/api/1/missed/{clip_id}"
        self.routes = [
            ScopedRoute("/api/1/missed", self.missed, needs="look", answers="AllMissed"),
            ScopedRoute("/api/1/missed", self.report, needs="write", answers="Missed", methods=["POST"]),
            ScopedRoute(one, self.one_missed, needs="look", answers="Missed"),
            ScopedRoute(one, self.remove, needs="write", methods=["DELETE"]),
        ]

    async def missed(self, request: Request) -> Response:
        """What was reported as missed, newest first."""
        directory, wanted = directory_of(self._parts.directory), filter_of(request, self._parts.zone)
        found = await answered(lambda: _read(directory, wanted))
        return JSONResponse({"missed": [_fields(one) for one in found]})

    async def one_missed(self, request: Request) -> Response:
        """One report."""
        return JSONResponse(_fields(await self._found(clip_id_of(request))))

    async def report(self, request: Request) -> Response:
        """Report a sound that was there, and of which no event was made."""
        body = await body_of(request)
        source, sound, note = body.get("source"), body.get("sound"), body.get("note") or None
        config = self._parts.config()
        if source not in list(config.sources) or sound not in list(config.sounds):
            raise RequestError(HTTPStatus.BAD_REQUEST, "source and sound are those of the configuration")
        if note is not None and (not isinstance(note, str) or len(note) > NOTE_MAX):
            raise RequestError(HTTPStatus.BAD_REQUEST, f"a note is a text of at most {NOTE_MAX} characters")
        onset, offset = time_of(body, "onset"), time_of(body, "offset")
        if not onset < offset <= onset + LONGEST_S:
            raise RequestError(HTTPStatus.BAD_REQUEST, "offset is after onset, by an hour at most")
        directory = directory_of(self._parts.directory)

        def write() -> str:
            with editing(directory) as db:
                return history.add_missed(db, source, sound, onset, offset, note)

        added = await self._found(await answered(write))
        return JSONResponse(_fields(added), HTTPStatus.CREATED)

    async def remove(self, request: Request) -> Response:
        """Remove a report, and its clip."""
        found, directory = await self._found(clip_id_of(request)), directory_of(self._parts.directory)

        def write() -> None:
            with editing(directory) as db:
                history.remove_missed(db, found.clip_id)
            if found.clip_start is not None:
                remove_clips(directory, [(found.clip_id, found.clip_start)])

        await answered(write)
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def _found(self, clip_id: str) -> Missed:
        directory = directory_of(self._parts.directory)
        for one in await answered(lambda: _read(directory, Filter())):
            if one.clip_id == clip_id:
                return one
        raise RequestError(HTTPStatus.NOT_FOUND, "no such report")


def _read(directory: Path, wanted: Filter) -> list[Missed]:
    with reading(directory) as reader:
        return reader.missed(wanted)


def _fields(missed: Missed) -> dict[str, object]:
    return {
        "id": missed.clip_id,
        "source": missed.source,
        "sound": missed.sound,
        "onset": utc(missed.onset),
        "offset": utc(missed.offset),
        "duration_s": round(missed.offset - missed.onset, 3),
        "note": missed.note,
        "clip": missed.clip,
    }
