"""Routes of sounds that people teach: examples that they chose to keep, and what was learned from them.

Audio is kept here because somebody asked for this very stretch: `keep_audio` in the request says so.
"""

from __future__ import annotations

import secrets
import time
from http import HTTPStatus
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from streamer.capture.stream import read_file
from streamer.core.times import utc
from streamer.errors import InputError, StreamerError, UsageError
from streamer.store import examples
from streamer.store.clips import clip_path
from streamer.store.flac import encode
from streamer.store.query import reading
from streamer.teaching import record
from streamer.teaching.clips import FEWEST, GOOD, checked
from streamer.teaching.judgement import judge
from streamer.types import Samples
from streamer.web.guard import RequestError, ScopedRoute
from streamer.web.parts import Parts
from streamer.web.request import answered, body_of, directory_of, event_id_of, id_of, time_of

LONGEST_S = 30.0
"""of an example: what is longer is cut"""
AROUND_S = 0.3
"""of an example, before and after its event"""
CHECK_S = 20.0
"""for cutting, checking and writing a clip"""


class Teaching:
    """Examples are files of the state directory; what is learned from them comes of `streamer teach`."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._opened_at = time.time()
        """what was taught later is not in the model's process yet"""
        at = "/api/1/teaching"
        one, own = f"{at}/{{name}}", f"{at}/{{name}}/examples"
        self.routes = [
            ScopedRoute(at, self.sounds, needs="look", answers="Teaching"),
            ScopedRoute(own, self.keep, needs="write", answers="TeachingSound", methods=["POST"]),
            ScopedRoute(f"{own}/{{event_id}}.flac", self.example, needs="hear", answers="audio/flac"),
            ScopedRoute(f"{own}/{{event_id}}", self.remove_example, needs="write", methods=["DELETE"]),
            ScopedRoute(one, self.teach, needs="write", answers="TeachingSound", methods=["POST"]),
            ScopedRoute(one, self.forget, needs="write", methods=["DELETE"]),
        ]

    async def sounds(self, _: Request) -> Response:
        """What is taught: examples, what may be expected of it, and whether it is listened for."""
        directory = directory_of(self._parts.directory)

        def read() -> dict[str, object]:
            known = sorted({*record.names(directory), *examples.names(directory)})
            return {
                "needed": FEWEST,
                "good": GOOD,
                "sounds": [self._sound(directory, name) for name in known],
            }

        return JSONResponse(await answered(read, CHECK_S))

    async def keep(self, request: Request) -> Response:
        """Keep an event's audio, or a stretch of the last minute, as an example or counter-example."""
        name, body, directory = _name(request), await body_of(request), directory_of(self._parts.directory)
        if body.get("keep_audio") is not True:
            raise RequestError(
                HTTPStatus.BAD_REQUEST,
                "keep_audio: true says that this audio may be kept until it is removed",
            )
        is_not = body.get("is_not", False)
        if not isinstance(is_not, bool):
            raise RequestError(HTTPStatus.BAD_REQUEST, "is_not is true or false")
        if "event" in body:
            example_id = id_of(body["event"])
            samples, rate = await answered(lambda: self._of_event(directory, example_id), CHECK_S)
        else:
            example_id = secrets.token_hex(6)
            begin, end = time_of(body, "begin"), time_of(body, "end")
            if not begin < end <= begin + LONGEST_S:
                raise RequestError(HTTPStatus.BAD_REQUEST, f"end is after begin, by {LONGEST_S:g} s at most")
            samples, rate = self._recent(body.get("source"), begin, end)
        least = self._parts.config().store.min_free_mb << 20

        def write() -> dict[str, object]:
            try:
                checked(Path("this stretch"), samples, rate)
                flac = encode(samples, rate)
                examples.keep(directory, name, example_id, flac, min_free=least, is_not=is_not)
            except (InputError, ValueError) as error:
                raise RequestError(HTTPStatus.CONFLICT, str(error)) from None
            return self._sound(directory, name)

        return JSONResponse(await answered(write, CHECK_S), HTTPStatus.CREATED)

    async def example(self, request: Request) -> Response:
        """The FLAC of an example."""
        name, example_id, directory = (
            _name(request),
            event_id_of(request),
            directory_of(self._parts.directory),
        )
        found = await answered(lambda: examples.example(directory, name, example_id))
        return FileResponse(found.path, media_type="audio/flac")

    async def remove_example(self, request: Request) -> Response:
        """Remove an example; what was learned from it stays until it is taught anew."""
        name, example_id, directory = (
            _name(request),
            event_id_of(request),
            directory_of(self._parts.directory),
        )
        await answered(lambda: examples.remove([examples.example(directory, name, example_id)]), CHECK_S)
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def teach(self, request: Request) -> Response:
        """Learn a sound from its examples, as `streamer teach` does; it may take minutes."""
        name, directory = _name(request), directory_of(self._parts.directory)
        kept = await answered(lambda: examples.examples(directory, name))
        clips = [str(one.path) for one in kept if not one.is_not]
        if not clips:
            raise RequestError(HTTPStatus.NOT_FOUND, f"{name} has no examples")
        for one in kept:
            if one.is_not:
                clips += ["--not", str(one.path)]
        try:
            await self._parts.commands.run(
                self._parts.config(), directory, ["teach", name, *clips, "--replace"]
            )
        except StreamerError as error:
            raise RequestError(HTTPStatus.CONFLICT, str(error)) from None
        return JSONResponse(await answered(lambda: self._sound(directory, name), CHECK_S))

    async def forget(self, request: Request) -> Response:
        """Forget a sound, with its examples."""
        name, directory = _name(request), directory_of(self._parts.directory)
        if used_by := self._used_by(name):
            raise RequestError(
                HTTPStatus.CONFLICT,
                f"the configuration listens for it as {used_by}: take it out there first, and restart",
            )

        def write() -> None:
            found, known = examples.examples(directory, name), name in record.names(directory)
            if not found and not known:
                raise InputError(f"there is no {name}")
            examples.remove(found)
            if known:
                record.remove(directory, name)

        await answered(write, CHECK_S)
        return Response(status_code=HTTPStatus.NO_CONTENT)

    def _sound(self, directory: Path, name: str) -> dict[str, object]:
        kept = examples.examples(directory, name)
        taught: dict[str, object] | None = None
        problem, state = "", "untaught"
        if name in record.names(directory):
            try:
                found = record.read(directory, name)
                about, judged = found.about, judge(found, directory)
            except StreamerError as error:
                problem = str(error).replace(f"{directory}/", "")
            else:
                is_loaded = about.taught_at < self._opened_at
                state = ("in use" if is_loaded else "restart") if self._used_by(name) else "unused"
                taught = {
                    "at": utc(about.taught_at),
                    "clips": len(about.clips),
                    "heard": about.heard,
                    "others": about.n_others,
                    "false": about.false,
                    "too_few": judged.too_few,
                    "too_different": judged.too_different,
                    "alike": [{"name": one.name, "n": one.n, "clips": one.n_clips} for one in judged.alike],
                }
        return {
            "name": name,
            "examples": [{"id": one.id, "kept_at": utc(one.kept_at), "is_not": one.is_not} for one in kept],
            "state": state,
            "taught": taught,
            "problem": problem,
        }

    def _used_by(self, name: str) -> str:
        """The sound of the configuration that was taught as this; empty where there is none."""
        sounds = self._parts.config().sounds
        return next((sound for sound, own in sounds.items() if own.taught == name), "")

    def _of_event(self, directory: Path, event_id: str) -> tuple[Samples, int]:
        """The audio of an event: of its clip, or while it is in memory."""
        with reading(directory) as reader:
            event = reader.event(event_id)
            if event.id != event_id:
                raise InputError(f"there is no event {event_id}")
            kept = reader.clip(event_id) if event.clip == "kept" else None
        begin = event.onset - AROUND_S
        longest = begin + LONGEST_S
        end = longest if event.offset is None else min(longest, event.offset + AROUND_S)
        if kept is None:
            return self._recent(event.source, begin, end)
        path = clip_path(directory, event_id, kept[0])
        if path.is_symlink() or not path.is_file():
            raise InputError(f"the clip of {event_id} is gone")
        return read_file(path, max(0.0, begin - kept[0]), end - kept[0])

    def _recent(self, source: object, begin: float, end: float) -> tuple[Samples, int]:
        """What a source heard in a stretch of time that is still in memory. Raises RequestError."""
        if source not in list(self._parts.config().sources):
            raise RequestError(HTTPStatus.BAD_REQUEST, "source is one of the configuration")
        ring = self._parts.tapes.ring(str(source))
        if ring is None or begin < ring.time(ring.start) or end > ring.time(ring.end):
            raise RequestError(
                HTTPStatus.CONFLICT,
                "this audio is gone: the last minute is in memory, more is kept where clips.enabled is set",
            )
        return ring.between(begin, end).samples, ring.sample_rate


def _name(request: Request) -> str:
    """What a sound is taught as. Raises RequestError."""
    name: str = request.path_params["name"]
    try:
        record.path_of(Path(), name)
    except UsageError as error:
        raise RequestError(HTTPStatus.BAD_REQUEST, str(error)) from None
    return name
