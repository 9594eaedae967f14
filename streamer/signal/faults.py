"""What is wrong with an input, as its samples show it: dead, stuck, clipping, or not around zero."""

from __future__ import annotations

import numpy as np

from streamer.types import Samples, Window

_SHORTEST_LOOP_S, _LONGEST_LOOP_S = 0.005, 1.0
"""A driver that hangs plays its last block again and again. What repeats faster is a tone."""
_PROBE = 64
"""samples that are first looked for again"""
_LOUD = 0.1
_FLAT_RUN, _FLAT_SHARE = 3, 0.002
"""So many samples in a row at the extreme are a cut-off top; so large a part of them is heard."""
_OFFSET = 0.02


def fault(window: Window, n_new: int) -> str:
    """A clause for people, or nothing where the input is sound. `n_new` samples are new in the window.

    Dead and stuck are said once the whole window is so.
    """
    samples = window.samples
    if not window.warm_up and not window.has_gap and samples.size:
        if not samples.any():
            return f"digital silence for {window.end - window.start:.0f} s: is it muted or unplugged?"
        if np.ptp(samples) == 0:
            return f"stuck at {samples[0]:g}: the device hangs, or it is no audio input"
        if loop_s := _loop(samples, window.sample_rate):
            return f"the same {1000 * loop_s:.0f} ms again and again: the driver hangs"
    new = samples[-n_new:]
    if share := _clipped(new):
        return f"clipping, {share:.1%} of it: turn the gain down"
    offset = float(new.mean()) if new.size else 0.0
    if abs(offset) >= _OFFSET:
        return f"a constant offset of {offset:.0%} of full scale: a defect of the input"
    return ""


def _loop(samples: Samples, rate: int) -> float:
    """After how many seconds all of it repeats, to the bit; 0 where it does not."""
    recent = samples[-round(_LONGEST_LOOP_S * rate) - _PROBE :]
    probe = recent[-_PROBE:]
    if len(recent) < 2 * _PROBE or np.ptp(probe) == 0:
        return 0.0
    places = np.flatnonzero(recent[:-_PROBE] == probe[0])[::-1]  # the nearest first
    for place in places.tolist():
        if np.array_equal(recent[place : place + _PROBE], probe):
            period = len(recent) - _PROBE - place
            repeats = np.array_equal(samples[period:], samples[:-period])
            return period / rate if repeats and period >= _SHORTEST_LOOP_S * rate else 0.0
    return 0.0


def _clipped(samples: Samples) -> float:
    """The share of samples that lie in runs at the very top or bottom; 0 where that is small."""
    size = np.abs(samples)
    highest = float(size.max(initial=0))
    if highest < _LOUD:
        return 0.0
    flat = np.concatenate(([0], size >= 0.999 * highest, [0])).astype(np.int8)
    edges = np.flatnonzero(np.diff(flat))
    runs = edges[1::2] - edges[::2]
    share = float(runs[runs >= _FLAT_RUN].sum()) / len(samples)
    return share if share >= _FLAT_SHARE else 0.0
