"""The page's HTTP API: routes, each with the scope that it needs. JSON; times RFC 3339 in UTC.

Nothing is taken from a request but ids, names and numbers, all of which are looked up or checked.
"""

from __future__ import annotations

import asyncio
import base64
import csv
import io
import json
import math
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from http import HTTPStatus
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.types import Receive, Send
from starlette.types import Scope as Connection

from streamer import __version__
from streamer.capture.stream import read_file
from streamer.config.control import (
    HIGHEST,
    LOWEST,
    MUTE_S,
    PROFILES,
    Control,
    SetListen,
    SetListenFor,
    SetMute,
    SetProfile,
    SetThreshold,
)
from streamer.config.schema import Config
from streamer.core.threads import in_thread
from streamer.detection.timeline import CELL_S
from streamer.errors import InputError, StreamerError
from streamer.language import Names
from streamer.store import history
from streamer.store.clips import clip_path
from streamer.store.edit import editing
from streamer.store.query import Event, Filter, Position, reading
from streamer.store.score_files import scores_between
from streamer.web.commands import Commands
from streamer.web.feed import Feed, FullError
from streamer.web.guard import COOKIE, Caller, RefusedError, ScopedRoute
from streamer.web.sessions import OWNER, Sessions, TooManyAttemptsError
from streamer.web.spectrum import COLUMNS_S, columns

PAGE_MAX = 200
"""events of one answer"""
EXPORT_MAX = 100_000
"""events of one file"""
AROUND_S = 8.0
"""seconds of scores before and after an event"""
SCORES_MAX_S = 120.0
"""of an event whose scores are shown"""
ANSWER_S = 2.0
"""a disk that takes longer is answered with 503"""
WRITE_S = 10.0
"""a stream whose reader takes longer to read is ended"""
DAYS_MAX = 92
MEDIA = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Parts:
    """What the API shows and changes."""

    config: Callable[[], Config]
    """the configuration in use, which a reload changes"""
    control: Control
    directory: Path | None
    """of the history; None where nothing can be kept"""
    report: Callable[[], Mapping[str, object]]
    """of `streamer status`"""
    feed: Feed
    sessions: Sessions
    zone: ZoneInfo
    zone_name: str
    heard: Callable[[str], str]
    """how well the model was measured to hear a sound, for people; empty where the sound needs no model"""


