"""Routes of events: lists, reviews, scores, counts by hour, why, and what other thresholds would do."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from streamer.core.times import utc
from streamer.detection.timeline import CELL_S
from streamer.errors import InputError, StreamerError
from streamer.store import history
from streamer.store.edit import editing
from streamer.store.event_files import event_fields
from streamer.store.query import Event, reading
from streamer.store.score_files import scores_between
from streamer.web.guard import RequestError, ScopedRoute
from streamer.web.parts import Parts
from streamer.web.reasons import explain
from streamer.web.request import (
    NOTE_MAX,
    answered,
    body_of,
    day_of,
    directory_of,
    event_id_of,
    filter_of,
    midnight,
    number_of,
    position_of,
    time_of,
)

PAGE_MAX = 200
"""events of one answer"""
AROUND_S = 8.0
"""seconds of scores before and after an event"""
SCORES_MAX_S = 120.0
"""of an event whose scores are shown"""
DAYS_MAX = 92
IDS_MAX = 500
"""events that are reviewed at once"""


class Events:
    """Reads the history; a review or a pin is one transaction in it."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        one = "/api/1/events/{event_id}"
        self.routes = [
            ScopedRoute("/api/1/events", self.events, needs="look", answers="Events"),
            ScopedRoute("/api/1/events/review", self.review_many, needs="write", methods=["POST"]),
            ScopedRoute(one, self.event, needs="look", answers="EventPage"),
            ScopedRoute(f"{one}/review", self.review, needs="write", answers="EventPage", methods=["PUT"]),
            ScopedRoute(
                f"{one}/review", self.take_back, needs="write", answers="EventPage", methods=["DELETE"]
            ),
            ScopedRoute(f"{one}/scores", self.scores, needs="look", answers="Scores"),
            ScopedRoute(f"{one}/pin", self.pin, needs="write", answers="EventPage", methods=["PUT"]),
            ScopedRoute("/api/1/sounds/{sound}/curve", self.curve, needs="look", answers="Curve"),
            ScopedRoute("/api/1/explain", self.explain, needs="look", answers="Explanation"),
            ScopedRoute("/api/1/hours", self.hours, needs="look", answers="Hours"),
        ]

    async def events(self, request: Request) -> Response:
        """A page of events, newest first."""
        wanted = filter_of(request, self._parts.zone)
        limit = number_of(request, "limit", 50, 1, PAGE_MAX)
        after = position_of(request.query_params.get("after"))
        directory = directory_of(self._parts.directory)

        def read() -> dict[str, object]:
            with reading(directory) as reader:
                found = reader.page(wanted, after=after, n=int(limit))
                following = None if found.next is None else f"{found.next.onset!r},{found.next.seq}"
                return {"events": [event_fields(event) for event in found.events], "next": following}

        return JSONResponse(await answered(read))

    async def event(self, request: Request) -> Response:
        """One event, and why it is there."""
        return JSONResponse(await self._one(event_id_of(request)))

    async def review(self, request: Request) -> Response:
        """Say whether an event was right or wrong, and what it was instead."""
        return await self._judge(event_id_of(request), *self._review_of(await body_of(request)))

    async def review_many(self, request: Request) -> Response:
        """Say the same of many events: all of them, or none."""
        body = await body_of(request)
        event_ids, judged = body.get("ids"), self._review_of(body)
        if (
            not isinstance(event_ids, list)
            or not 0 < len(event_ids) <= IDS_MAX
            or not all(isinstance(one, str) for one in event_ids)
        ):
            raise RequestError(HTTPStatus.BAD_REQUEST, f"ids are those of at most {IDS_MAX} events")
        verdict, sound, note = judged
        directory = directory_of(self._parts.directory)

        def write() -> None:
            with editing(directory) as db:
                for event_id in event_ids:
                    if not history.review(db, event_id, verdict, sound=sound, note=note):
                        raise InputError(f"there is no event {event_id:.40}")

        await answered(write)
        for event_id in event_ids:
            self._parts.feed.changed("review", {"id": event_id, "verdict": verdict})
        return Response(status_code=HTTPStatus.NO_CONTENT)

    def _review_of(self, body: Mapping[str, Any]) -> tuple[str, str | None, str | None]:
        """Verdict, sound and note of a review. Raises RequestError."""
        verdict, sound, note = body.get("verdict"), body.get("sound"), body.get("note") or None
        if verdict not in ("right", "wrong"):
            raise RequestError(HTTPStatus.BAD_REQUEST, "a verdict is right or wrong")
        if sound is not None and sound not in list(self._parts.config().sounds):
            raise RequestError(HTTPStatus.BAD_REQUEST, "sound is none of the configuration's")
        if sound is not None and verdict == "right":
            raise RequestError(HTTPStatus.BAD_REQUEST, "sound says what a wrong event was instead")
        if note is not None and (not isinstance(note, str) or len(note) > NOTE_MAX):
            raise RequestError(HTTPStatus.BAD_REQUEST, f"a note is a text of at most {NOTE_MAX} characters")
        return verdict, sound, note

    async def take_back(self, request: Request) -> Response:
        """Take a review back."""
        return await self._judge(event_id_of(request), None, None, None)

    async def scores(self, request: Request) -> Response:
        """The scores of each label of an event around it, CELL_S apart; null where none was kept."""
        directory, event_id = directory_of(self._parts.directory), event_id_of(request)

        def read() -> dict[str, object]:
            event = _read_event(directory, event_id)
            labels = tuple((event.rule or {}).get("labels") or event.labels)
            ended = event.onset + SCORES_MAX_S if event.offset is None else event.offset
            begin, end = event.onset - AROUND_S, min(ended, event.onset + SCORES_MAX_S) + AROUND_S
            _, values = scores_between(directory, event.source, begin, end, labels)
            rows = [[None if math.isnan(one) else round(one, 3) for one in row] for row in values.T.tolist()]
            return {"start": begin, "step_s": CELL_S, "labels": dict(zip(labels, rows, strict=True))}

        return JSONResponse(await answered(read))

    async def pin(self, request: Request) -> Response:
        """Let an event and its clip stay, or go again."""
        value = (await body_of(request)).get("value")
        if not isinstance(value, bool):
            raise RequestError(HTTPStatus.BAD_REQUEST, "value is true or false")
        directory, event_id = directory_of(self._parts.directory), event_id_of(request)
        most = self._parts.config().clips.max_mb << 19

        def write() -> bool:
            with editing(directory) as db:
                return history.pin(db, event_id, value, most=most)

        await self._one(event_id)
        if not await answered(write):
            raise RequestError(HTTPStatus.CONFLICT, "pinned clips may take half of the room for clips")
        return JSONResponse(await self._one(event_id))

    async def curve(self, request: Request) -> Response:
        """What each threshold would have made of the past days, as `streamer curve --json` says it."""
        sound, days = request.path_params["sound"], int(number_of(request, "days", 7, 1, 30))
        if sound not in self._parts.control.sounds:
            raise RequestError(HTTPStatus.NOT_FOUND, "no such sound, or it has no threshold")
        source = request.query_params.get("source") or None
        if source is not None and source not in self._parts.control.sources:
            raise RequestError(HTTPStatus.NOT_FOUND, "no such source")
        return await self._command(["curve", sound, "--last", f"{days}d"], source)

    async def explain(self, request: Request) -> Response:
        """Why a sound started an event at a moment, or did not, as `streamer explain --json` says it."""
        query = request.query_params
        source, sound = query.get("source"), query.get("sound")
        if source not in list(self._parts.config().sources) or sound not in list(self._parts.config().sounds):
            raise RequestError(HTTPStatus.BAD_REQUEST, "source and sound are those of the configuration")
        moment = utc(time_of(query, "at"))
        return await self._command(["explain", "--sound", str(sound), "--at", moment], source)

    async def _command(self, arguments: Sequence[str], source: str | None) -> Response:
        parts = self._parts
        try:
            found = await parts.commands.run(parts.config(), directory_of(parts.directory), arguments, source)
        except StreamerError as error:
            raise RequestError(HTTPStatus.CONFLICT, str(error)) from None
        return JSONResponse(found)

    async def hours(self, request: Request) -> Response:
        """Counts by sound and hour of the day, or by sound, weekday and hour; of days in the home's zone."""
        zone = self._parts.zone
        first, last = day_of(request, "from"), day_of(request, "to")
        if not 0 <= (last - first).days < DAYS_MAX:
            raise RequestError(HTTPStatus.BAD_REQUEST, f"from and to are days, at most {DAYS_MAX} apart")
        by_weekday = request.query_params.get("by") == "weekday"
        begin, end = midnight(first, zone), midnight(last + timedelta(days=1), zone)
        source, directory = request.query_params.get("source") or None, directory_of(self._parts.directory)

        def read() -> dict[str, object]:
            counts: Counter[tuple[str, int, int]] = Counter()
            with reading(directory) as reader:
                for hour in reader.hours(begin, end, zone, source=source):
                    local = datetime.fromtimestamp(hour.start, zone)
                    for sound, (n, _) in hour.sounds.items():
                        counts[sound, local.weekday() if by_weekday else -1, local.hour] += n
            rows = [
                {"sound": sound, "hour": hour, "n": n, **({"weekday": weekday} if by_weekday else {})}
                for (sound, weekday, hour), n in sorted(counts.items())
            ]
            return {"counts": rows}

        return JSONResponse(await answered(read))

    async def _one(self, event_id: str) -> dict[str, object]:
        directory, names = directory_of(self._parts.directory), self._parts.config().names

        def read() -> dict[str, object]:
            event = _read_event(directory, event_id)
            return {"event": event_fields(event), "explain": explain(event, names)}

        return await answered(read)

    async def _judge(
        self, event_id: str, verdict: str | None, sound: str | None, note: str | None
    ) -> Response:
        directory = directory_of(self._parts.directory)

        def write() -> bool:
            with editing(directory) as db:
                return history.review(db, event_id, verdict, sound=sound, note=note)

        if not await answered(write):
            raise RequestError(HTTPStatus.NOT_FOUND, "no such event")
        found = await self._one(event_id)
        self._parts.feed.changed("review", {"id": event_id, "verdict": verdict})
        return JSONResponse(found)


def _read_event(directory: Path, event_id: str) -> Event:
    """Raises InputError."""
    with reading(directory) as reader:
        event = reader.event(event_id)
    if event.id != event_id:
        raise InputError(f"there is no event {event_id}")
    return event
