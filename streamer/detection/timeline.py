"""Scores on a grid of time: the mean over all windows that saw a moment."""

from __future__ import annotations

import math

import numpy as np

from streamer.types import Samples

CELL_S = 0.04
"""The grid: frames of 0.16 s and hops of 1 s both fall on it. Others are off by less than a cell."""

_TAPER_S = 1.0
"""seconds at both ends of a window that lack context and count less"""
_FAINT = 0.05
"""least weight: the newest cell is covered by one window only"""
_NUDGE = 1e-4
"""part of a cell by which a time may be off: floats of this century are exact to 0.2 microseconds"""


class Timeline:
    """Scores by moment: the weighted mean over the windows that saw it, for the latest `keep_s` seconds.

    Cell i lasts from `time(i)` to `time(i + 1)`; cell 0 begins at `origin`. Nothing before it is ever kept.
    """

    def __init__(self, n_columns: int, origin: float, keep_s: float) -> None:
        n_cells = math.ceil(keep_s / CELL_S)
        self._sums = np.zeros((n_cells, n_columns), np.float32)
        self._weights = np.zeros((n_cells, 1), np.float32)
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
        frames = np.clip(((into / frame_s) + _NUDGE).astype(np.intp), 0, len(scores) - 1)
        tapered = np.clip(np.minimum(into, end - start - into) / _TAPER_S, _FAINT, 1)
        weights = (certainty * tapered).astype(np.float32)[:, None]
        rows = slice(cells[0] - self.first, until - self.first) if len(cells) else slice(0)
        self._sums[rows] += weights * scores[frames]
        self._weights[rows] += weights
        self.until = max(self.until, until)

    def leap(self, until: int, weight: float) -> None:
        """Go on at a later cell; all before is forgotten but the newest mean, which counts by `weight`."""
        if until <= self.until:
            return
        newest = self.means(slice(-1, None)) if self.until > self.first else None
        self._sums[:], self._weights[:] = 0, 0
        self.first = self.until = until
        if newest is not None:
            self.first -= 1
            self._sums[0], self._weights[0] = weight * newest[0], weight

    def means(self, rows: slice = slice(None), columns: slice = slice(None)) -> Samples:
        """(until - first, n_columns), or a part of that."""
        n = self.until - self.first
        return self._sums[:n][rows, columns] / self._weights[:n][rows]

    def _forget(self, until: int) -> None:
        """Make room for the cells up to `until`."""
        n_old = until - self.first - len(self._sums)
        if n_old > 0:
            for kept in (self._sums, self._weights):
                kept[:-n_old] = kept[n_old:].copy()
                kept[-n_old:] = 0
            self.first += n_old
