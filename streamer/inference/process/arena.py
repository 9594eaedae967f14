"""Memory that two processes see: what one writes the other reads, without a copy on the way."""

from __future__ import annotations

import math
import mmap
import os

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


class Arena:
    """float32 arrays by offset, in memory without a name: it goes when both processes do, however they end.

    The two take turns; the one that has the turn may let it grow.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._memory: mmap.mmap | None = None

    @classmethod
    def create(cls) -> Arena:
        return cls(os.memfd_create("streamer-inference"))

    def write(self, offset: int, values: Floats) -> int:
        """Copy values in; returns the offset behind them."""
        end = offset + values.nbytes
        self._reach(end)
        np.frombuffer(self._memory or b"", np.float32, values.size, offset)[:] = values.ravel()
        return end

    def read(self, offset: int, shape: tuple[int, ...]) -> Floats:
        """A view, good until the other side has its turn."""
        size = math.prod(shape)
        self._reach(offset + 4 * size)
        return np.frombuffer(self._memory or b"", np.float32, size, offset).reshape(shape)

    def close(self) -> None:
        os.close(self.descriptor)

    def _reach(self, size: int) -> None:
        """Map as much as the other side has made, and make it larger where it is too small."""
        if self._memory is not None and len(self._memory) >= size:
            return
        if os.fstat(self.descriptor).st_size < size:
            os.ftruncate(self.descriptor, size)
        # The old map goes when the last view of it does.
        self._memory = mmap.mmap(self.descriptor, os.fstat(self.descriptor).st_size)