class Api:
    """The routes and what they answer."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._static = dict(_static_files())
        self._commands = Commands()
        self.routes = [
            ScopedRoute("/", self.page, needs=None),
            ScopedRoute("/static/{name:path}", self.static, needs=None),
            ScopedRoute("/api/1/session", self.sign_in, needs=None, methods=["POST"]),
            ScopedRoute("/api/1/session", self.sign_out, needs="look", methods=["DELETE"]),
            ScopedRoute("/api/1/info", self.info, needs="look"),
            ScopedRoute("/api/1/health", self.health, needs="look"),
            ScopedRoute("/api/1/events", self.events, needs="look"),
            ScopedRoute("/api/1/events.csv", self.events_csv, needs="look"),
            ScopedRoute("/api/1/events/{event_id}", self.event, needs="look"),
            ScopedRoute("/api/1/events/{event_id}/review", self.review, needs="write", methods=["PUT"]),
            ScopedRoute("/api/1/events/{event_id}/review", self.take_back, needs="write", methods=["DELETE"]),
            ScopedRoute("/api/1/events/{event_id}/scores", self.scores, needs="look"),
            ScopedRoute("/api/1/events/{event_id}/pin", self.pin, needs="write", methods=["PUT"]),
            ScopedRoute("/api/1/clips/{event_id}.flac", self.clip, needs="hear"),
            ScopedRoute("/api/1/clips/{event_id}/spectrum", self.clip_spectrum, needs="hear"),
            ScopedRoute("/api/1/sounds/{sound}/curve", self.curve, needs="look"),
            ScopedRoute("/api/1/hours", self.hours, needs="look"),
            ScopedRoute("/api/1/control", self.show_control, needs="look"),
            ScopedRoute("/api/1/control/{source}/listen", self.set_listen, needs="write", methods=["PUT"]),
            ScopedRoute("/api/1/control/{source}/profile", self.set_profile, needs="write", methods=["PUT"]),
            ScopedRoute("/api/1/control/{source}/mute", self.set_mute, needs="write", methods=["PUT"]),
            ScopedRoute(
                "/api/1/control/{source}/sound/{sound}", self.set_listen_for, needs="write", methods=["PUT"]
            ),
            ScopedRoute(
                "/api/1/control/{source}/threshold/{sound}",
                self.set_threshold,
                needs="write",
                methods=["PUT"],
            ),
            ScopedRoute("/api/1/tokens", self.tokens, needs="owner"),
            ScopedRoute("/api/1/tokens", self.add_token, needs="owner", methods=["POST"]),
            ScopedRoute("/api/1/tokens/{session_id}", self.end_session, needs="owner", methods=["DELETE"]),
            ScopedRoute("/api/1/live", self.live, needs="look"),
        ]

    # The page

    async def page(self, _: Request) -> Response:
        return Response(
            self._static["index.html"], media_type="text/html", headers={"Cache-Control": "no-cache"}
        )

    async def static(self, request: Request) -> Response:
        name = request.path_params["name"]
        content = self._static.get(name)
        if content is None:
            raise RefusedError(HTTPStatus.NOT_FOUND, "no such file")
        headers = {"Cache-Control": "no-cache"}
        return Response(content, media_type=MEDIA.get(Path(name).suffix, "text/plain"), headers=headers)

    # Who asks

    async def sign_in(self, request: Request) -> Response:
        password = (await _body(request)).get("password")
        caller = _caller(request)
        if not isinstance(password, str) or len(password) > 1000:
            raise RefusedError(HTTPStatus.BAD_REQUEST, "a password is a text")
        try:
            found = await self._parts.sessions.sign_in(password, caller.address)
        except TooManyAttemptsError as error:
            answer = {"error": str(error)}
            return JSONResponse(answer, HTTPStatus.TOO_MANY_REQUESTS, {"Retry-After": str(error.retry_s)})
        if found is None:
            raise RefusedError(HTTPStatus.UNAUTHORIZED, "wrong password")
        secret, session = found
        response = JSONResponse({"scopes": sorted(session.scopes)})
        response.set_cookie(
            COOKIE,
            secret,
            max_age=30 * 86400,
            path=caller.base,
            httponly=True,
            samesite="lax",
            secure=request.url.scheme == "https",
        )
        return response

    async def sign_out(self, request: Request) -> Response:
        caller = _caller(request)
        if caller.session is not None:
            self._parts.sessions.remove(caller.session)
        response = Response(status_code=HTTPStatus.NO_CONTENT)
        response.delete_cookie(COOKIE, path=caller.base)
        return response

    async def tokens(self, _: Request) -> Response:
        sessions = [
            {
                "id": one.id,
                "kind": one.kind,
                "name": one.name,
                "scopes": sorted(one.scopes),
                "created": _utc(one.created),
                "used": _utc(one.used),
            }
            for one in self._parts.sessions.all()
        ]
        return JSONResponse({"sessions": sessions})

    async def add_token(self, request: Request) -> Response:
        body = await _body(request)
        name, scopes = body.get("name"), body.get("scopes")
        if not isinstance(name, str) or not 0 < len(name) <= 60 or not isinstance(scopes, list):
            raise RefusedError(
                HTTPStatus.BAD_REQUEST, "a token has a name, at most 60 long, and a list of scopes"
            )
        unknown = [scope for scope in scopes if scope not in list(OWNER)]
        if unknown or not scopes:
            raise RefusedError(HTTPStatus.BAD_REQUEST, f"scopes are: {', '.join(sorted(OWNER))}")
        secret, session = self._parts.sessions.add_token(name, scopes)
        return JSONResponse({"token": secret, "id": session.id}, HTTPStatus.CREATED)

    async def end_session(self, request: Request) -> Response:
        if not self._parts.sessions.remove(request.path_params["session_id"]):
            raise RefusedError(HTTPStatus.NOT_FOUND, "no such session or token")
        return Response(status_code=HTTPStatus.NO_CONTENT)

    # What there is

    async def info(self, request: Request) -> Response:
        config, caller = self._parts.config(), _caller(request)
        now, names = datetime.now(self._parts.zone), config.names
        return JSONResponse(
            {
                "version": __version__,
                "node": config.node,
                "zone": self._parts.zone_name,
                "today": now.date().isoformat(),
                "sources": [
                    {
                        "id": source_id,
                        "name": names.source(source_id),
                        "calibrated": own.calibration_db is not None,
                    }
                    for source_id, own in config.sources.items()
                ],
                "sounds": [
                    {
                        "id": sound_id,
                        "name": names.sound(sound_id),
                        "priority": own.priority,
                        "heard": self._parts.heard(sound_id),
                    }
                    for sound_id, own in config.sounds.items()
                ],
                "profiles": list(PROFILES),
                "scopes": sorted(caller.scopes),
                "signed_in": caller.session is not None,
            }
        )

    async def health(self, _: Request) -> Response:
        """What `streamer status` says, and what the history takes on disk; null where it cannot be read."""
        directory, settings = self._parts.directory, self._parts.config().store

        def read() -> dict[str, object] | None:
            if directory is None:
                return None
            with reading(directory) as reader:
                found = reader.contents()
            return {
                "events": found.n_events,
                "since": None if found.first is None else _utc(found.first),
                "bytes": found.bytes,
                "free_bytes": shutil.disk_usage(directory).free,
                "days": settings.events_days,
                "set_aside": found.set_aside,
            }

        try:
            store = await _answered(read)
        except RefusedError as error:
            store = {"problem": str(error)}
        return JSONResponse({**self._parts.report(), "streams": self._parts.feed.n_clients, "store": store})

    # What happened

    async def events(self, request: Request) -> Response:
        wanted = self._filter(request)
        limit = _number(request, "limit", 50, 1, PAGE_MAX)
        after = _position(request.query_params.get("after"))
        directory = self._directory()

        def read() -> dict[str, object]:
            with reading(directory) as reader:
                found = reader.page(wanted, after=after, n=int(limit))
                following = None if found.next is None else f"{found.next.onset!r},{found.next.seq}"
                return {"events": [event_fields(event) for event in found.events], "next": following}

        return JSONResponse(await _answered(read))

    async def events_csv(self, request: Request) -> Response:
        wanted, directory = self._filter(request), self._directory()

        def read() -> str:
            text = io.StringIO()
            rows = csv.writer(text)
            columns = (
                "onset",
                "offset",
                "source",
                "sound",
                "peak",
                "level_dbfs",
                "priority",
                "verdict",
                "id",
            )
            rows.writerow(columns)
            with reading(directory) as reader:
                for event in reader.events(wanted, n=EXPORT_MAX):
                    fields = event_fields(event)
                    rows.writerow([_cell(fields[column]) for column in columns])
            return text.getvalue()

        text = await in_thread(read, "export events")
        disposition = {"Content-Disposition": 'attachment; filename="events.csv"'}
        return Response(text, media_type="text/csv", headers=disposition)

    async def event(self, request: Request) -> Response:
        return JSONResponse(await self._one(_event_id(request)))

    async def review(self, request: Request) -> Response:
        body = await _body(request)
        verdict, sound, note = body.get("verdict"), body.get("sound"), body.get("note") or None
        if verdict not in ("right", "wrong"):
            raise RefusedError(HTTPStatus.BAD_REQUEST, "a verdict is right or wrong")
        if sound is not None and sound not in list(self._parts.config().sounds):
            raise RefusedError(HTTPStatus.BAD_REQUEST, "sound is none of the configuration's")
        if sound is not None and verdict == "right":
            raise RefusedError(HTTPStatus.BAD_REQUEST, "sound says what a wrong event was instead")
        if note is not None and (not isinstance(note, str) or len(note) > 1000):
            raise RefusedError(HTTPStatus.BAD_REQUEST, "a note is a text of at most 1000 characters")
        return await self._judge(_event_id(request), verdict, sound, note)

    async def take_back(self, request: Request) -> Response:
        return await self._judge(_event_id(request), None, None, None)

    async def scores(self, request: Request) -> Response:
        """The scores of each label of an event around it, CELL_S apart; null where none was kept."""
        directory, event_id = self._directory(), _event_id(request)

        def read() -> dict[str, object]:
            event = _read_event(directory, event_id)
            labels = tuple((event.rule or {}).get("labels") or event.labels)
            ended = event.onset + SCORES_MAX_S if event.offset is None else event.offset
            begin, end = event.onset - AROUND_S, min(ended, event.onset + SCORES_MAX_S) + AROUND_S
            _, values = scores_between(directory, event.source, begin, end, labels)
            rows = [[None if math.isnan(one) else round(one, 3) for one in row] for row in values.T.tolist()]
            return {"start": begin, "step_s": CELL_S, "labels": dict(zip(labels, rows, strict=True))}

        return JSONResponse(await _answered(read))

    async def pin(self, request: Request) -> Response:
        value = (await _body(request)).get("value")
        if not isinstance(value, bool):
            raise RefusedError(HTTPStatus.BAD_REQUEST, "value is true or false")
        directory, event_id = self._directory(), _event_id(request)
        most = self._parts.config().clips.max_mb * 500_000

        def write() -> bool:
            with editing(directory) as db:
                return history.pin(db, event_id, value, most=most)

        await self._one(event_id)
        if not await _answered(write):
            raise RefusedError(HTTPStatus.CONFLICT, "pinned clips may take half of the room for clips")
        return JSONResponse(await self._one(event_id))

    async def clip(self, request: Request) -> Response:
        """The FLAC of an event, in parts where a `Range` is asked for."""
        path, _ = await _answered(lambda: _clip(self._directory(), _event_id(request)))
        return FileResponse(path, media_type="audio/flac")

    async def clip_spectrum(self, request: Request) -> Response:
        def read() -> dict[str, object]:
            path, event = _clip(self._directory(), _event_id(request))
            samples, rate = read_file(path)
            drawn = columns(samples, rate)
            return {
                "start": event.clip_start,
                "end": event.clip_end,
                "columns_s": COLUMNS_S,
                "n": len(drawn),
                "data": base64.b64encode(drawn.tobytes()).decode(),
            }

        return JSONResponse(await _answered(read))

    async def curve(self, request: Request) -> Response:
        """What each threshold would have made of the past days, as `streamer curve --json` says it."""
        sound, days = request.path_params["sound"], int(_number(request, "days", 7, 1, 30))
        if sound not in self._parts.control.sounds:
            raise RefusedError(HTTPStatus.NOT_FOUND, "no such sound, or it has no threshold")
        source = request.query_params.get("source") or None
        if source is not None and source not in self._parts.control.sources:
            raise RefusedError(HTTPStatus.NOT_FOUND, "no such source")
        arguments = ["curve", sound, "--last", f"{days}d"]
        try:
            found = await self._commands.run(self._parts.config(), self._directory(), arguments, source)
        except StreamerError as error:
            raise RefusedError(HTTPStatus.CONFLICT, str(error)) from None
        return JSONResponse(found)

    async def hours(self, request: Request) -> Response:
        """Counts by sound and hour of the day, or by sound, weekday and hour; of days in the home's zone."""
        zone = self._parts.zone
        first, last = _day(request, "from"), _day(request, "to")
        if not 0 <= (last - first).days < DAYS_MAX:
            raise RefusedError(HTTPStatus.BAD_REQUEST, f"from and to are days, at most {DAYS_MAX} apart")
        by_weekday = request.query_params.get("by") == "weekday"
        begin, end = _midnight(first, zone), _midnight(last + timedelta(days=1), zone)
        source, directory = request.query_params.get("source") or None, self._directory()

        def read() -> dict[str, object]:
            counts: Counter[tuple[str, int, int]] = Counter()
            with reading(directory) as reader:
                for onset, sound in reader.onsets(begin, end, source):
                    local = datetime.fromtimestamp(onset, zone)
                    counts[sound, local.weekday() if by_weekday else -1, local.hour] += 1
            rows = [
                {"sound": sound, "hour": hour, "n": n, **({"weekday": weekday} if by_weekday else {})}
                for (sound, weekday, hour), n in sorted(counts.items())
            ]
            return {"counts": rows}

        return JSONResponse(await _answered(read))

    # What is in force

    async def show_control(self, _: Request) -> Response:
        return JSONResponse(self.control_fields())

    async def set_listen(self, request: Request) -> Response:
        source, value = self._source(request), (await _body(request)).get("value")
        if not isinstance(value, bool):
            raise RefusedError(HTTPStatus.BAD_REQUEST, "value is true or false")
        self._parts.control.apply(SetListen(source, value))
        return JSONResponse(self.control_fields())

    async def set_mute(self, request: Request) -> Response:
        """For an hour, or no longer."""
        source, value = self._source(request), (await _body(request)).get("value")
        if not isinstance(value, bool):
            raise RefusedError(HTTPStatus.BAD_REQUEST, "value is true or false")
        until = time.time() + MUTE_S if value else 0.0
        self._parts.control.apply(SetMute(source, until))
        return JSONResponse(self.control_fields())

    async def set_listen_for(self, request: Request) -> Response:
        source, sound = self._source(request), request.path_params["sound"]
        value = (await _body(request)).get("value")
        if sound not in self._parts.control.all_sounds:
            raise RefusedError(HTTPStatus.NOT_FOUND, "no such sound")
        if not isinstance(value, bool):
            raise RefusedError(HTTPStatus.BAD_REQUEST, "value is true or false")
        self._parts.control.apply(SetListenFor(source, sound, value))
        return JSONResponse(self.control_fields())

    async def set_profile(self, request: Request) -> Response:
        source, value = self._source(request), (await _body(request)).get("value")
        if not isinstance(value, str) or value not in PROFILES:
            raise RefusedError(HTTPStatus.BAD_REQUEST, f"value is one of: {', '.join(PROFILES)}")
        self._parts.control.apply(SetProfile(source, value))
        return JSONResponse(self.control_fields())

    async def set_threshold(self, request: Request) -> Response:
        source, sound = self._source(request), request.path_params["sound"]
        value = (await _body(request)).get("value")
        if sound not in self._parts.control.sounds:
            raise RefusedError(HTTPStatus.NOT_FOUND, "no such sound, or it has no threshold")
        if not isinstance(value, int | float) or isinstance(value, bool) or not LOWEST <= value <= HIGHEST:
            raise RefusedError(HTTPStatus.BAD_REQUEST, f"value is a number from {LOWEST:g} to {HIGHEST:g}")
        self._parts.control.apply(SetThreshold(source, sound, float(value)))
        return JSONResponse(self.control_fields())

    def control_fields(self) -> dict[str, object]:
        """By source: whether it is listened to, its profile, and the threshold of each sound."""
        control = self._parts.control
        return {
            source: {
                "listen": control.listens(source),
                "muted_s": round(control.muted_s(source)),
                "profile": control.profile(source),
                "sounds": {sound: control.listens_for(source, sound) for sound in control.all_sounds},
                "thresholds": {
                    sound: {
                        "set": round(control.threshold(source, sound), 4),
                        "on": round(control.on_off(source, sound)[0], 4),
                        "off": round(control.on_off(source, sound)[1], 4),
                    }
                    for sound in control.sounds
                },
            }
            for source in control.sources
        }

    # What happens now

    async def live(self, request: Request) -> Response:
        """Server-sent events."""
        config, query = self._parts.config(), request.query_params
        spectrum = query.get("spectrum") if query.get("spectrum") in config.sources else None
        named = query.get("sources")
        sources = None if not named else [one for one in named.split(",") if one in config.sources]
        return _Stream(
            self._parts.feed,
            _caller(request).address,
            sources,
            spectrum,
            request.headers.get("last-event-id", "")[:40],
        )

    def _directory(self) -> Path:
        if self._parts.directory is None:
            raise RefusedError(
                HTTPStatus.SERVICE_UNAVAILABLE, "nothing can be kept on disk: there is no history"
            )
        return self._parts.directory

    def _source(self, request: Request) -> str:
        source: str = request.path_params["source"]
        if source not in self._parts.control.sources:
            raise RefusedError(HTTPStatus.NOT_FOUND, "no such source")
        return source

    def _filter(self, request: Request) -> Filter:
        query = request.query_params
        verdict = query.get("verdict") or None
        if verdict not in (None, "right", "wrong", "none"):
            raise RefusedError(HTTPStatus.BAD_REQUEST, "verdict is right, wrong or none")
        since = until = None
        if query.get("day"):
            day = _day(request, "day")
            since = _midnight(day, self._parts.zone)
            until = _midnight(day + timedelta(days=1), self._parts.zone)
        return Filter(
            since=since,
            until=until,
            source=query.get("source") or None,
            sound=query.get("sound") or None,
            verdict=verdict,  # type: ignore[arg-type]  # one of these
        )

    async def _one(self, event_id: str) -> dict[str, object]:
        directory, names = self._directory(), self._parts.config().names

        def read() -> dict[str, object]:
            event = _read_event(directory, event_id)
            return {"event": event_fields(event), "explain": explain(event, names)}

        return await _answered(read)

    async def _judge(
        self, event_id: str, verdict: str | None, sound: str | None, note: str | None
    ) -> Response:
        directory = self._directory()

        def write() -> bool:
            with editing(directory) as db:
                return history.review(db, event_id, verdict, sound=sound, note=note)

        if not await _answered(write):
            raise RefusedError(HTTPStatus.NOT_FOUND, "no such event")
        found = await self._one(event_id)
        self._parts.feed.changed("review", {"id": event_id, "verdict": verdict})
        return JSONResponse(found)


