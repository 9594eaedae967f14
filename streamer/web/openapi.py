"""The API as an OpenAPI document, made from the routes themselves: paths, parameters, scopes, first lines.

https://spec.openapis.org/oas/v3.1.0
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from streamer import __version__
from streamer.web.guard import COOKIE, ScopedRoute

SCHEMAS = Path(__file__).with_name("answers.json")
_ERROR = {
    "description": "one sentence that says what is right",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
}


class OpenApi:
    """One route; `routes` are those that the document describes, itself included."""

    def __init__(self, routes: Sequence[ScopedRoute]) -> None:
        self.routes = [ScopedRoute("/api/1/openapi.json", self.document, needs="look", answers="OpenApi")]
        self._described = [*routes, *self.routes]

    async def document(self, _: Request) -> Response:
        """The description of the API, made from its routes."""
        return JSONResponse(document(self._described))


def document(routes: Sequence[ScopedRoute]) -> dict[str, Any]:
    """All of `/api/1/`."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        if route.path.startswith("/api/1/"):
            for method in sorted((route.methods or set()) - {"HEAD"}):
                paths.setdefault(route.path, {})[method.lower()] = _operation(route, method)
    return {
        "openapi": "3.1.0",
        "info": {"title": "streamer", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": json.loads(SCHEMAS.read_text(encoding="utf-8")),
            "securitySchemes": {
                "session": {"type": "apiKey", "in": "cookie", "name": COOKIE},
                "token": {"type": "http", "scheme": "bearer"},
            },
        },
    }


def _operation(route: ScopedRoute, method: str) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": f"{method.lower()}_{route.name}",
        "summary": (inspect.getdoc(route.endpoint) or "").partition("\n")[0],
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in re.findall(r"{(\w+)", route.path)
        ],
        "responses": {"2XX": _answer(route.answers), "4XX": _ERROR, "5XX": _ERROR},
        "security": [] if route.needs is None else [{"session": [route.needs]}, {"token": [route.needs]}],
    }
    if method not in ("GET", "DELETE"):
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": {"type": "object"}}},
        }
    if method != "GET":
        operation["parameters"].append(
            {"name": "X-Streamer", "in": "header", "required": True, "schema": {"const": "1"}}
        )
    return operation


def _answer(answers: str) -> dict[str, Any]:
    if not answers:
        return {"description": "done; nothing is answered"}
    if "/" in answers:
        return {"description": "as docs/web.md says", "content": {answers: {"schema": {"type": "string"}}}}
    schema = {"$ref": f"#/components/schemas/{answers}"}
    return {"description": "as docs/web.md says", "content": {"application/json": {"schema": schema}}}
