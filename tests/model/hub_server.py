"""A small Hugging Face Hub on loopback: one model, as much of the protocol as fetching it takes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What is published, and what was asked for."""

    name: str
    files: dict[str, bytes]
    announced: dict[str, bytes] = field(default_factory=dict)
    """files whose published hash is of something else than what is served"""
    break_after: int | None = None
    """the connection is cut after so many bytes of the weights, once"""
    endpoint: str = ""
    served: list[str] = field(default_factory=list)

    def entry(self, name: str) -> dict[str, object]:
        content = self.announced.get(name, self.files[name])
        oid = hashlib.sha1(content, usedforsecurity=False).hexdigest()
        entry: dict[str, object] = {"size": len(self.files[name]), "blobId": oid}
        if name.endswith(".safetensors"):
            entry["lfs"] = {
                "sha256": hashlib.sha256(content).hexdigest(),
                "oid": hashlib.sha256(content).hexdigest(),
                "size": len(self.files[name]),
                "pointerSize": 134,
            }
        return entry


def published(directory: Path, name: str) -> Hub:
    return Hub(name, {path.name: path.read_bytes() for path in directory.iterdir()})


@contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(body=True)

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def _answer(self, body: bool) -> None:
            path = urlsplit(self.path).path
            if path.startswith(f"/api/models/{hub.name}/tree/"):
                tree = [
                    {"type": "file", "path": n, "oid": hub.entry(n)["blobId"], **hub.entry(n)}
                    for n in hub.files
                ]
                self._send(json.dumps(tree).encode(), body)
            elif path.startswith(f"/api/models/{hub.name}"):
                siblings = [{"rfilename": n, **hub.entry(n)} for n in hub.files]
                self._send(json.dumps({"id": hub.name, "sha": COMMIT, "siblings": siblings}).encode(), body)
            elif path.startswith(f"/{hub.name}/resolve/{COMMIT}/") and path.rpartition("/")[2] in hub.files:
                self._send_file(path.rpartition("/")[2], body)
            else:
                self.send_response(404)
                self.send_header("X-Error-Code", "RepoNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()

        def _send_file(self, name: str, body: bool) -> None:
            content, entry = hub.files[name], hub.entry(name)
            first = int((self.headers["Range"] or "bytes=0-")[6:].split("-")[0])
            self.send_response(206 if first else 200)
            self.send_header("ETag", f'"{entry["blobId"]}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(len(content) - first))
            if first:
                self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
            self.end_headers()
            if not body:
                return
            hub.served.append(f"{name} from {first}")
            if hub.break_after is not None and name == "model.safetensors":
                content, hub.break_after = content[: first + hub.break_after], None
                self.close_connection = True
            self.wfile.write(content[first:])

        def _send(self, content: bytes, body: bool) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
