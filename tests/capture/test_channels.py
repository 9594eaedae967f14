"""Many channels become one, and none gets lost on the way."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from streamer.capture.channels import Channel, Mixer
from streamer.types import Samples


def noise(seed: int = 0, level: float = 0.1) -> Samples:
    return np.random.default_rng(seed).normal(0, level, 1600).astype(np.float32)


def test_channels_in_opposite_phase(caplog: pytest.LogCaptureFixture) -> None:
    """Their mean is silence: the strongest is heard, through pauses too, and that is said once."""
    mixer = Mixer("room", "mix")
    for _ in range(3):
        np.testing.assert_array_equal(mixer.mono(np.stack([0.5 * noise(), -noise() * 0.6])), -noise() * 0.6)
    np.testing.assert_array_equal(mixer.mono(np.stack([noise(level=1e-7), noise(1, 1e-7)])), noise(1, 1e-7))
    (said,) = caplog.records
    assert said.levelno == logging.WARNING
    assert said.message.startswith("room: its channels cancel each other")
    assert "`channel: 2`" in said.message


@pytest.mark.parametrize(
    "channels",
    [
        [noise(1), noise(2)],
        [noise(1), noise(1)],
        [noise(1), 0 * noise(1)],
        [noise(1), -0.1 * noise(1)],
        [noise(seed) for seed in range(32)],
        [noise(1)],
        [noise(1, 0), noise(1, 0)],
        [noise(1)[:0], noise(1)[:0]],
        [noise(1), noise(1) * np.float32("nan")],
    ],
    ids=["apart", "same", "one is dead", "faint echo", "many", "mono", "silence", "empty", "nan"],
)
def test_all_else_is_the_mean(channels: list[Samples], caplog: pytest.LogCaptureFixture) -> None:
    """Also where the channels have nothing in common, or one of them is dead."""
    samples = np.stack(channels)
    np.testing.assert_array_equal(Mixer("room", "mix").mono(samples), samples.mean(axis=0, dtype=np.float32))
    assert not caplog.records


def test_one_channel() -> None:
    """The one that was asked for, as it is, and a copy."""
    samples = np.stack([noise(1), -noise(1)])
    one = Mixer("room", 2).mono(samples)
    np.testing.assert_array_equal(one, samples[1])
    assert one.base is None


@pytest.mark.parametrize("channel", ["mix", 1, 2])
def test_a_stream_that_goes_on_with_fewer_channels(channel: Channel) -> None:
    """A damaged recording, or a station between two programmes: what there is is taken."""
    mixer = Mixer("radio", channel)
    sine = np.sin(np.arange(1000, dtype=np.float32))
    mixer.mono(np.stack((0.1 * sine, -0.2 * sine)))
    np.testing.assert_array_equal(mixer.mono(sine[None]), sine)
