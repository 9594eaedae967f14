"""The clips that a sound is taught from: read, and checked for what cannot be learned from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from streamer.capture.stream import read_file
from streamer.core.printable import printable
from streamer.data.audio import SILENT
from streamer.errors import InputError
from streamer.model.features import resample
from streamer.signal.faults import clipped_share
from streamer.signal.sounding import sounding
from streamer.types import Samples

RATE = 16000
"""Hertz of all clips once they are read: what a model for sounds hears"""
FEWEST, GOOD = 3, 5
"""clips that are needed, and from how many on the result is good"""
MOST = 50
SHORTEST_S, LONGEST_S = 0.1, 60.0
"""seconds of sound in a clip, and of a clip"""
_CLIPPED = 0.05
"""share of samples at the extreme from which on a sound is another one; a pure tone has less"""
_SAME = 0.98
"""correlation from which on two clips are one recording"""


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    path: Path
    samples: Samples
    """(n,) at RATE, peak 1"""
    active: npt.NDArray[np.float32]
    """(k, 2) seconds: from when to when it sounds"""

    @property
    def name(self) -> str:
        return printable(str(self.path))


def read_clips(paths: Sequence[Path]) -> list[Clip]:
    """Raises one InputError, with a line for each clip that cannot be learned from."""
    clips, faults = [], []
    for path in paths:
        try:
            clips.append(read_clip(path))
        except InputError as error:
            faults.append(str(error))
    if faults:
        raise InputError(*faults)
    return clips


def read_clip(path: Path) -> Clip:
    """Raises InputError where it is silent, clipped, too short or too long."""
    return checked(path, *read_file(path, 0.0, LONGEST_S + 1))


def checked(path: Path, samples: Samples, rate: int) -> Clip:
    """The clip of samples (n,) at `rate` Hertz; `path` names it in what is wrong. Raises InputError."""
    name = printable(str(path))
    if not np.isfinite(samples).all():
        raise InputError(f"{name}: has samples that are no numbers: record it again")
    if len(samples) > LONGEST_S * rate:
        raise InputError(f"{name}: longer than {LONGEST_S:g} s: cut out the sound, with little around it")
    sound = samples - samples.mean() if samples.size else samples  # a constant offset is no sound
    peak = float(np.abs(sound).max(initial=0.0))
    if peak < SILENT:
        raise InputError(f"{name}: silent: is it the right file, and was the microphone on?")
    if (share := clipped_share(samples)) > _CLIPPED:
        raise InputError(f"{name}: clipped, {share:.0%} of it: record it again with less gain")
    samples = np.asarray(sound / peak, np.float32)
    samples = resample(samples[None], rate, RATE)[0]
    active = sounding(np.clip(30_000 * samples, -32_000, 32_000).astype(np.int16), RATE)
    seconds = float((active[:, 1] - active[:, 0]).sum())
    if min(seconds, len(samples) / RATE) < SHORTEST_S:
        raise InputError(
            f"{name}: {1000 * seconds:.0f} ms of sound: too short, {1000 * SHORTEST_S:.0f} ms at least"
        )
    return Clip(path, samples, active)


def check_clips(name: str, clips: Sequence[Clip], others: Sequence[Clip]) -> None:
    """Raises InputError where clips are too few or too many, all alike, or on both sides."""
    if len(clips) < FEWEST:
        raise InputError(
            f"{name}: {len(clips)} clips are too few: {FEWEST} are needed, {GOOD} and more are better"
        )
    if len(clips) > MOST:
        raise InputError(
            f"{name}: {len(clips)} clips are too many: take {MOST} at most, the most different ones"
        )
    for clip in clips:
        for other in others:
            if is_same(clip, other):
                raise InputError(
                    f"{clip.name} and {other.name} are the same recording, once as {name} and once as not:"
                    " leave one out"
                )
    distinct: list[Clip] = []
    for clip in clips:
        twin = next((one for one in distinct if is_same(clip, one)), None)
        if twin is None:
            distinct.append(clip)
    if len(distinct) < FEWEST:
        raise InputError(
            f"{name}: all alike: only {len(distinct)} of {len(clips)} clips are different recordings;"
            f" record it {FEWEST} times or more"
        )


def is_same(one: Clip, other: Clip) -> bool:
    """Whether two clips are one recording, at whatever level."""
    if len(one.samples) != len(other.samples):
        return False
    product = float(np.dot(one.samples, other.samples))
    norms = float(np.linalg.norm(one.samples) * np.linalg.norm(other.samples))
    return product > _SAME * norms
