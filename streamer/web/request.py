"""What a request says, checked: each parameter is what it should be, or the answer says what is right."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from starlette.requests import Request

from streamer.core.threads import in_thread
from streamer.errors import InputError, StreamerError
from streamer.store.history import MISSED
from streamer.store.query import Filter, Position
from streamer.web.guard import Caller, RequestError

NOTE_MAX = 1000
"""characters"""
ANSWER_S = 2.0
"""a disk that takes longer is answered with 503"""

T = TypeVar("T")


def directory_of(directory: Path | None) -> Path:
    """The state directory. Raises RequestError where there is none."""
    if directory is None:
        raise RequestError(HTTPStatus.SERVICE_UNAVAILABLE, "nothing can be kept on disk: there is no history")
    return directory


async def answered(read: Callable[[], T], timeout_s: float = ANSWER_S) -> T:
    """Run something that waits for the disk. Raises RequestError."""
    try:
        return await in_thread(read, "history", timeout_s)
    except TimeoutError:
        raise RequestError(HTTPStatus.SERVICE_UNAVAILABLE, "the disk does not answer") from None
    except InputError as error:
        raise RequestError(HTTPStatus.NOT_FOUND, str(error).partition(": see")[0]) from None
    except StreamerError as error:
        raise RequestError(HTTPStatus.SERVICE_UNAVAILABLE, str(error)) from None


async def body_of(request: Request) -> dict[str, Any]:
    try:
        values = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise RequestError(HTTPStatus.BAD_REQUEST, "the body is not JSON") from None
    if not isinstance(values, dict):
        raise RequestError(HTTPStatus.BAD_REQUEST, "the body is a JSON object")
    return values


def caller_of(request: Request) -> Caller:
    caller: Caller = request.scope["state"]["caller"]
    return caller


def event_id_of(request: Request) -> str:
    return id_of(request.path_params["event_id"])


def id_of(event_id: object) -> str:
    """Of an event. Raises RequestError where it cannot be one."""
    if not isinstance(event_id, str) or not re.fullmatch(r"[0-9a-f]{12}", event_id):
        raise RequestError(HTTPStatus.NOT_FOUND, "no such event")
    return event_id


def clip_id_of(request: Request) -> str:
    """Of an event, or of a missed sound."""
    clip_id: str = request.path_params["clip_id"]
    if not re.fullmatch(rf"[0-9a-f]{{12}}|{MISSED}[0-9]{{1,18}}", clip_id, re.ASCII):
        raise RequestError(HTTPStatus.NOT_FOUND, "no such clip")
    return clip_id


def number_of(request: Request, name: str, default: float, least: float, most: float) -> float:
    text = request.query_params.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value <= most:
        raise RequestError(HTTPStatus.BAD_REQUEST, f"{name} is a number from {least:g} to {most:g}")
    return value


def position_of(text: str | None) -> Position | None:
    if not text:
        return None
    onset, _, seq = text.partition(",")
    try:
        position = Position(float(onset), int(seq))
    except ValueError:
        raise RequestError(HTTPStatus.BAD_REQUEST, "after is the `next` of an earlier answer") from None
    if not math.isfinite(position.onset) or abs(position.seq) > 1 << 62:
        raise RequestError(HTTPStatus.BAD_REQUEST, "after is the `next` of an earlier answer")
    return position


def day_of(request: Request, name: str) -> date:
    try:
        day = date.fromisoformat(request.query_params.get(name, ""))
    except ValueError:
        raise RequestError(HTTPStatus.BAD_REQUEST, f"{name} is a day, as in 2026-11-25") from None
    if not 1970 < day.year < 9999:
        raise RequestError(HTTPStatus.BAD_REQUEST, f"{name} is a day, as in 2026-11-25")
    return day


def midnight(day: date, zone: ZoneInfo) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()


def filter_of(request: Request, zone: ZoneInfo) -> Filter:
    """Which events; of a day, or of days from one to another, in the home's zone. Raises RequestError."""
    query = request.query_params
    verdict = query.get("verdict") or None
    if verdict not in (None, "right", "wrong", "none"):
        raise RequestError(HTTPStatus.BAD_REQUEST, "verdict is right, wrong or none")
    clip = query.get("clip") or None
    if clip not in (None, "kept"):
        raise RequestError(HTTPStatus.BAD_REQUEST, "clip is kept: events whose clip is kept")
    min_peak = number_of(request, "min_peak", 0.0, 0.0, 1.0) if query.get("min_peak") else None
    first, last = ("day", "day") if query.get("day") else ("from", "to")
    since = midnight(day_of(request, first), zone) if query.get(first) else None
    until = midnight(day_of(request, last) + timedelta(days=1), zone) if query.get(last) else None
    return Filter(
        since=since,
        until=until,
        source=query.get("source") or None,
        sound=query.get("sound") or None,
        verdict=verdict,  # type: ignore[arg-type]  # one of these
        min_peak=min_peak,
        has_clip=clip is not None,
    )


def time_of(values: Mapping[str, Any], name: str) -> float:
    """Seconds since the epoch of a time in a body or a query. Raises RequestError."""
    try:
        moment = datetime.fromisoformat(values[name])
    except (KeyError, TypeError, ValueError):
        moment = None
    if moment is None or moment.tzinfo is None or not 1970 < moment.year < 9999:
        raise RequestError(HTTPStatus.BAD_REQUEST, f"{name} is a time, as in 2026-11-25T03:00:00Z")
    return moment.timestamp()
