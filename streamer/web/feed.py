"""What the page sees live: a stream of server-sent events for each open page, with a bounded queue.

A page that is slow or gone harms no other: its own queue drops levels and spectra, oldest first. An event
that does not fit becomes `resync`, upon which the page asks for the list anew.
"""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from streamer.capture.ring import Excerpt, Ring
from streamer.capture.tapes import Tapes
from streamer.core.addresses import is_loopback
from streamer.core.threads import in_thread
from streamer.signal.spectrogram import COLUMNS_S, columns
from streamer.types import Hearing, Report, SoundEvent, SourceState, Stats

QUEUE_MAX = 32
"""messages that wait for one page"""
CLIENTS_MAX, ADDRESS_MAX = 16, 8
"""streams in all, and of one address"""
RESEND_MAX = 200
"""events that a page which was away is sent again"""
SPECTRUM_S = 0.25
"""seconds between two pieces of a spectrogram"""
SO_FAR_S = 30
"""seconds of a spectrogram that a newly opened page gets at once"""
COMMENT_S = 15.0
"""a comment is sent this often, so that proxies keep the stream open"""
DROPPED_FIRST = ("spectrum", "heard")
"""kinds of which an old message may be left out: the next one replaces it"""


class FullError(Exception):
    """There are as many streams as there may be."""


@dataclass(slots=True)
class Client:
    """One open page."""

    address: str
    sources: frozenset[str] | None
    """those it asks for; all where None"""
    spectrum: str | None
    """the source whose spectrogram it shows"""
    waiting: deque[tuple[str, str]] = field(default_factory=deque)
    """kind and text of the messages that are not sent yet"""
    so_far: Callable[[], str] | None = None
    """makes the message with the latest half minute of the spectrogram, which goes before all others"""
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    dropped: int = 0
    closed: bool = False

    def put(self, kind: str, text: str) -> None:
        if len(self.waiting) >= QUEUE_MAX:
            self._make_room()
            kind, text = ("resync", _message("resync", {})) if kind not in DROPPED_FIRST else (kind, text)
        if kind == "resync" and any(waiting == "resync" for waiting, _ in self.waiting):
            return
        self.waiting.append((kind, text))
        self.ready.set()

    def _make_room(self) -> None:
        self.dropped += 1
        old = next((i for i, (waiting, _) in enumerate(self.waiting) if waiting in DROPPED_FIRST), None)
        if old is not None:
            del self.waiting[old]
        else:  # nothing but events: the page has to ask for the list anyway
            self.waiting.clear()


