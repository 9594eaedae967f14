"""What is asked over HTTP by ourselves: where an address leads, and the pieces of HLS; each host is checked.

FFmpeg would follow a redirect, and a list of HLS, to any host; so it is told to follow none.
"""

from __future__ import annotations

import base64
import http.client
import io
import urllib.error
import urllib.request
from typing import NamedTuple
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

import streamer
from streamer.core.addresses import may_lead
from streamer.core.printable import address_for_people
from streamer.errors import SourceError

TIMEOUT_S = 10.0
"""for a piece of HLS, as FFmpeg has it for a stream"""
ASK_S = 3.0
"""for the first bytes at an address"""
HEAD = 8192
"""bytes that are read of it"""
_REDIRECTS = (301, 302, 303, 307, 308)
_FAILURES = (OSError, ValueError, http.client.HTTPException)


class Answer(NamedTuple):
    """What an address gives: where a redirect leads, or the first bytes."""

    redirect: str | None
    head: bytes


def is_web(address: str) -> bool:
    return address.lower().startswith(("http://", "https://"))


def ask(address: str) -> Answer:
    """The first answer of an address; an empty one where it cannot be had."""
    try:
        with _get(address, ASK_S) as answer:
            return Answer(None, answer.read1(HEAD))
    except urllib.error.HTTPError as error:
        with error:
            location = error.headers.get("Location") if error.code in _REDIRECTS else None
            return Answer(urljoin(address, location) if location else None, b"")
    except _FAILURES:
        return Answer(None, b"")


def check_may_lead(address: str, other: str) -> None:
    """Raises SourceError where what an address gives may not send us there."""
    if not is_web(other):
        raise _leads(address, other, "only http and https are followed")
    if not may_lead(address, other):
        raise _leads(address, other, "which is in the home or on this machine, and is not followed")


class Pieces:
    """Opens what a list of HLS names: its pieces, its other lists, and itself again."""

    def __init__(self, address: str) -> None:
        """`address`: what the user wrote; whatever it leads to must be allowed to it."""
        self._address = address
        self._allowed: set[str] = set()
        """hosts: to look them up for each piece is too much"""

    def open(self, url: str, flags: int, options: dict[str, str]) -> io.RawIOBase | io.BytesIO:  # noqa: ARG002  # as PyAV calls it
        """A piece; empty where it cannot be had, as FFmpeg then goes on with the next.

        Raises SourceError where it may not be asked for.
        """
        if url.startswith("crypto"):
            raise SourceError(
                f"{address_for_people(self._address)}: its HLS is encrypted, which cannot be heard"
            )
        span = None
        if "end_offset" in options:
            span = f"bytes={int(options.get('offset', 0))}-{int(options['end_offset']) - 1}"
        try:
            for _ in range(5):
                self._check(url)
                try:
                    return _Piece(_get(url, TIMEOUT_S, span))
                except urllib.error.HTTPError as error:
                    with error:
                        location = error.headers.get("Location") if error.code in _REDIRECTS else None
                    if not location:
                        raise
                    url = urljoin(url, location)
        except _FAILURES:
            pass
        return io.BytesIO()

    def _check(self, url: str) -> None:
        parts = urlsplit(url)
        if (host := f"{parts.scheme}://{parts.netloc}") not in self._allowed:
            check_may_lead(self._address, url)
            self._allowed.add(host)


class _Piece(io.RawIOBase):
    """An answer that ends where the connection fails."""

    def __init__(self, answer: http.client.HTTPResponse) -> None:
        super().__init__()
        self._answer = answer

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        try:
            return self._answer.read(None if size < 0 else size)
        except _FAILURES:
            return b""

    def close(self) -> None:
        self._answer.close()
        super().close()


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None: ...


def _get(address: str, timeout_s: float, span: str | None = None) -> http.client.HTTPResponse:
    """Follows no redirect. Raises OSError, ValueError, HTTPException."""
    if not is_web(address):  # what urlopen also has: file, ftp
        raise ValueError("neither http nor https")
    parts = urlsplit(address)
    credentials, _, host = parts.netloc.rpartition("@")
    headers = {"User-Agent": f"streamer/{streamer.__version__}"}
    if credentials:
        plain = base64.b64encode(unquote(credentials).encode()).decode()
        headers["Authorization"] = f"Basic {plain}"
    if span:
        headers["Range"] = span
    request = urllib.request.Request(urlunsplit(parts._replace(netloc=host)), headers=headers)  # noqa: S310  # http
    opener = urllib.request.build_opener(_Stay)
    answer: http.client.HTTPResponse = opener.open(request, timeout=timeout_s)
    return answer


def _leads(address: str, other: str, why: str) -> SourceError:
    return SourceError(f"{address_for_people(address)}: it leads to {address_for_people(other)}; {why}")
