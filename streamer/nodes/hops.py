"""Blocks of a source become hops of a second, at the rate that is sent. The only importer of soxr."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import soxr

from streamer.nodes.flac import Int16
from streamer.types import AudioBlock, Samples

HOP_S = 1.0


def now() -> float:
    """The clock of hops: seconds since the machine's start, with its sleep, which nobody sets."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """A hop that is not encoded yet."""

    samples: Int16
    """(n,), a second or, where audio was lost behind it, less"""
    captured: float
    """when the first one was, by `now`"""
    discontinuity: bool


class Hops:
    """The hops of one stretch of listening; the first one has a gap before it."""

    def __init__(self, source_rate: int, sample_rate: int) -> None:
        self._source_rate = source_rate
        self._sample_rate = sample_rate
        self._n_hop = round(HOP_S * sample_rate)
        self._begin()

    def add(self, block: AudioBlock, captured: float) -> Iterator[Cut]:
        """Hops that are whole with this block, whose first sample was captured then, by `now`."""
        if block.discontinuity:
            yield from self._cut(last=True)
            self._begin()
        self._n_in += len(block.samples)
        self._ends = captured + len(block.samples) / self._source_rate
        self._resample(block.samples)
        yield from self._cut(last=False)

    def end(self) -> Iterator[Cut]:
        """The rest, where a recording is over."""
        yield from self._cut(last=True)

    def _begin(self) -> None:
        self._resampler = soxr.ResampleStream(self._source_rate, self._sample_rate, 1, dtype="float32")
        self._pending: Samples = np.zeros(0, np.float32)
        self._n_in = self._n_out = 0
        self._ends = 0.0
        self._is_first = True

    def _resample(self, samples: Samples, *, last: bool = False) -> None:
        if self._source_rate != self._sample_rate:
            samples = self._resampler.resample_chunk(samples, last=last)
        self._pending = np.concatenate([self._pending, samples])

    def _cut(self, *, last: bool) -> Iterator[Cut]:
        if last and self._n_in:
            self._resample(np.zeros(0, np.float32), last=True)
        while len(self._pending) >= self._n_hop or (last and len(self._pending)):
            samples, self._pending = self._pending[: self._n_hop], self._pending[self._n_hop :]
            age_s = self._n_in / self._source_rate - self._n_out / self._sample_rate
            self._n_out += len(samples)
            yield Cut(_as_int16(samples), self._ends - age_s, self._is_first)
            self._is_first = False


def _as_int16(samples: Samples) -> Int16:
    """What is no number becomes 0, and what is beyond full scale full scale."""
    scaled = np.nan_to_num(np.rint(samples * np.float32(32768)), nan=0.0, posinf=32767.0, neginf=-32768.0)
    integers: Int16 = np.clip(scaled, -32768, 32767).astype(np.int16)
    return integers
