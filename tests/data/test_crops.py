"""Crops hold what is asked for, when it is asked for."""

from pathlib import Path

import numpy as np
import pytest
import torch

from streamer.data import paths
from streamer.data.clips import PEAK, RATE, Entry, Piece
from streamer.data.crops import INDEX, STEP_S, WHOLE, Mixer, Part, Stock, n_frames, n_samples, targets
from streamer.model.config import FbankConfig
from streamer.model.fbank import Fbank
from streamer.model.labels import AUDIOSET
from streamer.signal.sounding import sounding

WHISTLE, DOG, SIREN = INDEX["Whistle"], INDEX["Dog"], INDEX["Siren"]


def scores(**labels: float) -> np.ndarray:
    out = np.full(len(AUDIOSET), 0.001, np.float32)
    for name, value in labels.items():
        out[INDEX[name]] = value
    return out


def piece(source: str = "ann/sounds", seconds: float = 1.0, label: str = "Whistle") -> Piece:
    """A tone of 800 Hz, a fifth of a second after the beginning."""
    tone = np.sin(2 * np.pi * 800 * np.arange(int(seconds * RATE)) / RATE) * PEAK
    samples = np.concatenate((np.zeros(RATE // 5), tone)).astype(np.int16)
    entry = Entry(Path(f"{source}.wav"), "more-free", source, (label,), True, ("CC0-1.0", "Ann", ""))
    return Piece(entry, samples, sounding(samples, RATE), PEAK / 2**0.5, scores(**{label: 0.6}))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("steps", [13, 31, WHOLE])
def test_a_crop_is_sound(seed: int, steps: int) -> None:
    """Both hearers get finite samples within ±1, of just the frames that the time steps need."""
    crop = Mixer(Stock([piece()], {"more-free": 1.0}), [], np.random.default_rng(seed)).draw(steps)
    assert crop.samples.shape == (n_samples(steps, RATE),)
    assert np.abs(crop.samples).max() <= 1
    assert np.abs(crop.heard).max() <= 1
    features = Fbank(FbankConfig()).frames(torch.from_numpy(crop.heard)[None], paths.RATE)
    assert features.shape[1] == n_frames(steps)
    for part in crop.parts:
        assert part.active.shape == (steps,)
        assert 0 <= part.active.min() <= part.active.max() <= 1
    assert max((part.level_db for part in crop.parts), default=0.0) == 0


def test_it_sounds_when_the_parts_say() -> None:
    """In the time steps of an 800 Hz tone there is more energy at 800 Hz than in the others."""
    checked = 0
    for seed in range(80):
        crop = Mixer(Stock([piece()], {"more-free": 1.0}), [], np.random.default_rng(seed)).draw(31)
        tones = [part for part in crop.parts if not part.is_alarm]
        if len(tones) != 1 or len(crop.parts) != 1:
            continue
        width = int(STEP_S * RATE)
        frames = crop.samples[: 31 * width]
        frames = np.pad(frames, (0, 31 * width - len(frames))).reshape(31, width)
        spectrum = np.abs(np.fft.rfft(frames * np.hanning(width), axis=1))
        at = np.fft.rfftfreq(width, 1 / RATE)
        energy = spectrum[:, (at > 650) & (at < 950)].max(axis=1)
        inside, outside = tones[0].active >= 1, tones[0].active == 0
        if inside.sum() > 2 and outside.sum() > 2:
            checked += 1
            assert np.median(energy[inside]) > 2 * np.median(energy[outside])
    assert checked > 5


def test_a_long_piece_that_is_mostly_silent_can_be_drawn() -> None:
    """The part of it that is taken may hold none of its sound."""
    long = np.zeros(60 * RATE, np.int16)
    long[-RATE:] = PEAK
    silent = Piece(piece().entry, long, sounding(long, RATE), PEAK, scores(Whistle=0.6))
    mixer = Mixer(Stock([silent], {"more-free": 1.0}), [], np.random.default_rng(0))
    for _ in range(10):
        assert np.isfinite(mixer.draw(13).samples).all()


def part(label: str, sounds: list[float], *, level_db: float = 0.0, is_alarm: bool = False) -> Part:
    sure = np.zeros(len(AUDIOSET), np.float32)
    sure[INDEX[label]] = 0.9
    return Part(np.maximum(scores(), sure), sure, is_alarm, np.array(sounds, np.float32), level_db)


def test_time_steps_are_asked_for_the_part_that_sounds_in_them() -> None:
    """A dog before a whistle: each label in its own steps, and what the teacher says of both in both."""
    parts = [part("Dog", [1, 1, 0, 0]), part("Whistle", [0, 0, 1, 1])]
    crop, frames = targets(scores(Dog=0.3, Whistle=0.95), parts, 4)
    assert crop[DOG] == pytest.approx(0.9)  # a person said so
    assert crop[WHISTLE] == pytest.approx(0.95)  # the teacher is surer still
    assert frames[:, DOG] == pytest.approx([0.9, 0.9, 0, 0], abs=0.02)
    assert frames[:, WHISTLE] == pytest.approx([0, 0, 0.95, 0.95], abs=0.02)


def test_what_cannot_be_heard_is_not_asked_for() -> None:
    """A soft part's certain label: the teacher's own score stands."""
    parts = [part("Whistle", [1, 1]), part("Dog", [1, 1], level_db=-12)]
    crop, frames = targets(scores(Whistle=0.8, Dog=0.1), parts, 2)
    assert crop[DOG] == pytest.approx(0.1)
    assert frames[:, DOG].max() <= 0.1 + 1e-6


def test_an_alarm_is_no_other_alarm() -> None:
    """Where a smoke alarm was synthesised, the teacher's siren is not believed; its dog is."""
    parts = [part("Smoke detector, smoke alarm", [1, 1], is_alarm=True)]
    crop, _ = targets(scores(Siren=0.8, Dog=0.8), parts, 2)
    assert crop[SIREN] < 0.2
    assert crop[DOG] == pytest.approx(0.8)


def test_a_source_with_many_clips_does_not_crowd_out_the_others() -> None:
    """Of a hundred clips of one source and one of another, the one comes more often than one in a hundred."""
    stock = Stock([*(piece("many") for _ in range(100)), piece("few")], {"more-free": 1.0})
    rng = np.random.default_rng(0)
    few = sum(stock.draw(rng).entry.source == "few" for _ in range(2000))
    assert 100 < few < 1000


def test_the_paths_keep_length_and_take_what_they_should() -> None:
    """8 kHz takes what is above 4 kHz; a telephone's code and MP3 change little."""
    rng = np.random.default_rng(0)
    noise = 0.1 * rng.standard_normal(2 * paths.RATE).astype(np.float32)
    f = np.fft.rfftfreq(paths.fast_length(len(noise)), 1 / paths.RATE)
    dull = paths.filtered(noise, np.where(f > 4000, -80.0, 0.0))
    power = np.abs(np.fft.rfft(dull)) ** 2
    at = np.fft.rfftfreq(len(dull), 1 / paths.RATE)
    assert power[at > 4300].sum() < 1e-3 * power[at < 3700].sum()
    for changed in (paths.telephone_code(noise), paths.through_mp3(dull, paths.RATE, 64000)):
        assert changed.shape == noise.shape
    assert np.abs(paths.telephone_code(noise) - noise).max() < 0.02
    tone = np.sin(2 * np.pi * 1000 * np.arange(paths.RATE) / paths.RATE).astype(np.float32) / 2
    coded = np.abs(np.fft.rfft(paths.through_mp3(tone, paths.RATE, 64000)))
    assert coded.argmax() == 1000


@pytest.mark.parametrize("n", [2, 3, 1000, 32_001, 80_000, 131_072, 480_123])
def test_a_fast_length_is_enough_and_not_much_more(n: int) -> None:
    """No shorter than what is asked for, and at most an eighth longer."""
    assert n <= paths.fast_length(n) <= max(n + 2, 1.13 * n)


def test_pauses_between_steps_are_bridged_and_between_barks_not() -> None:
    """Two bursts 0.3 s apart are one stretch; a third, a second later, is another."""
    samples = np.zeros(4 * RATE, np.int16)
    for begin_s in (0.5, 1.0, 2.5):
        samples[int(begin_s * RATE) : int((begin_s + 0.2) * RATE)] = 20000
    assert sounding(samples, RATE) == pytest.approx(np.array([[0.5, 1.2], [2.5, 2.7]]), abs=0.021)
