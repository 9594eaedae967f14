"""/metrics for Prometheus and /healthz for container engines and other supervisors."""

from __future__ import annotations

from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from streamer.ops.health import Health
from streamer.ops.prometheus import CONTENT_TYPE, Exposition
from streamer.web.guard import ScopedRoute


def metrics_routes(exposition: Exposition, health: Health) -> list[ScopedRoute]:
    """/metrics needs the scope *look*; /healthz is for everybody: one line."""

    async def metrics(_: Request) -> Response:
        return Response(exposition.text(), headers={"Content-Type": CONTENT_TYPE})

    async def healthz(_: Request) -> Response:
        problems = health.problems()
        status = HTTPStatus.SERVICE_UNAVAILABLE if problems else HTTPStatus.OK
        return PlainTextResponse(f"{'; '.join(problems) or health.line()}\n", status)

    return [ScopedRoute("/metrics", metrics, needs="look"), ScopedRoute("/healthz", healthz, needs=None)]
