"""A small server that answers add-ons as the supervisor's documentation has it: services/mqtt, by token."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "b8c1f0"  # noqa: S105  # of this test's own server


@dataclass
class Supervisor:
    """Knows a broker once `mqtt` is set."""

    address: str = ""
    mqtt: Mapping[str, object] | None = None
    requests: list[str] = field(default_factory=list)
    answer: bytes | None = None
    """sent as it is in the place of any answer"""

    def reply(self, path: str, authorization: str | None) -> tuple[HTTPStatus, bytes]:
        self.requests.append(path)
        if self.answer is not None:
            return HTTPStatus.OK, self.answer
        if authorization != f"Bearer {TOKEN}":
            return HTTPStatus.UNAUTHORIZED, b"401: Unauthorized"
        if path != "/services/mqtt":
            return HTTPStatus.NOT_FOUND, b'{"result": "error", "message": "Service does not exist"}'
        if self.mqtt is None:
            return HTTPStatus.BAD_REQUEST, b'{"result": "error", "message": "Service not enabled"}'
        return HTTPStatus.OK, json.dumps({"result": "ok", "data": dict(self.mqtt)}).encode()


@contextmanager
def serving() -> Iterator[Supervisor]:
    """While the block runs."""
    supervisor = Supervisor()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = supervisor.reply(self.path, self.headers["Authorization"])
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    supervisor.address = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield supervisor
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
