"""Playlists of radio (m3u, pls, asx, xspf): what they lead to, to be named, or followed one step.

FFmpeg takes them for damaged audio. HLS, which shares m3u's name, is audio in pieces and none of these.
"""

from __future__ import annotations

import re

_NAME = re.compile(r"\.(asx|m3u|pls|wax|xspf)($|[?#])", re.IGNORECASE)
_HLS = "#EXT-X-"
_ADDRESS = re.compile(
    r"""(?:^\s*(?:File\d+\s*=\s*)?|<(?:ref|entryref)\s+href\s*=\s*["']|<location>\s*)"""
    r"""((?:https?|rtsps?)://[^\s"'<>]+)""",
    re.IGNORECASE | re.MULTILINE,
)


def is_hls(head: bytes) -> bool:
    """Whether something that begins so is a list of HLS."""
    return _HLS in _text(head)


def leads_to(name: str, head: bytes) -> str | None:
    """What a playlist leads to first, "" where that is not in its head; None where it is no playlist.

    Args:
        name: of the file, or its address.
        head: its first bytes.

    """
    if is_hls(head):
        return None
    if found := _ADDRESS.search(_text(head)):
        return found[1]
    return "" if _NAME.search(name) else None


def _text(head: bytes) -> str:
    return head.decode("utf-8", "replace").removeprefix("\ufeff")
