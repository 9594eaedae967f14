"""Routes of the page itself and the files that it consists of, which are read once."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterator
from http import HTTPStatus
from importlib.resources import files
from pathlib import Path
from string import Template

from starlette.requests import Request
from starlette.responses import Response

from streamer.language import Names
from streamer.web.guard import RequestError, ScopedRoute

MEDIA = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}


class StaticFiles:
    """Served by their exact names; no path of a request leads to a file."""

    def __init__(self, names: Callable[[], Names]) -> None:
        self._names = names
        self._static = dict(_static_files())
        self._page = Template(self._static.pop("index.html").decode())
        self.routes = [
            ScopedRoute("/", self.page, needs=None),
            ScopedRoute("/static/{name:path}", self.static, needs=None),
        ]

    async def page(self, _: Request) -> Response:
        """With its words in it, which so take no request of their own."""
        names = self._names()
        words = names.page()
        content = self._page.substitute(
            language=names.language,
            words=json.dumps(words, ensure_ascii=False).replace("<", "\\u003c"),
            no_script=html.escape(words["no_script"]),
        )
        return Response(content, media_type="text/html", headers={"Cache-Control": "no-cache"})

    async def static(self, request: Request) -> Response:
        name = request.path_params["name"]
        content = self._static.get(name)
        if content is None:
            raise RequestError(HTTPStatus.NOT_FOUND, "no such file")
        headers = {"Cache-Control": "no-cache"}
        return Response(content, media_type=MEDIA.get(Path(name).suffix, "text/plain"), headers=headers)


def _static_files() -> Iterator[tuple[str, bytes]]:
    """Name and content of what the page consists of, read once."""
    folder = files("streamer.web") / "static"
    for entry in folder.iterdir():
        if entry.is_file():
            yield entry.name, entry.read_bytes()
        elif entry.name == "vendor":
            for one in entry.iterdir():
                yield f"vendor/{one.name}", one.read_bytes()
