"""Decodes the audio of a labelled example: mono, at one rate, from its onset to its offset."""

from __future__ import annotations

import av
import numpy as np

from streamer.data.examples import Example
from streamer.errors import InputError
from streamer.types import Samples

SILENT = 1e-4
"""a peak below this, -80 dBFS, teaches nothing"""


def read_audio(example: Example, rate: int) -> Samples:
    """(n,) mono at `rate` Hertz. Raises InputError where there is none, or only silence."""
    try:
        samples = _decode(example, rate)
    except (av.FFmpegError, OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or error
        raise InputError(f"{example.path}: cannot be read: {cause}") from None
    if not np.isfinite(samples).all():
        raise InputError(f"{example.path}: has samples that are no numbers")
    if len(samples) < rate // 40:  # one frame of the features
        raise InputError(f"{example.path}: no sound from {example.onset_s:g} s on, or less than 25 ms")
    if np.abs(samples).max() < SILENT:
        raise InputError(f"{example.path}: silent")
    return samples


def _decode(example: Example, rate: int) -> Samples:
    """From the onset to the offset; of a long file only that part is decoded."""
    with av.open(f"file:{example.path}") as container:  # `file:`, since a name may hold a colon
        if not container.streams.audio:
            raise ValueError("no audio in it")
        if example.onset_s > 1:
            container.seek(int((example.onset_s - 0.5) * av.time_base))
        stream = container.streams.audio[0]
        start_s = float((stream.start_time or 0) * (stream.time_base or 0))
        resampler = av.AudioResampler(format="flt", layout="mono", rate=rate)
        parts: list[Samples] = []
        first_s: float | None = None
        for frame in container.decode(audio=0):
            begin_s = (frame.time or 0.0) - start_s
            first_s = begin_s if first_s is None else first_s
            parts += [r.to_ndarray()[0] for r in resampler.resample(frame)]
            if example.offset_s is not None and begin_s > example.offset_s:
                break
        parts += [r.to_ndarray()[0] for r in resampler.resample(None)]
    samples = np.concatenate([np.zeros(0, np.float32), *parts]).astype(np.float32)
    skipped_s = (first_s or 0.0) if example.onset_s > 1 else 0.0
    begin = max(0, round((example.onset_s - skipped_s) * rate))
    end = None if example.offset_s is None else round((example.offset_s - skipped_s) * rate)
    return samples[begin:end]
