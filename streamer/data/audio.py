"""Decodes labelled clips as the daemon decodes files: the same decoder, the same mean of channels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from streamer.capture.stream import read_file
from streamer.data.examples import Example
from streamer.errors import InputError
from streamer.model.features import resample
from streamer.types import Samples

SILENT = 1e-4
"""a peak below this, -80 dBFS, teaches nothing"""


def decode(path: Path, rate: int, onset_s: float = 0.0, offset_s: float | None = None) -> Samples:
    """(n,) mono at `rate` Hertz, from onset to offset. Raises InputError where the file holds no audio."""
    samples, own_rate = read_file(path, onset_s, offset_s)
    mono: Samples = resample(samples[None], own_rate, rate)[0]
    return mono


def read_audio(example: Example, rate: int) -> Samples:
    """(n,) mono at `rate` Hertz. Raises InputError where there is none, or only silence."""
    samples = decode(example.path, rate, example.onset_s, example.offset_s)
    if not np.isfinite(samples).all():
        raise InputError(f"{example.path}: has samples that are no numbers")
    if len(samples) < rate // 40:  # one frame of the features
        raise InputError(f"{example.path}: no sound from {example.onset_s:g} s on, or less than 25 ms")
    if np.abs(samples).max() < SILENT:
        raise InputError(f"{example.path}: silent")
    return samples
