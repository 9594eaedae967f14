"""A real HTTP server that takes alerts as Apprise's `json://` sends them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

SECRET = "canary-of-the-alerts"  # noqa: S105  it must not appear anywhere


class Receiver:
    """What has arrived, and with which status it is answered."""

    def __init__(self) -> None:
        self.alerts: list[dict[str, Any]] = []
        self.status = 200
        self.n_requests = 0
        self.port = 0

    @property
    def url(self) -> str:
        return f"json://home:{SECRET}@127.0.0.1:{self.port}/{SECRET}"

    @property
    def titles(self) -> list[str]:
        return [alert["title"] for alert in self.alerts]

    @contextmanager
    def serving(self, port: int = 0) -> Iterator[Receiver]:
        """At a port, or at one that is free."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.n_requests += 1
                if receiver.status < 300:
                    receiver.alerts.append(json.loads(body))
                self.send_response(receiver.status)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
            self.port = server.server_address[1]
            Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
            try:
                yield self
            finally:
                server.shutdown()
