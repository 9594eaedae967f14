"""What is wrong with an input, as its samples show it: dead, stuck, clipping, or not around zero."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

import numpy as np

from streamer.types import Samples, Window

_SHORTEST_LOOP_S, _LONGEST_LOOP_S = 0.005, 1.0
"""Seconds after which a driver that hangs repeats its last block; what repeats faster is a tone."""
_PROBE = 64
"""number of samples that are looked for first"""
_LOUD = 0.1
"""a peak below this is not clipping"""
_FLAT_RUN, _FLAT_SHARE = 3, 0.002
"""Clipping: runs of so many samples at the extreme that make up this share of all."""
_OFFSET = 0.02
"""mean of the samples, as a part of full scale"""
_SILENT = 1e-5
"""peak of silence, -100 dBFS: a third of a step of 16 bits"""
LASTING = ("silence", "stuck", "loop")
LASTING_S = 10.0
"""kinds of faults that must last, and for how many seconds"""
_RECENT, _RECURS = 10, 5
"""hops that are looked back on, and how many of them must have a fault that comes and goes"""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with an input."""

    kind: Literal["silence", "stuck", "loop", "clipping", "offset"]
    text: str
    """a clause for people: what it is, and what to do"""


def find_fault(window: Window, n_new: int) -> Fault | None:
    """What is wrong with an input, None where it is sound. `n_new` samples are new in the window.

    Silence, a stuck value and a loop count once the whole window is so.
    """
    samples = window.samples
    new = samples[-n_new:]
    if not window.warm_up and not window.has_gap and samples.size:
        # The newest hop goes first: as a rule it is neither, and then the whole window is not, either.
        if _peak(new) < _SILENT and _peak(samples) < _SILENT:
            return Fault("silence", f"digital silence for {LASTING_S:.0f} s: is it muted or unplugged?")
        if np.ptp(new) == 0 and np.ptp(samples) == 0:
            return Fault("stuck", f"stuck at {samples[0]:g}: the device hangs, or it is no audio input")
        if loop_s := _loop(samples, window.sample_rate):
            return Fault("loop", f"the same {1000 * loop_s:.0f} ms again and again: the driver hangs")
    if share := clipped_share(new):
        return Fault("clipping", f"clipping, {share:.1%} of it: turn the gain down")
    offset = float(new.mean()) if new.size else 0.0
    if abs(offset) >= _OFFSET:
        return Fault("offset", f"a constant offset of {offset:.0%} of full scale: a defect of the input")
    return None


class FaultWatch:
    """Debounces faults: silence and the like must last, clipping and an offset must recur.

    A clap may clip; an input that clips in half of the hops has its gain too high.
    """

    def __init__(self) -> None:
        self._recent: deque[Fault | None] = deque([None] * _RECENT, maxlen=_RECENT)
        self._lasted_s = 0.0
        self._fault: Fault | None = None

    def update(self, fault: Fault | None, window_s: float, hop_s: float) -> Fault | None:
        """The fault that holds after a further window, which is a hop later than the one before."""
        self._recent.append(fault)
        if fault is not None and fault.kind in LASTING:
            self._lasted_s = self._lasted_s + hop_s if self._lasted_s else window_s
            if self._lasted_s >= LASTING_S - hop_s / 2:
                self._hold(fault)
            return self._fault
        self._lasted_s = 0.0
        if fault is not None:
            if sum(one is not None and one.kind == fault.kind for one in self._recent) >= _RECURS:
                self._hold(fault)
        elif self._fault is not None and (self._fault.kind in LASTING or not any(self._recent)):
            self._fault = None
        return self._fault

    def _hold(self, fault: Fault) -> None:
        """One text for as long as a fault lasts, though its figures change with each hop."""
        if self._fault is None or self._fault.kind != fault.kind:
            self._fault = fault


def _loop(samples: Samples, rate: int) -> float:
    """After how many seconds all of it repeats, to the bit; 0 where it does not."""
    recent = samples[-round(_LONGEST_LOOP_S * rate) - _PROBE :]
    probe = recent[-_PROBE:]
    if len(recent) < 2 * _PROBE or np.ptp(probe) == 0:
        return 0.0
    places = np.flatnonzero(recent[:-_PROBE] == probe[0])
    for k in range(1, _PROBE):  # of noise few are left after two or three
        if not places.size:
            return 0.0
        places = places[recent[places + k] == probe[k]]
    if not places.size:
        return 0.0
    period = len(recent) - _PROBE - int(places[-1])  # the nearest
    repeats = np.array_equal(samples[period:], samples[:-period])
    return period / rate if repeats and period >= _SHORTEST_LOOP_S * rate else 0.0


def _peak(samples: Samples) -> float:
    return float(np.abs(samples).max())


def clipped_share(samples: Samples) -> float:
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
