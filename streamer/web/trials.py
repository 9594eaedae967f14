"""Routes of trials: what other thresholds would have made of the past days, as a job that is asked after.

One at a time, in a process of its own behind everything else; what the latest has found stays until the next.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from streamer.config.control import HIGHEST, LOWEST
from streamer.core.tasks import cancel_and_wait
from streamer.core.times import utc
from streamer.errors import InputError, StreamerError
from streamer.store.query import reading
from streamer.web.guard import RequestError, ScopedRoute
from streamer.web.parts import Parts
from streamer.web.request import answered, body_of, directory_of

DAYS_MAX = 30
SHOWN_MAX = 200
"""new events, and events that are gone, of an answer: the latest"""


@dataclass(slots=True)
class Trial:
    """One job."""

    id: str
    thresholds: Mapping[str, float]
    source: str | None
    days: int
    progress: float = 0.0
    """the share that is done"""
    found: dict[str, Any] | None = None
    error: str | None = None

    def fields(self) -> dict[str, object]:
        is_over = self.found is not None or self.error is not None
        return {
            "job": self.id,
            "state": ("failed" if self.error else "done") if is_over else "running",
            "progress": round(self.progress, 2),
            "thresholds": dict(self.thresholds),
            "source": self.source,
            "days": self.days,
            "error": self.error,
            "found": self.found,
        }


@dataclass(slots=True)
class _Running:
    trial: Trial
    task: asyncio.Task[None] = field(repr=False)


class Trials:
    """Begins, shows and ends the one job."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._latest: _Running | None = None
        self.routes = [
            ScopedRoute("/api/1/replay", self.begin, needs="write", answers="Trial", methods=["POST"]),
            ScopedRoute("/api/1/replay/{job}", self.show, needs="write", answers="Trial"),
            ScopedRoute("/api/1/replay/{job}", self.cancel, needs="write", methods=["DELETE"]),
        ]

    async def begin(self, request: Request) -> Response:
        """Begin to decide again on the past days with other thresholds; the answer names the job."""
        body = await body_of(request)
        thresholds, source, days = body.get("thresholds"), body.get("source"), body.get("days", 7)
        if not isinstance(thresholds, dict) or not thresholds:
            raise RequestError(HTTPStatus.BAD_REQUEST, "thresholds is an object, by sound")
        for sound, value in thresholds.items():
            if sound not in self._parts.control.sounds:
                raise RequestError(HTTPStatus.NOT_FOUND, "no such sound, or it has no threshold")
            if (
                isinstance(value, bool)
                or not isinstance(value, int | float)
                or not LOWEST <= value <= HIGHEST
            ):
                raise RequestError(
                    HTTPStatus.BAD_REQUEST, f"a threshold is a number from {LOWEST:g} to {HIGHEST:g}"
                )
        if source is not None and source not in list(self._parts.control.sources):
            raise RequestError(HTTPStatus.NOT_FOUND, "no such source")
        if isinstance(days, bool) or not isinstance(days, int) or not 1 <= days <= DAYS_MAX:
            raise RequestError(HTTPStatus.BAD_REQUEST, f"days is a whole number from 1 to {DAYS_MAX}")
        directory_of(self._parts.directory)
        if self._latest is not None and not self._latest.task.done():
            raise RequestError(HTTPStatus.CONFLICT, "another trial runs: wait until it is over, or end it")
        trial = Trial(secrets.token_hex(6), thresholds, source, days)
        self._latest = _Running(trial, asyncio.create_task(self._run(trial), name="trial"))
        return JSONResponse(trial.fields(), HTTPStatus.ACCEPTED)

    async def show(self, request: Request) -> Response:
        """How far a trial is, and what it has found: same, new and gone events."""
        return JSONResponse(self._known(request).trial.fields())

    async def cancel(self, request: Request) -> Response:
        """End a trial, and forget what it has found."""
        await cancel_and_wait(self._known(request).task)
        self._latest = None
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def close(self) -> None:
        """End the trial that runs."""
        if self._latest is not None:
            await cancel_and_wait(self._latest.task)

    def _known(self, request: Request) -> _Running:
        if self._latest is None or self._latest.trial.id != request.path_params["job"]:
            raise RequestError(HTTPStatus.NOT_FOUND, "no such trial; another may have taken its place")
        return self._latest

    async def _run(self, trial: Trial) -> None:
        def note_progress(line: str) -> None:
            with suppress(ValueError):
                trial.progress = int(line.removesuffix(" %")) / 100

        tried = [
            part for sound, on in trial.thresholds.items() for part in ("--threshold", f"{sound}={on:.6g}")
        ]
        shown = ["--most", str(SHOWN_MAX), "--progress"]
        try:
            found = await self._parts.commands.run(
                self._parts.config(),
                directory_of(self._parts.directory),
                ["replay", "--last", f"{trial.days}d", *tried, *shown],
                trial.source,
                on_line=note_progress,
            )
            trial.found = await self._shown(found)
        except (StreamerError, RequestError, ValueError, KeyError) as error:
            trial.error = str(error)

    async def _shown(self, found: Mapping[str, Any]) -> dict[str, Any]:
        """What the command has found, as the API shows events; of those that are gone also the verdict."""
        directory = directory_of(self._parts.directory)

        def read() -> dict[str, Any]:
            verdicts = {}
            with reading(directory) as reader:
                for event in found["gone"]:
                    with suppress(InputError):
                        verdicts[event["id"]] = reader.event(event["id"]).verdict
            per_day = found["per_day"]
            return {
                **{name: sum(day[name] for day in per_day.values()) for name in ("same", "new", "gone")},
                "not_in_log": found["not_in_log"],
                "listened_s": found["listened_s"],
                "scored_s": found["scored_s"],
                "days": [{"day": day, **counts} for day, counts in per_day.items()],
                "new_events": [event_fields(event) for event in reversed(found["new"])],
                "gone_events": [
                    {**event_fields(event), "verdict": verdicts.get(event["id"])}
                    for event in reversed(found["gone"])
                ],
            }

        return await answered(read, 10.0)


def event_fields(event: Mapping[str, Any]) -> dict[str, Any]:
    """An event as `streamer replay --json` has it, as the API shows it."""
    offset = event["offset"]
    return {
        "id": event["id"],
        "source": event["source"],
        "sound": event["sound"],
        "onset": utc(event["onset"]),
        "duration_s": None if offset is None else round(offset - event["onset"], 3),
        "peak": event["peak"],
    }