class _Stream(Response):
    """A client's stream, until it leaves, is too slow, or the feed ends."""

    def __init__(
        self, feed: Feed, address: str, sources: list[str] | None, spectrum: str | None, last_id: str
    ) -> None:
        super().__init__()
        self._feed = feed
        self._open = (address, sources, spectrum, last_id)

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream"), (b"x-accel-buffering", b"no")]
        try:
            with self._feed.open(*self._open) as client:
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                leaving = asyncio.create_task(_until_gone(receive), name="stream reader")
                sending = asyncio.create_task(self._send(client, send), name="stream writer")
                try:
                    await asyncio.wait((leaving, sending), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for task in (leaving, sending):
                        task.cancel()
                    await asyncio.gather(leaving, sending, return_exceptions=True)
        except FullError:
            answer = JSONResponse({"error": "too many open pages"}, HTTPStatus.SERVICE_UNAVAILABLE)
            await answer(scope, receive, send)

    async def _send(self, client: Any, send: Send) -> None:
        async for data in self._feed.messages(client):
            async with asyncio.timeout(WRITE_S):
                await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _read_event(directory: Path, event_id: str) -> Event:
    """Raises InputError."""
    with reading(directory) as reader:
        event = reader.event(event_id)
    if event.id != event_id:
        raise InputError(f"there is no event {event_id}")
    return event


def _clip(directory: Path, event_id: str) -> tuple[Path, Event]:
    """The file of an event's clip, whose path is made from the row alone. Raises InputError without one."""
    event = _read_event(directory, event_id)
    if event.clip != "kept" or event.clip_start is None:
        raise InputError(f"there is no clip of {event_id}")
    path = clip_path(directory, event.id, event.clip_start)
    if path.is_symlink() or not path.is_file():
        raise InputError(f"the clip of {event_id} is gone")
    return path, event


def event_fields(event: Event) -> dict[str, Any]:
    """An event as the API shows it; the names are those of MQTT."""
    return {
        "id": event.id,
        "source": event.source,
        "sound": event.sound,
        "onset": _utc(event.onset),
        "offset": None if event.offset is None else _utc(event.offset),
        "duration_s": None if event.offset is None else round(event.offset - event.onset, 3),
        "peak": round(event.peak, 4),
        "level_dbfs": round(event.level_dbfs, 1),
        "labels": {label: round(score, 4) for label, score in event.labels.items()},
        "verified": event.verified,
        "notify": event.notify,
        "priority": event.priority,
        "rule": event.rule,
        "clip": event.clip,
        "clip_start": None if event.clip_start is None else _utc(event.clip_start),
        "pinned": event.pinned,
        "verdict": event.verdict,
        "verdict_sound": event.verdict_sound,
        "note": event.note,
        "is_cut": event.is_cut,
    }


def explain(event: Event, names: Names) -> list[str]:
    """Why the event is there, as sentences, by the rules that were in force when it started."""
    rule = event.rule or {}
    lines = []
    if "on" in rule and rule.get("labels"):
        lines.append(
            f"Its score reached {event.peak:.2f}; it starts at {rule['on']:.2f} "
            f"and ends below {rule['off']:.2f}."
        )
    if rule.get("above_background_db"):
        lines.append(f"It was more than {rule['above_background_db']:g} dB above the background of the room.")
    if rule.get("confirm", 1) > 1:
        lines.append(f"{rule['confirm']} of {rule['confirm_of']} hops agreed.")
    if rule.get("min_duration_s"):
        lines.append(f"It was longer than {rule['min_duration_s']:g} s.")
    if rule.get("unless"):
        lines.append(f"Nothing of {', '.join(names.sound(other) for other in rule['unless'])} was stronger.")
    if event.verified is not None:
        found = "was found" if event.verified else "was not found"
        lines.append(f"The cadence of an alarm {found} in the signal.")
    if not event.notify:
        lines.append("The sound was cooling down, so it did not notify.")
    if event.is_cut:
        lines.append("The program ended in the middle of it; its true end is not known.")
    return lines


def _static_files() -> Iterator[tuple[str, bytes]]:
    """Name and content of what the page consists of, read once."""
    folder = files("streamer.web") / "static"
    for entry in folder.iterdir():
        if entry.is_file():
            yield entry.name, entry.read_bytes()
        elif entry.name == "vendor":
            for one in entry.iterdir():
                yield f"vendor/{one.name}", one.read_bytes()


async def _answered(read: Callable[[], T]) -> T:
    """Run something that waits for the disk. Raises RefusedError."""
    try:
        return await in_thread(read, "history", ANSWER_S)
    except TimeoutError:
        raise RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, "the disk does not answer") from None
    except InputError as error:
        raise RefusedError(HTTPStatus.NOT_FOUND, str(error).partition(": see")[0]) from None
    except StreamerError as error:
        raise RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, str(error)) from None


