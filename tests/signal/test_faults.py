"""Inputs that are no microphone in a room are recognised."""

from __future__ import annotations

import numpy as np
import pytest

from streamer.signal.faults import Fault, FaultWatch, find_fault
from streamer.types import Samples, Window

RATE = 16000
NOISE = np.random.default_rng(0).normal(0, 0.05, 10 * RATE).astype(np.float32)
TONE = (0.3 * np.sin(2 * np.pi * 1000 * np.arange(10 * RATE) / RATE)).astype(np.float32)


def text_of(samples: Samples, *, warm_up: bool = False, has_gap: bool = False) -> str:
    window = Window(
        "room", 20, samples.astype(np.float32), RATE, 10.0, 20.0, has_gap=has_gap, warm_up=warm_up
    )
    found = find_fault(window, RATE)
    return "" if found is None else found.text


@pytest.mark.parametrize(
    "samples", [NOISE, TONE, NOISE + TONE, NOISE * 1e-4], ids=["noise", "tone", "both", "faint"]
)
def test_a_sound_input_has_no_fault(samples: Samples) -> None:
    """A pure tone repeats itself, too, but faster than any driver's block."""
    assert text_of(samples) == ""


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
def test_a_fault_is_text_of(samples: Samples, words: str) -> None:
    """Each by its own words, for people."""
    assert words in text_of(samples)


def test_what_was_not_heard_is_no_fault() -> None:
    """Silence before the source's start, or in a gap, is ours."""
    assert text_of(np.zeros(10 * RATE), warm_up=True) == ""
    assert text_of(np.zeros(10 * RATE), has_gap=True) == ""


SILENCE, CLIPPING = Fault("silence", "digital silence"), Fault("clipping", "clipping, 3%")


def test_silence_counts_when_it_has_lasted_ten_seconds() -> None:
    """Whatever the window's length, until anything is heard."""
    long, short = FaultWatch(), FaultWatch()
    faults = (None, SILENCE, SILENCE, None)
    assert [long.update(fault, 10.0, 1.0) for fault in faults] == [None, SILENCE, SILENCE, None]
    assert [short.update(SILENCE, 1.0, 1.0) for _ in range(11)] == [None] * 9 + [SILENCE] * 2
    assert short.update(None, 1.0, 1.0) is None


def test_clipping_counts_where_it_recurs() -> None:
    """A clap may clip; an input that clips in every second hop is too loud, until ten hops are clean."""
    watch = FaultWatch()

    def update(fault: Fault | None) -> Fault | None:
        return watch.update(fault, 10.0, 1.0)

    assert [update(fault) for fault in (CLIPPING, None, None, CLIPPING)] == [None] * 4
    assert [update(CLIPPING) for _ in range(3)] == [None, None, CLIPPING]
    assert [update(None) for _ in range(10)] == [CLIPPING] * 9 + [None]


def test_nearly_digital_silence_is_silence() -> None:
    """A dead input may have the noise of its converter: below -100 dBFS nothing is a room."""
    assert "digital silence" in text_of(NOISE * 1e-5)


def test_a_fault_has_one_text_while_it_lasts() -> None:
    """Though its figures change with each hop: a state is not published anew each second."""
    watch = FaultWatch()
    found = [watch.update(Fault("clipping", f"clipping, {share}%"), 10.0, 1.0) for share in range(10)]
    assert {fault.text for fault in found if fault is not None} == {"clipping, 4%"}
