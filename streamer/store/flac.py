"""Samples as FLAC. The only place that encodes audio for the disk."""

from __future__ import annotations

import io

import av
import numpy as np

from streamer.types import Samples

FRAME = 4096
"""samples that are encoded at a time"""


def encode(samples: Samples, rate: int) -> bytes:
    """(n,) float32, -1..1, as a file of 16 bits, mono. Raises ValueError where FLAC has no such rate."""
    file = io.BytesIO()
    pcm = np.clip(np.rint(samples * 32767), -32768, 32767).astype(np.int16)
    try:
        with av.open(file, "w", format="flac") as container:
            stream = container.add_stream("flac", rate=rate, layout="mono", format="s16")
            for at in range(0, len(pcm), FRAME):
                frame = av.AudioFrame.from_ndarray(pcm[None, at : at + FRAME], format="s16", layout="mono")
                frame.sample_rate, frame.pts = rate, at
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    except (av.FFmpegError, OSError) as error:
        raise ValueError(f"FLAC of {rate} Hz: {error}") from None
    return file.getvalue()
