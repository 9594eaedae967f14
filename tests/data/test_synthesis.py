"""Synthesised sounds are what they say they are."""

from pathlib import Path

import numpy as np
import pytest

from streamer.capture.stream import Decoder
from streamer.data.synthesis import (
    ALARMS,
    DEMO_RATE,
    DEMO_SOUNDS,
    Generator,
    coloured_noise,
    demo_recording,
    temporal_four,
    temporal_three,
    write_demo,
)
from streamer.model.labels import AUDIOSET

RATE = 16000


def beeps(generator: Generator, seconds: float) -> list[tuple[float, float]]:
    """(onset, length) of each beep, in seconds, from the envelope."""
    samples = generator(np.random.default_rng(5), RATE, seconds).samples
    loud = np.abs(samples[: len(samples) // 80 * 80].reshape(-1, 80)).max(axis=1) > 0.2  # frames of 5 ms
    edges = np.flatnonzero(np.diff(np.concatenate(([0], loud.astype(int), [0]))))
    return [(a * 0.005, (b - a) * 0.005) for a, b in zip(edges[::2], edges[1::2], strict=True)]


@pytest.mark.parametrize("generator", ALARMS, ids=lambda g: g.__name__)
def test_every_sound_is_clean(generator: Generator) -> None:
    """The length that was asked for, float32 samples within ±1.01, energy, and AudioSet's labels."""
    for seed in range(3):
        sound = generator(np.random.default_rng(seed), RATE, 3.0)
        assert sound.samples.dtype == np.float32
        assert sound.samples.shape == (3 * RATE,)
        assert np.abs(sound.samples).max() <= 1.01
        assert np.sqrt(np.square(sound.samples).mean()) > 0.003
        assert set(sound.labels) <= set(AUDIOSET)


def test_the_same_seed_gives_the_same_sound() -> None:
    """Chance comes from the generator that is passed in, and from nowhere else."""
    first, again = (temporal_three(np.random.default_rng(9), RATE, 2.0).samples for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_a_smoke_alarm_has_the_cadence_of_iso_8201() -> None:
    """T3: three beeps of half a second, half a second apart, then a pause of one and a half (± 10 %)."""
    found = beeps(temporal_three, 8.0)
    lengths = [length for _, length in found]
    gaps = np.diff([onset for onset, _ in found])
    assert lengths[:6] == pytest.approx([0.5] * 6, rel=0.1)
    assert list(gaps[:5]) == pytest.approx([1, 1, 2, 1, 1], rel=0.1)


def test_a_carbon_monoxide_alarm_has_four_short_beeps() -> None:
    """T4: four beeps of a tenth of a second, a tenth apart."""
    found = beeps(temporal_four, 1.5)[:4]
    assert [length for _, length in found] == pytest.approx([0.1] * 4, abs=0.02)
    assert list(np.diff([onset for onset, _ in found])) == pytest.approx([0.2] * 3, abs=0.02)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_noise_has_the_slope_of_its_colour(exponent: float) -> None:
    """Power falls by 3 dB an octave times the exponent."""
    noise = coloured_noise(np.random.default_rng(0), RATE, 20.0, exponent)
    power = np.abs(np.fft.rfft(noise)) ** 2
    f = np.fft.rfftfreq(len(noise), 1 / RATE)
    low, high = (power[(f > a) & (f < 2 * a)].mean() for a in (200, 3200))
    assert 10 * np.log10(low / high) == pytest.approx(3.01 * 4 * exponent, abs=0.5)


def test_the_demo_sounds_when_it_says(tmp_path: Path) -> None:
    """The file decodes to what was made, and is loud where a sound is and quiet elsewhere."""
    path = write_demo(tmp_path)
    with Decoder(path) as decoder:
        assert decoder.sample_rate == DEMO_RATE
        samples = np.concatenate([block.samples for block in decoder.blocks()])
    np.testing.assert_allclose(samples, demo_recording(), atol=1e-3)
    sounding = np.zeros(len(samples), bool)
    for at_s, _, seconds in DEMO_SOUNDS:
        stretch = slice(int(at_s * DEMO_RATE), int((at_s + seconds) * DEMO_RATE))
        assert np.abs(samples[stretch]).max() > 0.1
        sounding[stretch] = True
    assert np.abs(samples[~sounding]).max() < 0.02
