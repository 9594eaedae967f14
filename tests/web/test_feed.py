"""The live stream: what each page gets, and that no page harms another."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import socket
import time
from collections.abc import Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

from streamer.capture.ring import Ring
from streamer.capture.tapes import Tapes
from streamer.mqtt.messages import event_message
from streamer.signal.spectrogram import N_BANDS, columns
from streamer.types import AudioBlock, Hearing, SourcePhase, SourceState
from streamer.web import feed as module
from streamer.web.feed import ADDRESS_MAX, CLIENTS_MAX, QUEUE_MAX, Client, Feed, FullError
from tests.contract.api import check_value
from tests.contract.wire import check
from tests.reports import T0, event
from tests.web.conftest import fill
from tests.web.site import Site, served

RATE = 16_000
T = TypeVar("T")


def feed(tapes: Tapes | None = None) -> Feed:
    return Feed(tapes or Tapes(), lambda one: event_message(one, "test"))


def waiting(client: Client) -> list[tuple[str, dict[str, object]]]:
    """Kind and fields of what is not sent yet; each is as its schema says."""
    texts = [*([] if client.so_far is None else [("spectrum", client.so_far())]), *client.waiting]
    found = [(kind, json.loads(text.partition("data: ")[2])) for kind, text in texts]
    for kind, fields in found:
        if kind == "event":
            check(f"streamer/test/{fields['source']}/event/{fields['phase']}", json.dumps(fields))
        elif kind not in ("resync", "bye", "stats", "control"):
            check_value(f"Live{kind.capitalize()}", fields)
    return found


def n_columns(client: Client) -> int:
    return sum(int(str(fields["n"])) for kind, fields in waiting(client) if kind == "spectrum")


def hearing(k: int) -> Hearing:
    return Hearing("kitchen", T0 + k, -40.0, {"Dog": 0.5}, sounds={"dog_bark": 0.5, "siren": 0.001})


def test_what_a_page_gets() -> None:
    """The state of each source at once, then what happens; a faint sound is left out."""
    live = feed()
    live.put(SourceState("kitchen", SourcePhase.LISTENING, T0))
    with live.open("", None, None, "") as client:
        live.put(hearing(0))
        live.put(event())
        (state, heard, began) = waiting(client)
    assert (state[0], state[1]["phase"]) == ("state", "listening")
    assert (heard[0], heard[1]["sounds"]) == ("heard", {"dog_bark": 0.5})
    assert (began[0], began[1]["phase"], began[1]["id"]) == ("event", "start", "e1")


def test_only_the_sources_that_were_asked_for() -> None:
    """A page of one room gets that room."""
    live = feed()
    with live.open("", ["hall"], None, "") as client:
        live.put(event(source="kitchen"))
        live.put(event(source="hall"))
        assert [fields["source"] for _, fields in waiting(client)] == ["hall"]


def test_a_slow_page_loses_levels_before_events() -> None:
    """Its queue is bounded; an event that does not fit becomes the order to ask anew."""
    live = feed()
    with live.open("", None, None, "") as slow, live.open("", None, None, "") as fast:
        for k in range(QUEUE_MAX):
            live.put(hearing(k))
        fast.waiting.clear()
        live.put(event())
        assert [kind for kind, _ in waiting(fast)] == ["event"]
        assert len(slow.waiting) == QUEUE_MAX
        assert "event" in [kind for kind, _ in waiting(slow)] or "resync" in [
            kind for kind, _ in waiting(slow)
        ]
        for k in range(3 * QUEUE_MAX):
            live.put(event(event_id=f"e{k}"))
        assert len(slow.waiting) <= QUEUE_MAX
        assert "resync" in [kind for kind, _ in waiting(slow)]


def test_a_page_that_was_away() -> None:
    """Gets the events that it has missed, or the order to ask anew where they are too many or of before."""
    live = feed()
    with live.open("", None, None, "") as client:
        live.put(event(event_id="a"))
        seen = client.waiting[0][1].partition("\n")[0].removeprefix("id: ")
    live.put(event(event_id="b"))
    with live.open("", None, None, seen) as client:
        assert [fields["id"] for _, fields in waiting(client)] == ["b"]
    with live.open("", None, None, "other-1") as client:
        assert [kind for kind, _ in waiting(client)] == ["resync"]
    for k in range(100):
        live.put(event(event_id=str(k)))
    with live.open("", None, None, seen) as client:
        assert [kind for kind, _ in waiting(client)] == ["resync"]


def test_a_change_just_before() -> None:
    """A page that asked for the settings before they changed, and listens after, gets them all the same."""
    live = feed()
    live.changed("control", {"kitchen": {"listen": False}})
    with live.open("", None, None, "") as client:
        assert waiting(client) == [("control", {"kitchen": {"listen": False}})]


def test_how_many_pages() -> None:
    """A bound in all and for each address; loopback may be a proxy, and has the first bound alone."""
    live = feed()
    with ExitStack() as stack:
        for _ in range(ADDRESS_MAX):
            stack.enter_context(live.open("10.0.0.1", None, None, ""))
        with pytest.raises(FullError):
            stack.enter_context(live.open("10.0.0.1", None, None, ""))
        for _ in range(CLIENTS_MAX - ADDRESS_MAX):
            stack.enter_context(live.open("127.0.0.1", None, None, ""))
        with pytest.raises(FullError):
            stack.enter_context(live.open("127.0.0.1", None, None, ""))
    assert live.n_clients == 0


def tape() -> tuple[Tapes, Ring]:
    ring = Ring(RATE, 60)
    tapes = Tapes()
    tapes.put("kitchen", ring)
    return tapes, ring


def tone(hertz: float, seconds: float) -> np.ndarray:
    times = np.arange(round(seconds * RATE)) / RATE
    return (0.1 * np.sin(2 * np.pi * hertz * times)).astype(np.float32)


async def test_a_spectrogram() -> None:
    """What is on the tape at once, then each column once, and nothing is computed for nobody."""
    tapes, ring = tape()
    ring.write(AudioBlock(tone(1000, 5), T0))
    live = feed(tapes)
    running = asyncio.create_task(live.run())
    try:
        with live.open("", None, "kitchen", "") as client:
            ring.write(AudioBlock(tone(1000, 1.5), T0 + 5))
            async with asyncio.timeout(10):
                while n_columns(client) < 104:  # noqa: ASYNC110  # a client has no event for it
                    await asyncio.sleep(0.05)
            pieces = [fields for kind, fields in waiting(client) if kind == "spectrum"]
        assert [int(str(piece["n"])) for piece in pieces] == [80, 24]
        assert pieces[1]["start"] == pytest.approx(float(str(pieces[0]["start"])) + 5, abs=0.01)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    drawn = np.frombuffer(base64.b64decode(str(pieces[0]["data"])), np.uint8).reshape(-1, N_BANDS)
    assert len(set(drawn[1:-1].argmax(axis=1))) == 1


async def test_a_spectrogram_that_nobody_watched_for_a_while() -> None:
    """A page that is opened later gets the latest half minute, not that of the last page's end."""
    tapes, ring = tape()
    live = feed(tapes)
    ring.write(AudioBlock(tone(1000, 5), T0))
    with live.open("", None, "kitchen", ""):
        pass
    ring.write(AudioBlock(tone(1000, 40), T0 + 5))
    with live.open("", None, "kitchen", "") as client:
        ((kind, piece),) = waiting(client)
    assert (kind, piece["n"]) == ("spectrum", 30 * 16)
    assert piece["start"] == pytest.approx(T0 + 15, abs=0.01)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
