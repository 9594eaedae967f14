"""The picture and the clip of an event for whoever has a signed address: a phone that shows a notification.

Such an address is for one file until one time; `Signer` says how it is signed and taken back.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from streamer.capture.stream import read_file
from streamer.capture.tapes import Tapes
from streamer.config.schema import Config
from streamer.core.signer import Signature, Signer
from streamer.errors import InputError
from streamer.model.labels import descendants
from streamer.signal.picture import spectrogram
from streamer.store.clips import SPEECH, kept_clip
from streamer.store.query import reading
from streamer.types import SoundEvent
from streamer.web.guard import RequestError, ScopedRoute
from streamer.web.request import answered, event_id_of

KEY_FILE = "web-share-key"
PATH = "api/1/shared"
SHARED_S = 86400
"""how long an address lasts from the onset of its event"""


class Shared:
    """Makes the addresses, and answers them."""

    def __init__(self, directory: Path, public_url: str, in_use: Callable[[], Config], tapes: Tapes) -> None:
        """`directory` has the history and the key; `in_use` gives the configuration after reloads."""
        self._directory = directory
        self._public_url = public_url.rstrip("/")
        self._in_use = in_use
        self._tapes = tapes
        self._signer = Signer(directory / KEY_FILE)
        self.routes = [
            ScopedRoute(f"/{PATH}/{{event_id}}.png", self.shared_picture, needs=None, answers="image/png"),
            ScopedRoute(f"/{PATH}/{{event_id}}.flac", self.shared_clip, needs=None, answers="audio/flac"),
        ]

    def links(self, event: SoundEvent) -> dict[str, str]:
        """`picture_url`, and `clip_url` where a clip may be kept; the same in each phase of an event."""
        names = {"picture_url": f"{event.id}.png"}
        if self._may_have_clip(event.sound):
            names["clip_url"] = f"{event.id}.flac"
        until = int(event.onset) + SHARED_S
        signed = {field: (name, self._signer.sign(name, until)) for field, name in names.items()}
        return {
            field: f"{self._public_url}/{PATH}/{name}?until={until}&signature={signature}"
            for field, (name, signature) in signed.items()
            if signature is not None
        }

    async def shared_picture(self, request: Request) -> Response:
        """The spectrogram of an event, by a signed address."""
        event_id = self._allowed(request, "png")
        return Response(await answered(lambda: self._draw(event_id)), media_type="image/png")

    async def shared_clip(self, request: Request) -> Response:
        """The clip of an event, by a signed address; there once the event has ended, where it is kept."""
        event_id = self._allowed(request, "flac")
        path, _, _ = await answered(lambda: kept_clip(self._directory, event_id))
        return FileResponse(path, media_type="audio/flac")

    def _allowed(self, request: Request, kind: str) -> str:
        """The id of the event. Raises RequestError."""
        event_id, query = event_id_of(request), request.query_params
        signature = self._signer.check(
            f"{event_id}.{kind}", query.get("until", ""), query.get("signature", "")
        )
        if signature is Signature.EXPIRED:
            raise RequestError(HTTPStatus.GONE, "this address has expired")
        if signature is not Signature.VALID:
            raise RequestError(HTTPStatus.UNAUTHORIZED, "this address is not one that was given out")
        return event_id

    def _draw(self, event_id: str) -> bytes:
        """From memory while the sound is there, then from the clip. Raises InputError."""
        with reading(self._directory) as reader:
            event = reader.event(event_id)
        if event.id != event_id:
            raise InputError(f"there is no event {event_id}")
        if (found := self._tapes.around(event.source, event.onset)) is not None:
            excerpt, rate = found
            return spectrogram(excerpt.samples, rate)
        if event.clip != "kept":
            raise InputError("the sound is not in memory any more, and no clip of it is kept")
        path, _, _ = kept_clip(self._directory, event_id)
        return spectrogram(*read_file(path))

    def _may_have_clip(self, sound: str) -> bool:
        config = self._in_use()
        if not config.clips.enabled or (config.clips.sounds and sound not in config.clips.sounds):
            return False
        own = config.sounds.get(sound)
        is_voice = own is not None and not descendants(SPEECH).isdisjoint(own.labels)
        return config.clips.speech == "keep" or not is_voice