class Feed:
    """A sink whose readers are pages. Costs nothing while there are none."""

    def __init__(self, tapes: Tapes, encode: Callable[[SoundEvent], Mapping[str, object]]) -> None:
        """`encode` gives the fields of an event as they are over MQTT."""
        self._tapes = tapes
        self._encode = encode
        self._clients: list[Client] = []
        self._life = secrets.token_hex(3)
        """tells the ids of this process from those of one before"""
        self._n_events = 0
        self._recent: deque[tuple[int, str]] = deque(maxlen=RESEND_MAX)
        self._states: dict[str, str] = {}
        self._control = ""
        """the latest `control`: a page may have asked for it just before it changed"""
        self._sampled: dict[str, tuple[int, int]] = {}
        """by source, the ring's identity and the index up to which its spectrum was sent"""
        self.dropped: Counter[str] = Counter()

    def put(self, report: Report) -> None:
        """As a sink: never blocks."""
        match report:
            case SoundEvent():
                self._n_events += 1
                text = _message("event", self._encode(report), f"{self._life}-{self._n_events}")
                self._recent.append((self._n_events, text))
                self._send("event", text, report.source_id)
            case SourceState():
                fields = {
                    "source": report.source_id,
                    "phase": report.phase,
                    "reason": report.reason,
                    "problem": report.problem,
                    "at": report.at,
                }
                self._states[report.source_id] = text = _message("state", fields)
                self._send("state", text, report.source_id)
            case Hearing():
                if self._clients:
                    self._send("heard", _message("heard", _heard(report)), report.source_id)
            case Stats():
                if self._clients:
                    self._send("stats", _message("stats", dict(report.values)), None)

    async def run(self) -> None:
        """Send spectra until cancelled."""
        try:
            while True:
                await asyncio.sleep(SPECTRUM_S)
                for source_id in {client.spectrum for client in self._clients if client.spectrum}:
                    self._send_spectrum(source_id)
        finally:
            for client in self._clients:
                client.closed = True
                client.put("bye", _message("bye", {}))

    def changed(self, kind: str, fields: Mapping[str, object]) -> None:
        """Something that pages show was changed: `control` or `review`."""
        text = _message(kind, fields)
        if kind == "control":
            self._control = text
        self._send(kind, text, None)

    @contextmanager
    def open(
        self, address: str, sources: Sequence[str] | None, spectrum: str | None, last_id: str
    ) -> Iterator[Client]:
        """A client for the block. Raises FullError."""
        if len(self._clients) >= CLIENTS_MAX:
            raise FullError
        n_own = sum(client.address == address for client in self._clients)
        if n_own >= ADDRESS_MAX and address and not is_loopback(address):
            raise FullError
        client = Client(address, None if sources is None else frozenset(sources), spectrum)
        for source_id, text in self._states.items():
            if client.sources is None or source_id in client.sources:
                client.waiting.append(("state", text))
        if self._control:
            client.waiting.append(("control", self._control))
        client.waiting.extend(self._missed(last_id))
        if spectrum is not None:
            client.so_far = self._spectrum_so_far(spectrum)
        client.ready.set()
        self._clients.append(client)
        try:
            yield client
        finally:
            self._clients.remove(client)
            self.dropped["messages"] += client.dropped

    @property
    def n_clients(self) -> int:
        return len(self._clients)

    async def messages(self, client: Client) -> AsyncIterator[bytes]:
        """The bytes of a client's stream, as they come, until the feed ends."""
        yield b"retry: 3000\n\n"
        if client.so_far is not None:  # half a minute would hold up the event loop for some frames of audio
            text = await in_thread(client.so_far, "spectrogram")
            client.so_far = None  # it has the samples, 2 MB
            yield text.encode()
        while not (client.closed and not client.waiting):
            if not client.waiting:
                client.ready.clear()
                try:
                    async with asyncio.timeout(COMMENT_S):
                        await client.ready.wait()
                except TimeoutError:
                    yield b": still here\n\n"
                    continue
            yield client.waiting.popleft()[1].encode()

    def _missed(self, last_id: str) -> list[tuple[str, str]]:
        """What a page that had seen `last_id` has not seen."""
        if not last_id:
            return []
        life, _, number = last_id.partition("-")
        oldest = self._recent[0][0] if self._recent else self._n_events + 1
        if life != self._life or not number.isdigit() or int(number) + 1 < oldest:
            return [("resync", _message("resync", {}))]
        missed = [("event", text) for n, text in self._recent if n > int(number)]
        return missed if len(missed) < QUEUE_MAX // 2 else [("resync", _message("resync", {}))]

    def _send(self, kind: str, text: str, source_id: str | None) -> None:
        for client in self._clients:
            if source_id is None or client.sources is None or source_id in client.sources:
                client.put(kind, text)

    def _spectrum_so_far(self, source_id: str) -> Callable[[], str] | None:
        """The latest half minute, for a page that has just been opened, to be computed; None without one."""
        ring = self._tapes.ring(source_id)
        if ring is None:
            return None
        hop = ring.sample_rate // COLUMNS_S
        end = self._sent(source_id, ring)
        if end is None:
            end = ring.end - ring.end % hop
        n = min(SO_FAR_S * COLUMNS_S, (end - ring.start) // hop)
        if n <= 0:
            return None
        self._sampled[source_id] = id(ring), end
        excerpt, rate = ring.read(end - n * hop, end), ring.sample_rate
        return lambda: _spectrum(source_id, excerpt, rate)

    def _sent(self, source_id: str, ring: Ring) -> int | None:
        """Up to which sample the spectrum was sent; None where nobody has watched it lately."""
        identity, sent = self._sampled.get(source_id, (0, 0))
        return sent if identity == id(ring) and ring.end - sent <= 2 * ring.sample_rate else None

    def _send_spectrum(self, source_id: str) -> None:
        ring = self._tapes.ring(source_id)
        if ring is None:
            return
        hop = ring.sample_rate // COLUMNS_S
        sent = self._sent(source_id, ring)
        if sent is None:
            sent = max(0, ring.end - ring.end % hop - ring.sample_rate)
        n = (ring.end - sent) // hop
        if n <= 0:
            return
        self._sampled[source_id] = id(ring), sent + n * hop
        text = _spectrum(source_id, ring.read(sent, sent + n * hop), ring.sample_rate)
        for client in self._clients:
            if client.spectrum == source_id:
                client.put("spectrum", text)


def _spectrum(source_id: str, excerpt: Excerpt, sample_rate: int) -> str:
    """A message with the columns of some samples."""
    drawn = columns(excerpt.samples, sample_rate)
    data = base64.b64encode(drawn.tobytes()).decode()
    n = len(drawn)
    fields = {"source": source_id, "start": excerpt.start, "columns_s": COLUMNS_S, "n": n, "data": data}
    return _message("spectrum", fields)


def _heard(hearing: Hearing) -> dict[str, object]:
    return {
        "source": hearing.source_id,
        "at": round(hearing.at, 3),
        "level_dbfs": round(hearing.level_dbfs, 1),
        "level_dba": None if hearing.level_dba is None else round(hearing.level_dba, 1),
        "top": {label: round(score, 3) for label, score in hearing.top.items()},
        "sounds": {sound: round(score, 3) for sound, score in hearing.sounds.items() if score >= 0.01},
        "problem": hearing.problem,
    }


def _message(kind: str, fields: Mapping[str, object], event_id: str = "") -> str:
    """One message of the stream (WHATWG HTML, server-sent events)."""
    first = f"id: {event_id}\n" if event_id else ""
    return f"{first}event: {kind}\ndata: {json.dumps(fields, separators=(',', ':'))}\n\n"
