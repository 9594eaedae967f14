"""The steps in which scores and levels are decided on and kept.

What is decided on, live and from files, is what a log holds: so a log replays to exactly the same events. A
step is far below what a score is true to: 0.006 at 0.5, less where scores are low.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from streamer.types import Samples, Scores, Sensed

Steps: TypeAlias = npt.NDArray[np.uint8]

STEPS = 255
"""of the square root of a score: the lower a score, the finer"""
LOWEST = 36
"""the step of the lowest score that counts, 0.02; what is lower is 0, which costs a log nothing"""
LEVEL_DB = 0.1

_SCORES = np.square(np.arange(STEPS + 1, dtype=np.float64) / STEPS).astype(np.float32)
_KEPT = np.where(np.arange(STEPS + 1) < LOWEST, 0, np.arange(STEPS + 1)).astype(np.uint8)
_SCORES_KEPT = _SCORES.take(_KEPT)
_LEVEL_MAX = 32767


def steps_of(scores: Samples) -> Steps:
    """Scores 0..1 of any shape as steps. What is no number counts as 0."""
    return _KEPT.take(_all_steps_of(scores))


def _all_steps_of(scores: Samples) -> Steps:
    """As `steps_of`, with those of scores that do not count."""
    values = np.fmax(scores, 0)
    np.fmin(values, 1, out=values)
    np.sqrt(values, out=values)
    values *= STEPS
    values += 0.5
    return values.astype(np.uint8)


def scores_of(steps: Steps) -> Samples:
    return _SCORES[steps]


def level_steps_of(levels_db: npt.NDArray[np.floating]) -> npt.NDArray[np.int16]:
    """Decibels of any shape as steps."""
    steps: npt.NDArray[np.int16] = np.clip(np.rint(levels_db / LEVEL_DB), -_LEVEL_MAX, _LEVEL_MAX).astype(
        np.int16
    )
    return steps


def levels_of(steps: npt.NDArray[np.int16]) -> Samples:
    return (steps * LEVEL_DB).astype(np.float32)


def sensed_in_steps(sensed: Sensed) -> Sensed:
    """The same, with levels as they are kept."""
    return replace(sensed, levels=levels_of(level_steps_of(sensed.levels)))


def scores_in_steps(scores: Scores) -> Scores:
    """The same, with those scores that are decided on as they are kept."""
    if scores.frames is None:
        return replace(scores, clip=_SCORES_KEPT.take(_all_steps_of(scores.clip)))
    return replace(scores, frames=_SCORES_KEPT.take(_all_steps_of(scores.frames)))
