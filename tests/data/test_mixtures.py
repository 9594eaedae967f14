"""Mixtures hold what their events say, when they say it."""

import numpy as np
import pytest

from streamer.data.clips import RATE, active_part
from streamer.data.mixtures import WINDOW_S, Ingredient, Mixer, sharpen
from streamer.model.labels import AUDIOSET

INDEX = {label: i for i, label in enumerate(AUDIOSET)}


def mixer(seed: int) -> Mixer:
    rng = np.random.default_rng(seed)
    tone = np.sin(2 * np.pi * 800 * np.arange(RATE) / RATE).astype(np.float32)
    target = np.zeros(len(AUDIOSET), np.float32)
    target[INDEX["Whistle"]] = 0.9
    return Mixer([Ingredient(tone, target)], [Ingredient(0.5 * tone, target)], [], INDEX, rng)


@pytest.mark.parametrize("seed", range(20))
def test_a_mixture_is_sound(seed: int) -> None:
    """Ten seconds of finite float32 within ±1; events lie inside, have a length, and targets in 0..1."""
    mixture = mixer(seed).draw()
    assert mixture.samples.shape == (int(WINDOW_S * RATE),)
    assert mixture.samples.dtype == np.float32
    assert np.abs(mixture.samples).max() <= 1.0
    for event in mixture.events:
        assert 0 <= event.onset < event.offset <= WINDOW_S
        assert event.target.min() >= 0
        assert 0 < event.target.max() <= 1


def test_events_are_where_the_sound_is() -> None:
    """At 800 Hz there is more energy inside the events of an 800 Hz tone than outside."""
    checked = 0
    for seed in range(60):
        mixture = mixer(seed).draw()
        if not mixture.events or any(e.target[INDEX["Whistle"]] < 0.5 for e in mixture.events):
            continue
        frames = mixture.samples.reshape(100, -1)  # 100 ms each
        spectrum = np.abs(np.fft.rfft(frames * np.hanning(frames.shape[1]), axis=1))
        at = np.fft.rfftfreq(frames.shape[1], 1 / RATE)
        energy = spectrum[:, (at > 650) & (at < 950)].max(axis=1)
        inside = np.zeros(100, bool)
        for event in mixture.events:
            inside[int(np.ceil(event.onset * 10)) : int(event.offset * 10)] = True
        if inside.sum() > 2 and (~inside).sum() > 2:
            checked += 1
            assert np.median(energy[inside]) > 1.3 * np.median(energy[~inside])
    assert checked > 10


def test_sharpening_makes_a_timid_teacher_bold_and_keeps_its_order() -> None:
    """0.34 becomes 0.6, next to nothing stays next to nothing, and what was higher stays higher."""
    scores = np.array([0.001, 0.01, 0.1, 0.34, 0.7, 0.99], np.float32)
    sharp = sharpen(scores)
    assert sharp[3] == pytest.approx(0.6, abs=0.02)
    assert sharp[1] < 0.02
    assert (np.diff(sharp) > 0).all()


def test_the_active_part_is_the_loudest_stretch() -> None:
    """Silence around it goes, short pauses stay, a quieter sound far away goes."""
    samples = np.zeros(6 * RATE, np.float32)
    rng = np.random.default_rng(0)
    for begin_s, end_s, gain in ((1.0, 1.5, 1.0), (2.0, 2.4, 1.0), (5.0, 5.2, 0.3)):
        stretch = slice(int(begin_s * RATE), int(end_s * RATE))
        samples[stretch] = gain * rng.standard_normal(stretch.stop - stretch.start)
    part = active_part(samples)
    assert part.start / RATE == pytest.approx(1.0, abs=0.03)
    assert part.stop / RATE == pytest.approx(2.4, abs=0.03)
