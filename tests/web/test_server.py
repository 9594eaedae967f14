"""The servers: metrics and health, ports that are taken, a path in front of the page."""

from __future__ import annotations

import asyncio
import http.client
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from streamer.core.tasks import running
from streamer.metrics import Metrics
from streamer.ops.health import Health
from streamer.ops.prometheus import Exposition
from streamer.ops.systemd import Notifier
from streamer.run.page import metrics_server
from streamer.web.metrics import metrics_routes
from tests.web.conftest import fill
from tests.web.site import served
from tests.web.test_page import chromium


@asynccontextmanager
async def serving(metrics: Metrics, health: Health, port: int = 0) -> AsyncIterator[int]:
    server = metrics_server(port, metrics_routes(Exposition(metrics, health), health))
    server.bind()
    async with running(server.run(), "metrics"):
        yield int(server.address.rstrip("/").rpartition(":")[2] or 0)


async def get(port: int, path: str, host: str = "localhost", method: str = "GET") -> tuple[int, str]:
    def ask() -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request(method, path, headers={"Host": host})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    return await asyncio.to_thread(ask)


@pytest.mark.parametrize(
    ("problems", "status", "body"),
    [([], 200, "starting\n"), (["the model hangs", "no disk"], 503, "the model hangs; no disk\n")],
)
async def test_health(problems: list[str], status: int, body: str) -> None:
    """200 with a line for people while every part is alive, else 503 with what is wrong."""
    health = Health(metrics := Metrics(), Notifier())
    health.set_parts({text: lambda text=text: text for text in problems}, lambda: False)  # type: ignore[misc]  # bound now
    async with serving(metrics, health) as port:
        assert await get(port, "/healthz?verbose=1") == (status, body)


async def test_who_is_refused() -> None:
    """Another path, another method, and a web page that rebinds DNS."""
    health = Health(metrics := Metrics(), Notifier())
    async with serving(metrics, health) as port:
        assert (await get(port, "/"))[0] == 404
        assert (await get(port, "/metrics", method="POST"))[0] == 403
        assert (await get(port, "/metrics", host="attacker.example"))[0] == 421
        status, text = await get(port, "/metrics", host=f"127.0.0.1:{port}")
        assert status == 200
        assert "streamer_healthy 1.0" in text


async def test_a_port_that_is_taken(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, the daemon runs on, and the server is there as soon as the port is free."""
    health = Health(metrics := Metrics(), Notifier())
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        server = metrics_server(port, metrics_routes(Exposition(metrics, health), health))
        server.bind()
        assert f"the metrics cannot be served at 127.0.0.1:{port}: Address already in use" in caplog.text
        assert server.problem()
        run = asyncio.create_task(server.run())
        await asyncio.sleep(0.1)
    async with asyncio.timeout(30):
        while server.problem():  # noqa: ASYNC110  # as a user would see it
            await asyncio.sleep(0.1)
        assert (await get(port, "/healthz"))[0] == 200
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)


def test_the_next_free_port(tmp_path: Path) -> None:
    """`make run` twice on one machine: two pages."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with served(tmp_path, port=port) as site:
            assert port < site.port < port + 20


@contextmanager
def proxy(port: int, prefix: str, header: bytes = b"", frame: bytes = b"") -> Iterator[int]:
    """A reverse proxy that takes `prefix` off each path, adds a header line, and has `frame` at /.

    All else is 404.
    """
    listening = socket.create_server(("127.0.0.1", 0))

    def forward(client: socket.socket) -> None:
        with client, client.makefile("rb") as reader:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                if not (line := reader.readline()):
                    return
                head += line
            method, path, rest = head.split(b" ", 2)
            if frame and path == b"/":
                length = f"Content-Length: {len(frame)}\r\nConnection: close\r\n\r\n".encode()
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n" + length + frame)
                return
            if not path.startswith(prefix.encode()):
                client.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            kept = [line for line in rest.split(b"\r\n") if not line.lower().startswith(b"connection:")]
            body = [line for line in kept if line.lower().startswith(b"content-length:")]
            data = reader.read(int(body[0].partition(b":")[2])) if body else b""
            with socket.create_connection(("127.0.0.1", port)) as server:
                first = b" ".join((method, b"/" + path.removeprefix(prefix.encode()), kept[0]))
                added = [header] if header else []
                server.sendall(b"\r\n".join((first, b"Connection: close", *added, *kept[1:])) + data)
                while piece := server.recv(65536):
                    try:
                        client.sendall(piece)
                    except OSError:
                        return

    def accept() -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=forward, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listening.getsockname()[1]
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()


@pytest.mark.slow
def test_behind_a_path(tmp_path: Path) -> None:
    """The page works below any path with nothing to set: all its addresses are relative."""
    fill(tmp_path, 5)
    with (
        served(tmp_path) as site,
        proxy(site.port, "/x/y/") as port,
        sync_playwright() as playwright,
        chromium(playwright) as browser,
    ):
        page = browser.new_page()
        asked: list[tuple[str, int]] = []
        page.on("response", lambda answer: asked.append((answer.url, answer.status)))
        page.goto(f"http://127.0.0.1:{port}/x/y/")
        for view in ("Events", "Sounds", "Health", "Now"):
            page.get_by_role("navigation").get_by_role("link", name=view).click()
            page.wait_for_timeout(500)
        page.goto(f"http://127.0.0.1:{port}/x/y/#/events")
        page.locator(".entry").first.click()
        page.locator(".review").get_by_role("button", name="Right", exact=True).click()
        expect(page.locator('.review [aria-pressed="true"]')).to_be_visible()
        assert [one for one in asked if one[1] >= 400 or "/x/y/" not in one[0]] == []
        assert len(site.get("events?verdict=right")["events"]) == 1


@pytest.mark.slow
def test_in_a_frame_of_home_assistant(tmp_path: Path) -> None:
    """Behind its ingress the page works in its frame, signed in, for whoever it lets through."""
    (tmp_path / "web-password").write_text("correct horse\n")
    fill(tmp_path, 5)
    prefix = "/api/hassio_ingress/ab-c_1"
    frame_page = f'<!doctype html><link rel="icon" href="data:,"><iframe src="{prefix}/" width=360></iframe>'
    with (
        served(tmp_path, ingress_proxies=["127.0.0.1"]) as site,
        proxy(
            site.port,
            f"{prefix}/",
            f"X-Ingress-Path: {prefix}".encode(),
            frame_page.encode(),
        ) as port,
        sync_playwright() as playwright,
        chromium(playwright) as browser,
    ):
        page = browser.new_page()
        asked: list[tuple[str, int]] = []
        page.on("response", lambda answer: asked.append((answer.url, answer.status)))
        page.goto(f"http://127.0.0.1:{port}/")
        frame = page.frame_locator("iframe")
        for view in ("Events", "Sounds", "Health", "Now"):
            frame.get_by_role("navigation").get_by_role("link", name=view).click()
            expect(frame.get_by_role("heading", level=1)).to_have_text(view)
        frame.get_by_role("link", name="Events").first.click()
        frame.locator(".entry").first.click()
        frame.locator(".review").get_by_role("button", name="Right", exact=True).click()
        expect(frame.locator('.review [aria-pressed="true"]')).to_be_visible()
        assert [one for one in asked[1:] if one[1] >= 400 or prefix not in one[0]] == []
