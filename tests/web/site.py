"""The page over a real history, served in a thread of the test's process."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from streamer.capture.tapes import Tapes
from streamer.config.control import Control
from streamer.config.schema import Config
from streamer.core.json_file import JsonFile
from streamer.run.page import Page, open_page, page_parts
from streamer.web.openapi import document
from streamer.web.shared import Shared
from tests.contract.api import check_answer

DEADLINE_S = 30.0
PUBLIC_URL = "http://127.0.0.1:8927/ears"
"""at which phones reach the page: behind a proxy that knows it as /ears"""
WRITING = {"Content-Type": "application/json", "X-Streamer": "1"}


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def fields(self) -> dict[str, Any]:
        values: dict[str, Any] = json.loads(self.body)
        return values


@dataclass
class Site:
    page: Page
    config: Config
    control: Control
    tapes: Tapes
    shared: Shared
    loop: asyncio.AbstractEventLoop

    @cached_property
    def _described(self) -> dict[str, Any]:
        """The OpenAPI document."""
        return document(self.page.routes)

    @property
    def port(self) -> int:
        return int(self.page.server.address.rstrip("/").rpartition(":")[2])

    def ask(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: object = None,
        token: str = "",
    ) -> Answer:
        """One request; one that changes something has the headers that the page sends, unless given."""
        sent = dict(WRITING if method not in ("GET", "HEAD") and headers is None else headers or {})
        if token:
            sent["Authorization"] = f"Bearer {token}"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)
        try:
            data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
            connection.putrequest(method, path, skip_host="Host" in sent)
            for name, value in {
                **sent,
                **({} if data is None else {"Content-Length": str(len(data))}),
            }.items():
                connection.putheader(name, value)
            connection.endheaders(data)
            answer = connection.getresponse()
            found = Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()
        bare = path.partition("?")[0]
        check_answer(self._described, method, bare, found.status, found.headers, found.body)
        return found

    def get(self, path: str, *, token: str = "") -> dict[str, Any]:
        answer = self.ask("GET", f"/api/1/{path}", token=token)
        assert answer.status == 200, answer.body
        return answer.fields


CONFIG: dict[str, Any] = {
    "node": "test",
    "sources": {
        "kitchen": {"microphone": "default", "name": "Küche"},
        "hall": {"microphone": "default"},
    },
    "sounds": {
        "dog_bark": {"labels": ["Dog", "Bark"], "on": 0.6},
        "siren": {"labels": ["Siren"]},
        "smoke_alarm": {"labels": ["Smoke detector, smoke alarm"], "priority": "critical"},
        "loud_noise": {"above_background_db": 25.0},
    },
}


@contextmanager
def served(
    directory: Path,
    *,
    language: str = "en",
    name: str = "",
    base: Mapping[str, Any] = MappingProxyType(CONFIG),
    clips: dict[str, Any] | None = None,
    sounds: dict[str, Any] | None = None,
    **web: Any,
) -> Iterator[Site]:
    """`directory` has, or gets, the history; `name` is the kitchen's, `clips` and `web` are sections.

    `base` has the rest, and `sounds` further ones.
    """
    section = {"enabled": True, "next_free_port": True, **web}
    values = {**base, "language": language, "web": section, "clips": clips or {}}
    values["sounds"] = {**base["sounds"], **(sounds or {})}
    if name:
        values["sources"] = {**CONFIG["sources"], "kitchen": {"microphone": "default", "name": name}}
    config = Config.model_validate(values)
    control = Control(config, JsonFile(directory, "control.json"))
    tapes = Tapes()
    report = {"healthy": True, "line": "all is well", "uptime_s": 1, "sources": {}}
    shared = Shared(directory, PUBLIC_URL, lambda: config, tapes)
    parts = page_parts(config, lambda: config, directory, control, lambda: report, tapes, shared=shared)
    page = open_page(config.web, parts)
    loop = asyncio.new_event_loop()
    serving = loop.create_task(page.run())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield Site(page, config, control, tapes, shared, loop)
    finally:
        asyncio.run_coroutine_threadsafe(_ended(serving), loop).result(DEADLINE_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(DEADLINE_S)
        loop.close()


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
