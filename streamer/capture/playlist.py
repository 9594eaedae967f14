"""Playlists of web radio (m3u, pls, asx, xspf): what they lead to, to be named, or followed one step.

FFmpeg takes them for damaged audio. HLS, which shares m3u's name, is audio in pieces and none of these.
"""

from __future__ import annotations

import http.client
import re
from contextlib import suppress
from pathlib import Path

TIMEOUT_S = 3.0
HEAD = 8192
"""bytes in which the first address stands"""
_NAME = re.compile(r"\.(asx|m3u|pls|wax|xspf)($|[?#])", re.IGNORECASE)
_HLS = "#EXT-X-"
_ADDRESS = re.compile(
    r"""(?:^\s*(?:File\d+\s*=\s*)?|<(?:ref|entryref)\s+href\s*=\s*["']|<location>\s*)"""
    r"""((?:https?|rtsps?)://[^\s"'<>]+)""",
    re.IGNORECASE | re.MULTILINE,
)


def leads_to(address: str) -> str | None:
    """What a playlist leads to first, "" where that cannot be read; None where it is no playlist.

    Args:
        address: a file's name, or an address, of which nothing but http and https is asked again.

    """
    head = ""
    with suppress(OSError, ValueError, http.client.HTTPException):
        head = _head(address).decode("utf-8", "replace").removeprefix("\ufeff")
    if _HLS in head:
        return None
    if found := _ADDRESS.search(head):
        return found[1]
    return "" if _NAME.search(address) else None


def is_web(address: str) -> bool:
    return address.lower().startswith("http")


def _head(address: str) -> bytes:
    if "://" not in address:
        path = Path(address)
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(HEAD)
    if not address.lower().startswith(("http://", "https://")):  # what urlopen also has: file, ftp
        return b""
    from urllib.request import HTTPRedirectHandler, build_opener  # noqa: PLC0415  # rarely needed

    class Stay(HTTPRedirectHandler):
        """A redirect may lead into the home: none is followed here."""

        def redirect_request(self, *_: object) -> None: ...

    with build_opener(Stay).open(address, timeout=TIMEOUT_S) as answer:
        head: bytes = answer.read1(HEAD)
    return head
