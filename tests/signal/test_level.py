"""The level is that of the field: dB against full scale, with a floor."""

import numpy as np
import pytest

from streamer.signal.level import Background, a_weighted, level_dbfs
from streamer.types import SILENCE_DBFS, Samples


def test_a_full_scale_sine() -> None:
    """A sine of amplitude 1 has -3.01 dBFS."""
    sine: Samples = np.sin(2 * np.pi * 100 * np.arange(16000) / 16000).astype(np.float32)
    quiet: Samples = (sine / 10).astype(np.float32)
    assert level_dbfs(sine) == pytest.approx(-3.0103, abs=1e-3)
    assert level_dbfs(quiet) == pytest.approx(-23.0103, abs=1e-3)


def test_a_square_of_full_scale() -> None:
    """Nothing is louder than 0 dBFS."""
    assert level_dbfs(np.full(100, -1, np.float32)) == 0.0


@pytest.mark.parametrize(
    "samples", [np.zeros(100), np.zeros(0), np.full(100, 1e-9), np.full(100, 1e-45)], ids=str
)
def test_silence_has_a_floor(samples: np.ndarray) -> None:
    """Digital silence and what is below the floor is the floor: neither 0 nor minus infinity."""
    assert level_dbfs(samples.astype(np.float32)) == SILENCE_DBFS


@pytest.mark.parametrize(
    ("hertz", "gain_db"), [(32, -39.1), (100, -19.1), (1000, 0.0), (2500, 1.3), (10000, -2.5)]
)
def test_a_weighting_is_that_of_the_standard(hertz: float, gain_db: float) -> None:
    """IEC 61672-1, table 3."""
    tone = np.sin(2 * np.pi * hertz * np.arange(48000) / 48000).astype(np.float32)

    assert level_dbfs(a_weighted(tone, 48000)) - level_dbfs(tone) == pytest.approx(gain_db, abs=0.3)


def test_the_background_is_what_a_room_stays_near() -> None:
    """Loud minutes do not raise it at once, digital silence does not make everything loud."""
    background = Background()
    assert background.level_db is None
    background.add(np.full(400, -50.0))
    background.add(np.full(80, -10.0))
    assert background.level_db == pytest.approx(-50)
    background.add(np.full(480, -120.0))
    assert background.level_db == -75