def test_the_band_of_a_tone(rate: int) -> None:
    """A higher tone is in a higher band, at every rate; silence is black."""
    times = np.arange(rate) / rate
    tones = [(0.1 * np.sin(2 * np.pi * hertz * times)).astype(np.float32) for hertz in (200, 800, 3000)]
    bands = [int(np.median(columns(one, rate).argmax(axis=1))) for one in tones]
    assert bands == sorted(set(bands))
    assert columns(np.zeros(rate, np.float32), rate).max() == 0
    assert columns(np.zeros(10, np.float32), rate).shape == (0, N_BANDS)


@contextmanager
def listening(site: Site, query: str = "", receives: int | None = None) -> Iterator[socket.socket]:
    """A page's connection, whose stream has begun; its system takes in so many bytes that nobody reads."""
    with socket.socket() as connection:
        if receives is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives)
        connection.settimeout(20)
        connection.connect(("127.0.0.1", site.port))
        connection.sendall(f"GET /api/1/live{query} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        received = b""
        while b"retry: 3000" not in received:
            piece = connection.recv(4096)
            assert piece, received
            received += piece
        yield connection


def test_pages_that_vanish(site: Site) -> None:
    """Each leaves nothing behind, and the seventeenth at once is told that there are too many."""
    for _ in range(3):
        with ExitStack() as stack:
            for _ in range(CLIENTS_MAX):
                stack.enter_context(listening(site))
            refused = site.ask("GET", "/api/1/live")
            assert (refused.status, refused.fields) == (503, {"error": "too many open pages"})
        deadline = asyncio.run_coroutine_threadsafe(until_none(site), site.loop)
        deadline.result(20)


async def test_nothing_is_computed_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """No spectrum without a page that shows one, also where pages are open that do not."""
    drawn = list[int]()
    monkeypatch.setattr(module, "columns", lambda samples, rate: drawn.append(1) or columns(samples, rate))
    monkeypatch.setattr(module, "SPECTRUM_S", 0.01)
    tapes, ring = Tapes(), Ring(RATE)
    tapes.put("kitchen", ring)
    live = feed(tapes)

    async def hear(n: int) -> None:
        for k in range(n):
            ring.write(AudioBlock(np.full(RATE // 10, 0.1, np.float32), T0 + k / 10))
            live.put(hearing(k))
            await asyncio.sleep(0.02)

    running = asyncio.create_task(live.run())
    await hear(10)
    with live.open("", None, None, ""):
        await hear(10)
    assert drawn == []
    with live.open("", None, "kitchen", ""):
        await hear(10)
    assert drawn
    running.cancel()
    await asyncio.wait((running,))


def test_pages_that_do_not_read(site: Site) -> None:
    """Each has a bounded queue, and loses what does not fit; a page beside them misses no event."""
    n = 150
    with ExitStack() as stack:
        for _ in range(CLIENTS_MAX - 1):
            stack.enter_context(listening(site)).setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader = stack.enter_context(listening(site))

        def put(k: int) -> None:
            site.page.feed.put(event(event_id=f"{k:012x}"))
            for _ in range(60):
                site.page.feed.put(hearing(k))

        received = b""
        for k in range(n):
            site.loop.call_soon_threadsafe(put, k)
            while f'"id":"{k:012x}"'.encode() not in received:
                received = received[-2000:] + (data := reader.recv(65536))
                assert data
        *slow, _ = site.page.feed._clients
        assert max(len(client.waiting) for client in slow) <= QUEUE_MAX
        assert min(client.dropped for client in slow) > 0
        assert sum(len(text) for client in slow for _, text in client.waiting) < 10 << 20
    asyncio.run_coroutine_threadsafe(until_none(site), site.loop).result(20)


def test_sixteen_pages_that_do_not_read_are_bounded_in_bytes(site: Site) -> None:
    """All that waits for one, in its queue, as half a minute of spectrogram, in its socket: under 128 kB."""
    ring = Ring(RATE, 60)
    ring.write(AudioBlock(tone(1000, 60), time.time() - 60))
    site.tapes.put("kitchen", ring)

    async def queued() -> int:
        clients = site.page.feed._clients
        assert len(clients) == CLIENTS_MAX
        texts = [text for client in clients for _, text in client.waiting]
        texts += [client.so_far() for client in clients if client.so_far is not None]
        transports = [one for one in gc.get_objects() if isinstance(one, asyncio.WriteTransport)]
        ours = [one for one in transports if (one.get_extra_info("sockname") or (0, 0))[1] == site.port]
        assert len(ours) >= CLIENTS_MAX
        return sum(map(len, texts)) + sum(one.get_write_buffer_size() for one in ours)

    async def put(n: int) -> int:
        """What waits then, before the last hundred messages can be written."""
        for k in range(n):
            site.page.feed.put(event(event_id=f"{k:012x}"))
            site.page.feed.put(hearing(k))
            if k % 100 == 0:
                await asyncio.sleep(0.02)
        return await queued()

    def now(task: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(task, site.loop).result(60)

    with ExitStack() as stack:
        for _ in range(CLIENTS_MAX):
            stack.enter_context(listening(site, "?spectrum=kitchen", receives=4096))
        assert 0 < max(now(put(300)), now(put(600))) < CLIENTS_MAX * (128 << 10)
        assert [one for one in site.page.feed._clients if one.so_far is not None] == []  # nor its samples
    now(until_none(site))


def test_pages_that_vanish_leave_no_file_open(site: Site) -> None:
    """A thousand connections that begin a stream and drop it: as many descriptors as before."""
    for _ in range(2):  # whatever is opened once is open
        with listening(site):
            pass
    asyncio.run_coroutine_threadsafe(until_none(site), site.loop).result(20)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(1000):
        with listening(site):
            pass
    asyncio.run_coroutine_threadsafe(until_none(site), site.loop).result(20)
    deadline = time.monotonic() + 20
    while len(list(Path("/proc/self/fd").iterdir())) > before:
        assert time.monotonic() < deadline
        time.sleep(0.02)


async def until_none(site: Site) -> None:
    while site.page.feed.n_clients:  # noqa: ASYNC110  # that a connection ended is no event of it
        await asyncio.sleep(0.02)


def test_the_end(tmp_path: Path) -> None:
    """A page that is open when the daemon stops is told so, and does not keep it."""
    fill(tmp_path, 1)
    with ExitStack() as open_page:
        with served(tmp_path) as site:
            connection = open_page.enter_context(listening(site))
        received = b""
        while data := connection.recv(4096):
            received += data
    assert b"event: bye" in received
