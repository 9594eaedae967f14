"""A spectrogram as a PNG. https://www.w3.org/TR/png-3/."""

from __future__ import annotations

import struct
import zlib

import numpy as np

from streamer.signal.spectrogram import columns
from streamer.types import Samples

SCALE = 3
"""pixels of a column, and of a band"""
_STOPS = ((10, 20, 19), (8, 62, 60), (20, 122, 108), (112, 178, 120), (232, 220, 140), (255, 250, 225))
"""from near black over the page's accent to pale yellow, evenly spaced"""


def spectrogram(samples: Samples, sample_rate: int) -> bytes:
    """(n,) samples as a PNG of 3 pixels a column and a band, low bands at the bottom."""
    drawn = columns(samples, sample_rate).T[::-1]
    pixels = drawn.repeat(SCALE, axis=0).repeat(SCALE, axis=1)
    height, width = pixels.shape
    lines = np.hstack([np.zeros((height, 1), np.uint8), pixels])  # each line begins with its filter: none
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
            _chunk(b"PLTE", _palette()),
            _chunk(b"IDAT", zlib.compress(lines.tobytes())),
            _chunk(b"IEND", b""),
        )
    )


def _palette() -> bytes:
    """256 colours of three bytes."""
    at = (np.arange(256) / 255) ** 1.15 * (len(_STOPS) - 1)
    stops = np.array(_STOPS, np.float64)
    colours = [np.interp(at, np.arange(len(stops)), stops[:, channel]) for channel in range(3)]
    return np.stack(colours, axis=1).round().astype(np.uint8).tobytes()


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