async def _body(request: Request) -> dict[str, Any]:
    try:
        values = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise RefusedError(HTTPStatus.BAD_REQUEST, "the body is not JSON") from None
    if not isinstance(values, dict):
        raise RefusedError(HTTPStatus.BAD_REQUEST, "the body is a JSON object")
    return values


def _caller(request: Request) -> Caller:
    caller: Caller = request.scope["state"]["caller"]
    return caller


def _event_id(request: Request) -> str:
    event_id: str = request.path_params["event_id"]
    if len(event_id) != 12 or not set(event_id) <= set("0123456789abcdef"):
        raise RefusedError(HTTPStatus.NOT_FOUND, "no such event")
    return event_id


def _number(request: Request, name: str, default: float, least: float, most: float) -> float:
    text = request.query_params.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value <= most:
        raise RefusedError(HTTPStatus.BAD_REQUEST, f"{name} is a number from {least:g} to {most:g}")
    return value


def _position(text: str | None) -> Position | None:
    if not text:
        return None
    onset, _, seq = text.partition(",")
    try:
        position = Position(float(onset), int(seq))
    except ValueError:
        raise RefusedError(HTTPStatus.BAD_REQUEST, "after is the `next` of an earlier answer") from None
    if not math.isfinite(position.onset) or abs(position.seq) > 1 << 62:
        raise RefusedError(HTTPStatus.BAD_REQUEST, "after is the `next` of an earlier answer")
    return position


def _day(request: Request, name: str) -> date:
    try:
        day = date.fromisoformat(request.query_params.get(name, ""))
    except ValueError:
        raise RefusedError(HTTPStatus.BAD_REQUEST, f"{name} is a day, as in 2026-11-25") from None
    if not 1970 < day.year < 9999:
        raise RefusedError(HTTPStatus.BAD_REQUEST, f"{name} is a day, as in 2026-11-25")
    return day


def _midnight(day: date, zone: ZoneInfo) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()


def _utc(at: float) -> str:
    moment = datetime.fromtimestamp(round(at, 3), UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _cell(value: object) -> object:
    """A spreadsheet takes a text that begins with one of these for a formula."""
    text = "" if value is None else value
    return f"'{text}" if isinstance(text, str) and text[:1] in ("=", "+", "-", "@", "\t") else text
