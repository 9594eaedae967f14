"""Blocks become hops of a second, on a time line that stays true, and wait for the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.nodes import flac
from streamer.nodes.hops import Cut, Hops
from streamer.nodes.outbox import Outbox
from streamer.nodes.wire import Codec
from streamer.types import AudioBlock, Samples

RATE = 16000


def cuts(samples: Samples, rate: int, lengths: Sequence[int], begin: float = 100.0) -> list[Cut]:
    """The hops of samples that come in blocks of these lengths, in turns."""
    hops, found, at, i = Hops(rate, RATE), [], 0, 0
    while at < len(samples):
        part = samples[at : at + lengths[i % len(lengths)]]
        found += hops.add(AudioBlock(part, 0.0), begin + at / rate)
        at, i = at + len(part), i + 1
    return found + list(hops.end())


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 40000), min_size=1, max_size=5), st.sampled_from([16000, 44100, 48000]))
def test_hops_are_gapless(lengths: list[int], rate: int) -> None:
    """However long the blocks are, each hop but the last is a second, after the one before."""
    found = cuts(np.zeros(round(3.3 * rate), np.float32), rate, lengths)
    assert [len(cut.samples) for cut in found[:-1]] == [RATE] * 3
    assert abs(sum(len(cut.samples) for cut in found) - 3.3 * RATE) <= 2
    assert [cut.captured for cut in found] == pytest.approx([100.0, 101.0, 102.0, 103.0], abs=1e-4)
    assert [cut.discontinuity for cut in found] == [True, False, False, False]


def test_a_resampled_tone_is_where_it_was() -> None:
    """Another rate moves no sound in time, and changes no loudness."""
    rate = 48000
    t = np.arange(2 * rate) / rate
    tone = (0.5 * np.sin(2 * np.pi * 440 * t) * (t > 1.25)).astype(np.float32)
    sent = np.concatenate([cut.samples for cut in cuts(tone, rate, [4800])]) / 32768
    assert np.flatnonzero(np.abs(sent) > 0.1)[0] / RATE == pytest.approx(1.25, abs=0.002)
    assert np.abs(sent[RATE + 8000 :]).max() == pytest.approx(0.5, abs=0.005)


def test_lost_audio_begins_a_stretch() -> None:
    """What came before it is sent as a shorter hop, and the next one says that audio is missing."""
    hops = Hops(RATE, RATE)
    half = np.full(RATE // 2, 0.25, np.float32)
    found = [
        *hops.add(AudioBlock(half, 0.0), 10.0),
        *hops.add(AudioBlock(np.ones(RATE, np.float32), 0.0, discontinuity=True), 20.0),
    ]
    assert [(len(cut.samples), cut.captured, cut.discontinuity) for cut in found] == [
        (RATE // 2, 10.0, True),
        (RATE, 20.0, True),
    ]


def test_samples_that_are_none_do_no_harm() -> None:
    """No number is silence; beyond full scale is full scale."""
    values = np.array([np.nan, np.inf, -np.inf, 7.0, -7.0, 1.0, -1.0], np.float32)
    (cut,) = cuts(values, RATE, [len(values)])
    assert cut.samples.tolist() == [0, 32767, -32768, 32767, -32768, 32767, -32768]


def outbox(**options: object) -> Outbox:
    return Outbox(RATE, Codec.FLAC, **{"gate_dbfs": None, "keep_s": 5.0, **options})  # type: ignore[arg-type]


def second(value: int = 100, captured: float = 0.0) -> Cut:
    return Cut(np.full(RATE, value, np.int16), captured, discontinuity=False)


async def test_hops_are_kept_until_they_are_taken() -> None:
    """Each has a number; those that were taken are gone, the others can be sent again."""
    box = outbox()
    for value in range(4):
        box.put(second(value))
    assert flac.decode((await box.at(2)).payload, RATE)[0] == 2
    box.taken(2)
    assert (await box.at(0)).sequence == 2
    waiting = asyncio.create_task(box.at(4))
    await asyncio.sleep(0)
    box.put(second(4))
    assert (await waiting).sequence == 4
    box.taken(5)
    await box.until_empty()
    assert box.lost_s == 0


async def test_the_oldest_goes_first() -> None:
    """More than `keep_s` is not kept, and what found no room is counted."""
    box = outbox()
    for _ in range(8):
        box.put(second())
    assert (await box.at(0)).sequence == 3
    assert box.lost_s == 3


async def test_a_gate_sends_the_level_alone() -> None:
    """A hop without a loud moment is its level; one with a knock in it is sent whole."""
    box = outbox(gate_dbfs=-40.0)
    quiet, knock = second(30), second(30)
    knock.samples[500:1500] = 20000
    for cut in (quiet, knock):
        box.put(cut)
    first, other = await box.at(0), await box.at(1)
    assert (first.codec, first.payload) == (Codec.LEVEL, b"")
    assert first.level_dbfs == pytest.approx(20 * np.log10(30 / 32768))
    assert np.array_equal(flac.decode(other.payload, RATE), knock.samples)
