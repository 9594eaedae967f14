"""The median over time."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from streamer.detection.smoothing import median


@settings(deadline=None)
@given(
    hnp.arrays(np.float32, st.integers(0, 60), elements=st.floats(0, 1, width=32)),
    st.sampled_from([1, 3, 11]),
)
def test_it_is_the_median_of_the_neighbours(scores: np.ndarray, width: int) -> None:
    """Each score becomes the median of the `width` around it; beyond the ends the outermost score goes on."""
    half = width // 2
    around = [
        [scores[min(max(i + j, 0), len(scores) - 1)] for j in range(-half, half + 1)]
        for i in range(len(scores))
    ]

    np.testing.assert_array_equal(median(scores, width), [np.median(row) for row in around])
