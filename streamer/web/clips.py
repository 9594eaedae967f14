"""Routes of clips: of events, and of sounds that were reported as missed."""

from __future__ import annotations

import base64
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from streamer.capture.stream import read_file
from streamer.signal.spectrogram import COLUMNS_S, columns
from streamer.store import history
from streamer.store.clips import kept_clip, remove_clips
from streamer.store.edit import editing
from streamer.web.guard import ScopedRoute
from streamer.web.parts import Parts
from streamer.web.request import answered, clip_id_of, directory_of


class Clips:
    """What may be heard; the path of a file is made from its row alone."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        flac = "/api/1/clips/{clip_id}.flac"
        self.routes = [
            ScopedRoute(flac, self.clip, needs="hear", answers="audio/flac"),
            ScopedRoute(
                "/api/1/clips/{clip_id}/spectrum", self.clip_spectrum, needs="hear", answers="Spectrum"
            ),
            ScopedRoute("/api/1/clips/{clip_id}", self.delete_clip, needs="write", methods=["DELETE"]),
        ]

    async def clip(self, request: Request) -> Response:
        """The FLAC of an event or a missed sound, in parts where a `Range` is asked for."""
        directory, clip_id = directory_of(self._parts.directory), clip_id_of(request)
        path, _, _ = await answered(lambda: kept_clip(directory, clip_id))
        return FileResponse(path, media_type="audio/flac")

    async def clip_spectrum(self, request: Request) -> Response:
        """The spectrogram of a clip."""
        directory, clip_id = directory_of(self._parts.directory), clip_id_of(request)

        def read() -> dict[str, object]:
            path, start, end = kept_clip(directory, clip_id)
            samples, rate = read_file(path)
            drawn = columns(samples, rate)
            return {
                "start": start,
                "end": end,
                "columns_s": COLUMNS_S,
                "n": len(drawn),
                "data": base64.b64encode(drawn.tobytes()).decode(),
            }

        return JSONResponse(await answered(read))

    async def delete_clip(self, request: Request) -> Response:
        """Remove a clip; what it is of stays."""
        directory, clip_id = directory_of(self._parts.directory), clip_id_of(request)

        def write() -> None:
            _, start, _ = kept_clip(directory, clip_id)
            with editing(directory) as db:
                history.expire_clips(db, [clip_id], "deleted")
            remove_clips(directory, [(clip_id, start)])

        await answered(write)
        return Response(status_code=HTTPStatus.NO_CONTENT)
