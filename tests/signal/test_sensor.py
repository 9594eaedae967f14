"""What is sensed of a window's samples."""

import numpy as np
import pytest

from streamer.signal.sensor import Sensor, SensorSettings
from streamer.types import Window

RATE = 16_000


def test_a_constant_offset_is_not_loudness() -> None:
    """A sound card's offset of a tenth of full scale would else be told as -20 dBFS in a silent room."""
    times = np.arange(10 * RATE) / RATE
    tone = (0.01 * np.sin(2 * np.pi * 440 * times)).astype(np.float32)
    of = []
    for offset in (0.0, 0.1):
        samples = tone + np.float32(offset)
        sensed = Sensor(SensorSettings(hop_s=1.0, hold_s=2.0)).sense(
            Window("room", 9, samples, RATE, 0.0, 10.0, warm_up=False)
        )
        of.append((sensed.level_dbfs, float(sensed.levels[:, 0].max())))
    assert of[1] == pytest.approx(of[0], abs=0.1)
