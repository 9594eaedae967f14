"""Inputs that are no microphone in a room are recognised."""

from __future__ import annotations

import numpy as np
import pytest

from streamer.signal.faults import fault
from streamer.types import Samples, Window

RATE = 16000
NOISE = np.random.default_rng(0).normal(0, 0.05, 10 * RATE).astype(np.float32)
TONE = (0.3 * np.sin(2 * np.pi * 1000 * np.arange(10 * RATE) / RATE)).astype(np.float32)


def said(samples: Samples, *, warm_up: bool = False, has_gap: bool = False) -> str:
    window = Window(
        "room", 20, samples.astype(np.float32), RATE, 10.0, 20.0, has_gap=has_gap, warm_up=warm_up
    )
    return fault(window, RATE)


@pytest.mark.parametrize(
    "samples", [NOISE, TONE, NOISE + TONE, NOISE * 1e-4], ids=["noise", "tone", "both", "faint"]
)
def test_a_sound_input_has_no_fault(samples: Samples) -> None:
    """A pure tone repeats itself, too, but faster than any driver's block."""
    assert said(samples) == ""


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (np.zeros(10 * RATE), "digital silence for 10 s"),
        (np.full(10 * RATE, 0.25), "stuck at 0.25"),
        (np.tile(NOISE[:320], 500), "the same 20 ms again and again"),
        (np.clip(NOISE * 20, -1, 1), "clipping"),
        (np.clip(TONE * 3, -0.5, 0.5), "clipping"),
        (NOISE * 0.1 + 0.1, "constant offset of 10%"),
    ],
    ids=["dead", "stuck", "hanging", "clipping", "clipping before the converter", "offset"],
)
def test_a_fault_is_said(samples: Samples, words: str) -> None:
    """Each by its own words, for people."""
    assert words in said(samples)


def test_what_was_not_heard_is_no_fault() -> None:
    """Silence before the source's start, or in a gap, is ours."""
    assert said(np.zeros(10 * RATE), warm_up=True) == ""
    assert said(np.zeros(10 * RATE), has_gap=True) == ""
