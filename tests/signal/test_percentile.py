"""Percentiles are those of numpy, to the bit."""

from __future__ import annotations

import numpy as np
import pytest

from streamer.signal.percentile import percentile


@pytest.mark.parametrize("percent", [0, 20, 30, 50, 99.5, 100])
@pytest.mark.parametrize("shape", [(1,), (2,), (7,), (480,), (13, 6), (480, 7)])
def test_they_are_those_of_numpy(shape: tuple[int, ...], percent: float) -> None:
    """What is compared with a background must not depend on who computed it."""
    values = np.random.default_rng(len(shape)).normal(-60, 10, shape).round(1)
    assert np.array_equal(percentile(values, percent), np.percentile(values, percent, axis=0))
