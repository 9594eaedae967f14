"""The route of the live stream: server-sent events until the page leaves, is too slow, or the feed ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Send
from starlette.types import Scope as Connection

from streamer.config.schema import Config
from streamer.web.feed import Feed, FullError
from streamer.web.guard import ScopedRoute
from streamer.web.request import caller_of

WRITE_S = 10.0
"""a stream whose reader takes longer to read is ended"""


class Live:
    """One route."""

    def __init__(self, config: Callable[[], Config], feed: Feed) -> None:
        self._config = config
        self._feed = feed
        self.routes = [ScopedRoute("/api/1/live", self.live, needs="look", answers="text/event-stream")]

    async def live(self, request: Request) -> Response:
        """Server-sent events."""
        config, query = self._config(), request.query_params
        spectrum = query.get("spectrum") if query.get("spectrum") in config.sources else None
        named = query.get("sources")
        sources = None if not named else [one for one in named.split(",") if one in config.sources]
        return _Stream(
            self._feed,
            caller_of(request).address,
            sources,
            spectrum,
            request.headers.get("last-event-id", "")[:40],
        )


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
