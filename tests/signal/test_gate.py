"""Windows that cannot matter are passed over, and nothing that can."""

from __future__ import annotations

import numpy as np
import pytest

from streamer.data import synthesis
from streamer.signal.gate import Gate
from streamer.types import Samples, Window

RATE = 16000


def wanted(samples: Samples, hop_s: float = 1.0) -> list[bool]:
    gate = Gate(hop_s, hold_s=3.0)
    past = np.concatenate((np.zeros(10 * RATE, np.float32), samples))
    answers = []
    for k in range(int(len(samples) / RATE / hop_s)):
        at = round((k + 1) * hop_s * RATE)
        window = Window("room", k, past[at : at + 10 * RATE], RATE, at / RATE - 10, at / RATE)
        answers.append(gate.wants(window))
    return answers


def room(seconds: float, seed: int = 0) -> Samples:
    return 0.003 * synthesis.coloured_noise(np.random.default_rng(seed), RATE, seconds, 1.0)


@pytest.mark.parametrize("hop_s", [0.5, 1.0])
def test_in_a_steady_room_few_windows_are_wanted(hop_s: float) -> None:
    """Once the room is known, one window in half a window's length; the first twenty seconds all."""
    answers = wanted(room(120), hop_s)
    learnt = answers[round(25 / hop_s) :]

    assert all(answers[: round(20 / hop_s) - 1])
    assert np.mean(learnt) < 1.5 * hop_s / 5
    gaps = np.diff(np.flatnonzero(learnt)) * hop_s
    assert gaps.max() <= 5


@pytest.mark.parametrize("silence", [0.0, 1e-6])
def test_digital_silence_is_quiet(silence: float) -> None:
    """All zeros, or all but the last bit."""
    answers = wanted(np.full(90 * RATE, silence, np.float32))
    assert np.mean(answers[30:]) < 0.3


@pytest.mark.parametrize(
    ("sound", "snr_db"),
    [
        (synthesis.temporal_three, -3),
        (synthesis.temporal_four, -3),
        (synthesis.siren, 0),
        (synthesis.knocks, 6),
    ],
)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_sound_is_never_passed_over(sound: synthesis.Generator, snr_db: float, seed: int) -> None:
    """Its first hop is wanted though it is softer than the room as a whole: some octave tells."""
    samples = room(70, seed)
    made = sound(np.random.default_rng(seed), RATE, 8.0).samples
    loud = np.sqrt(np.mean(np.square(made[np.abs(made) > 0.05])))
    samples[60 * RATE : 68 * RATE] += made * 0.003 / loud * 10 ** (snr_db / 20)

    assert all(wanted(samples)[60:62])


def test_where_time_breaks_off_the_room_is_learnt_anew() -> None:
    """After a gap all windows are wanted until it is known again."""
    gate = Gate(1.0, hold_s=3.0)
    quiet = room(10)
    answers = [gate.wants(Window("room", k, quiet, RATE, k - 9.0, k + 1.0)) for k in range(60)]
    assert not all(answers[40:])
    assert all(gate.wants(Window("room", k, quiet, RATE, k - 9.0, k + 1.0)) for k in range(600, 615))


@pytest.mark.parametrize("new_s", [1e-6, 1e-3, 0.01, 0.04, 0.2, 9.9])
def test_a_window_with_next_to_nothing_new_is_one_like_others(new_s: float) -> None:
    """A clock that is set moves the end of a window by any amount; the levels of a minute go on beside it."""
    gate = Gate(1.0, hold_s=3.0)
    samples = room(10)
    for index, end in enumerate((10.0, 11.0, 11.0 + new_s, 12.0 + new_s)):
        assert gate.wants(Window("room", index, samples, RATE, end - 10, end))
