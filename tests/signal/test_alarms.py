"""The cadence of alarms is found in the signal, and nothing else is taken for one."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from streamer.data import synthesis
from streamer.signal.alarms import CADENCES, AlarmWatch, CadenceName, find
from streamer.types import Samples, Window

pytestmark = pytest.mark.slow

RATE = 16000


def ten_seconds(
    sound: synthesis.Generator, seed: int, begin_s: float, *, rate: int = RATE, snr_db: float = 20
) -> Samples:
    """A sound that begins after a while, in pink noise."""
    rng = np.random.default_rng(seed)
    made = sound(rng, rate, 10.0).samples[: round((10 - begin_s) * rate)]
    samples = np.concatenate((np.zeros(10 * rate - len(made), np.float32), made))
    power = np.mean(np.square(made[np.abs(made) > 0.05]))
    noise = synthesis.coloured_noise(rng, rate, 10.0, 1.0)
    return np.asarray(0.1 * (samples + noise * np.sqrt(power / 10 ** (snr_db / 10))), np.float32)


def real_t4(rng: synthesis.Rng, rate: int, seconds: float) -> synthesis.Sound:
    """As the standard has it: the next group of beeps comes after five seconds."""
    t = np.arange(round(seconds * rate)) / rate
    on = (t % 5.7 < 0.7) & (t % 5.7 % 0.2 < 0.1)
    return synthesis.Sound((on * np.sin(2 * np.pi * rng.uniform(2800, 3500) * t)).astype(np.float32), ())


@pytest.mark.parametrize("snr_db", [20, 5, -5])
@pytest.mark.parametrize("rate", [16000, 44100, 48000])
def test_smoke_alarms_are_verified(rate: int, snr_db: float) -> None:
    """High and low tones, of any wave form and speed that the standard allows, also below the noise."""
    for seed in range(2):
        heard = ten_seconds(synthesis.temporal_three, seed, 1.5, rate=rate, snr_db=snr_db)
        found = find(heard, rate, CADENCES["t3"])
        assert found is not None
        assert found[1] - found[0] == pytest.approx(2.5, abs=0.3)
        assert find(heard, rate, CADENCES["t4"]) is None


@pytest.mark.parametrize("snr_db", [20, 5, 0])
def test_carbon_monoxide_alarms_are_verified(snr_db: float) -> None:
    """Four short beeps with a long quiet around them."""
    for seed in range(2):
        heard = ten_seconds(real_t4, seed, 4.0, snr_db=snr_db)
        assert find(heard, RATE, CADENCES["t4"]) == pytest.approx((4.0, 4.7), abs=0.15)
        assert find(heard, RATE, CADENCES["t3"]) is None


def microwave(rng: synthesis.Rng, rate: int, seconds: float) -> synthesis.Sound:
    """Three beeps of a second, at two kilohertz, once."""
    t = np.arange(round(seconds * rate)) / rate
    return synthesis.Sound((np.sin(2 * np.pi * 2048 * t) * ((t % 2 < 1) & (t < 6))).astype(np.float32), ())


def shrill_reversing_beeps(rng: synthesis.Rng, rate: int, seconds: float) -> synthesis.Sound:
    """At the pitch of a smoke alarm, half a second on and half a second off, without the pause."""
    t = np.arange(round(seconds * rate)) / rate
    return synthesis.Sound((np.sin(2 * np.pi * 3100 * t) * (t % 1 < 0.5)).astype(np.float32), ())


def shrill_alarm_clock(rng: synthesis.Rng, rate: int, seconds: float) -> synthesis.Sound:
    """Four beeps a second at the pitch of a carbon monoxide alarm: its pause is too short."""
    t = np.arange(round(seconds * rate)) / rate
    on = (t % 1.2 < 0.7) & (t % 1.2 % 0.2 < 0.1)
    return synthesis.Sound((np.sin(2 * np.pi * 3000 * t) * on).astype(np.float32), ())


def melody(rng: synthesis.Rng, rate: int, seconds: float) -> synthesis.Sound:
    """Notes of half a second with overtones, some of them rests."""
    notes = 220 * 2 ** (rng.integers(0, 36, 20) / 12) * rng.integers(0, 2, 20)
    pitch = np.repeat(notes, rate // 2)[: round(seconds * rate)]
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    return synthesis.Sound(
        np.sum([np.sin(k * phase) / k for k in range(1, 8)], axis=0).astype(np.float32), ()
    )


NEGATIVES: list[Callable[..., synthesis.Sound]] = [
    *(
        sound
        for sound in synthesis.ALARMS
        if sound not in {synthesis.temporal_three, synthesis.temporal_four}
    ),
    microwave,
    shrill_reversing_beeps,
    shrill_alarm_clock,
    melody,
]


@pytest.mark.parametrize("sound", NEGATIVES, ids=lambda sound: sound.__name__)
def test_nothing_else_is_verified(sound: Callable[..., synthesis.Sound]) -> None:
    """Not alarm clocks, sirens, reversing beeps, microwaves, melodies: pitch, lengths and pauses must fit."""
    for seed in range(3):
        heard = ten_seconds(sound, seed, 1.5)
        assert [name for name in CADENCES if find(heard, RATE, CADENCES[name])] == []


def windows(samples: Samples, hop_s: float, begin: float) -> list[Window]:
    past = np.concatenate((np.zeros(10 * RATE, np.float32), samples))
    return [
        Window("room", k, past[at : at + 10 * RATE], RATE, begin + at / RATE - 10, begin + at / RATE)
        for k in range(round(len(samples) / RATE / hop_s))
        if (at := round((k + 1) * hop_s * RATE))
    ]


@pytest.mark.parametrize("hop_s", [0.5, 1.0, 2.0])
@pytest.mark.parametrize(("name", "sound"), [("t3", synthesis.temporal_three), ("t4", real_t4)])
def test_window_by_window_each_group_is_found_once(
    name: CadenceName, sound: synthesis.Generator, hop_s: float
) -> None:
    """Found as soon as the quiet after the beeps is heard, at its own time; and not again."""
    begin = 1_790_000_000.0
    watch = AlarmWatch()
    found = []
    quiet = np.random.default_rng(0).normal(0, 1e-3, 5 * RATE).astype(np.float32)
    for window in windows(np.concatenate((quiet, ten_seconds(sound, 1, 0.5), quiet)), hop_s, begin):
        found += [(*group[1:], window.end) for group in watch.update(window) if group[0] == name]

    assert found[0][0] - begin == pytest.approx(5.5, abs=0.2)
    for _, end, known_at in found:
        assert known_at <= end + 1.1 * CADENCES[name].quiet_s + hop_s + 0.1
    assert all(later[0] > earlier[1] for earlier, later in pairwise(found))


def test_in_a_quiet_room_nothing_is_analysed_and_the_first_beep_wakes_it() -> None:
    """A group whose first beep is in a loud hop is found, together with the quiet before it."""
    quiet = np.random.default_rng(0).normal(0, 1e-3, 40 * RATE).astype(np.float32)
    samples = np.concatenate((quiet, ten_seconds(synthesis.temporal_three, 1, 0.5)))
    watch = AlarmWatch()
    found = []
    for window in windows(samples, 1.0, 0.0):
        found += watch.update(window, is_loud=window.end > 40.0)

    assert found[0][1] == pytest.approx(40.5, abs=0.2)
