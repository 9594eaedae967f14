"""Routes of what is loud again and again and has no name, as `streamer discover` says it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from streamer.errors import StreamerError
from streamer.web.guard import RequestError, ScopedRoute
from streamer.web.parts import Parts
from streamer.web.request import body_of, directory_of, number_of

DAYS_MAX = 30
LATEST = 3
"""times of an answer"""


class Recurring:
    """Read anew from the scores that are kept, each time."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        at = "/api/1/recurring"
        self.routes = [
            ScopedRoute(at, self.recurring, needs="look", answers="Recurring"),
            ScopedRoute(f"{at}/ignored", self.ignore, needs="write", answers="Recurring", methods=["POST"]),
        ]

    async def recurring(self, request: Request) -> Response:
        """Loud sounds that came again and again, and that no sound explains; it may take a minute."""
        return await self._found(int(number_of(request, "days", 7, 1, DAYS_MAX)))

    async def ignore(self, request: Request) -> Response:
        """Leave one out from now on; answers with the others."""
        body = await body_of(request)
        recurring_id, days = body.get("id"), body.get("days", 7)
        if not isinstance(recurring_id, str) or not re.fullmatch(r"[0-9a-f]{6}", recurring_id):
            raise RequestError(HTTPStatus.BAD_REQUEST, "id is that of a sound that recurs")
        if isinstance(days, bool) or not isinstance(days, int) or not 1 <= days <= DAYS_MAX:
            raise RequestError(HTTPStatus.BAD_REQUEST, f"days is a whole number from 1 to {DAYS_MAX}")
        return await self._found(days, "--ignore", recurring_id)

    async def _found(self, days: int, *more: str) -> Response:
        parts = self._parts
        arguments: Sequence[str] = ["discover", "--last", f"{days}d", *more]
        try:
            found = await parts.commands.run(parts.config(), directory_of(parts.directory), arguments)
        except StreamerError as error:
            raise RequestError(HTTPStatus.CONFLICT, str(error)) from None
        return JSONResponse({**found, "sounds": [_fields(one) for one in found["sounds"]]})


def _fields(one: Mapping[str, Any]) -> dict[str, object]:
    names = ("id", "source", "seconds", "hours", "most_like")
    return {
        **{name: one[name] for name in names},
        "n": len(one["times"]),
        "latest": one["times"][: -LATEST - 1 : -1],
    }
