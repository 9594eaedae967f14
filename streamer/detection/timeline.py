"""Scores on a grid of time: the mean over all windows that saw a moment."""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from streamer.types import Samples

CELL_S = 0.04
"""The grid: frames of 0.16 s and hops of 1 s both fall on it. Others are off by less than a cell."""

_TAPER_S = 1.0
"""seconds at both ends of a window that lack context and count less"""
_FAINT = 0.05
"""least weight: the newest cell is covered by one window only"""
_SPARE = 512
"""cells by which the memory is longer than what is kept, so that it is seldom moved"""
_NUDGE = 1e-4
"""part of a cell by which a time may be off: floats of this century are exact to 0.2 microseconds"""


class Timeline:
    """Scores by moment: the weighted mean over the windows that saw it, for the latest `keep_s` seconds.

    Cell i lasts from `time(i)` to `time(i + 1)`; cell 0 begins at `origin`. Nothing before it is ever kept.
    """

    def __init__(self, n_columns: int, origin: float, keep_s: float) -> None:
        self._n_cells = math.ceil(keep_s / CELL_S)
        self._sums = np.zeros((self._n_cells + _SPARE, n_columns), np.float32)
        self._weights = np.zeros((self._n_cells + _SPARE, 1), np.float32)
        self._row = 0
        """of the oldest cell"""
        self._highest = deque[tuple[int, Samples]]()
        """the highest score of each column in what was added, with the cell after its newest one"""
        self._origin = origin
        self.first = 0
        """the oldest cell that is remembered"""
        self.until = 0
        """the cell after the newest one"""

    def time(self, cell: int) -> float:
        return self._origin + cell * CELL_S

    def cell(self, at: float) -> int:
        """The first cell whose middle does not lie before a time."""
        return math.ceil((at - self._origin) / CELL_S - 0.5 - _NUDGE)

    def add(self, scores: Samples, start: float, end: float, frame_s: float, certainty: float = 1.0) -> None:
        """Take what a window says: (n_frames, n_columns), `frame_s` apart from `start` on; all up to `end`.

        What is said with little certainty counts until a window knows better. Windows come in the order of
        their ends and leave no hole: none starts after the end of all before it.
        """
        until = self.cell(end)
        self._forget(until)
        # No cell is left out between two windows that meet but for rounding.
        cells = np.arange(max(min(self.cell(start), self.until), self.first), until)
        into = (cells + 0.5) * CELL_S + (
            self._origin - start
        )  # seconds from the start to the middle of each cell
        # Not by np.clip, which takes longer than all the rest.
        frames = np.minimum(np.maximum(((into / frame_s) + _NUDGE).astype(np.intp), 0), len(scores) - 1)
        tapered = np.minimum(np.maximum(np.minimum(into, end - start - into) / _TAPER_S, _FAINT), 1)
        weights = (certainty * tapered).astype(np.float32)[:, None]
        if len(cells):
            rows = slice(self._row + int(cells[0]) - self.first, self._row + until - self.first)
            self._sums[rows] += weights * scores.take(frames, axis=0)
            self._weights[rows] += weights
            self._highest.append((until, scores.max(axis=0)))
            while self._highest[0][0] <= self.first:
                self._highest.popleft()
        self.until = max(self.until, until)

    def leap(self, until: int, weight: float) -> None:
        """Go on at a later cell; all before is forgotten but the newest mean, which counts by `weight`."""
        if until <= self.until:
            return
        newest = self.means(slice(-1, None)) if self.until > self.first else None
        self._sums[:], self._weights[:], self._row = 0, 0, 0
        self._highest.clear()
        self.first = self.until = until
        if newest is not None:
            self.first -= 1
            self._sums[0], self._weights[0] = weight * newest[0], weight
            self._highest.append((until, newest[0]))

    def means(self, rows: slice = slice(None), columns: slice = slice(None)) -> Samples:
        """(until - first, n_columns), or a part of that."""
        kept = slice(self._row, self._row + self.until - self.first)
        return self._sums[kept][rows, columns] / self._weights[kept][rows]

    def bounds(self) -> Samples:
        """(n_columns,) what no mean is above, but for rounding: the highest that was added, at least 0."""
        none = np.zeros_like(self._sums[0])
        highest: Samples = np.maximum.reduce([none, *(scores for _, scores in self._highest)])
        return highest

    def _forget(self, until: int) -> None:
        """Make room for the cells up to `until`."""
        n_old = until - self.first - self._n_cells
        if n_old <= 0:
            return
        self.first += n_old
        self._row += n_old
        if self._row > _SPARE:
            for kept in (self._sums, self._weights):
                left = kept[self._row :].copy()
                kept[: len(left)] = left
                kept[len(left) :] = 0
            self._row = 0
