"""Windows come every hop, whole, and say what they lack."""

import asyncio
import itertools
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.capture.ring import Ring
from streamer.capture.windows import Windows, cut_pieces
from streamer.capture.windows import cut as cut_clip
from streamer.types import AudioBlock, Window

START = 1_700_000_000.25


def audio(rate: int, seconds: float, seed: int = 0) -> AudioBlock:
    random = np.random.default_rng(seed)
    return AudioBlock(random.uniform(-1, 1, round(seconds * rate)).astype(np.float32), START)


def cut(block: AudioBlock, rate: int, lengths: list[int]) -> list[AudioBlock]:
    """The same audio in blocks of these lengths, over and over."""
    blocks: list[AudioBlock] = []
    first = 0
    while first < len(block.samples):
        last = first + lengths[len(blocks) % len(lengths)]
        part = AudioBlock(
            block.samples[first:last], block.captured_at + first / rate, block.discontinuity and not first
        )
        blocks.append(part)
        first = last
    return blocks


def windows_of(blocks: list[AudioBlock], rate: int, hop_s: float, window_s: float = 2.0) -> list[Window]:
    ring = Ring(rate, 15)
    windows = Windows(ring, "here", hop_s=hop_s, window_s=window_s, every_hop=True)
    result = []
    for block in blocks:
        ring.write(block)
        while (window := windows.due()) is not None:
            result.append(window)
    return result


def plain(window: Window) -> tuple[object, ...]:
    return tuple(
        value.tobytes() if isinstance(value, np.ndarray) else value
        for value in (getattr(window, field.name) for field in fields(window))
    )


@settings(max_examples=60, deadline=None)
@given(
    rate=st.sampled_from([800, 1000, 1102, 1333]),
    hop_s=st.sampled_from([0.1, 0.25, 0.333, 1.0]),
    lengths=st.lists(st.integers(1, 3000), min_size=1, max_size=8),
    hole_s=st.sampled_from([0.0, 0.0004, 0.7, 4.0]),
    seed=st.integers(0, 5),
)
def test_cutting_does_not_matter(
    rate: int, hop_s: float, lengths: list[int], hole_s: float, seed: int
) -> None:
    """However audio is cut into blocks, the windows are the same to the bit."""
    before, after = audio(rate, 5.1, seed), audio(rate, 4.3, seed + 1)
    after = replace(after, captured_at=START + len(before.samples) / rate + hole_s, discontinuity=hole_s > 0)

    whole = windows_of([before, after], rate, hop_s)
    parts = windows_of(cut(before, rate, lengths) + cut(after, rate, lengths), rate, hop_s)

    assert [plain(window) for window in whole] == [plain(window) for window in parts]
    assert [window.index for window in whole] == list(range(len(whole)))


def test_a_window_is_what_was_said() -> None:
    """Window k ends k + 1 hops after the start, is as long as a window is, and is silent before the start."""
    rate = 1000
    block = audio(rate, 4)
    windows = windows_of(cut(block, rate, [100]), rate, hop_s=0.5)

    assert len(windows) == 8
    for index, window in enumerate(windows):
        last = (index + 1) * 500
        assert window.index == index
        assert window.end == pytest.approx(START + last / rate, abs=1e-6)
        assert window.end - window.start == pytest.approx(2.0, abs=1e-6)
        assert window.warm_up == (last < 2000)
        assert not window.has_gap
        silence = max(0, 2000 - last)
        assert not window.samples[:silence].any()
        assert np.array_equal(block.samples[max(0, last - 2000) : last], window.samples[silence:])


def test_no_window_spans_an_unmarked_hole() -> None:
    """Exactly the windows that overlap lost audio say so."""
    rate = 1000
    before, after = audio(rate, 3), audio(rate, 5, seed=1)
    after = replace(after, captured_at=START + 3.2, discontinuity=True)
    windows = windows_of(cut(before, rate, [100]) + cut(after, rate, [100]), rate, hop_s=0.5)
    for window in windows:
        overlaps = window.end > START + 3.0 + 1e-6 and window.start < START + 3.2 - 1e-6
        assert window.has_gap == overlaps


def test_the_newest_wins() -> None:
    """Live, hops that came due meanwhile are skipped and counted."""
    rate = 1000
    ring = Ring(rate, 15)
    windows = Windows(ring, "here", hop_s=1.0)
    assert windows.due() is None
    for block in cut(audio(rate, 1), rate, [100]):
        ring.write(block)
    first = windows.due()
    for block in cut(replace(audio(rate, 4.5), captured_at=START + 1), rate, [100]):
        ring.write(block)
    second = windows.due()

    assert first is not None
    assert second is not None
    assert (first.index, second.index) == (0, 4)
    assert windows.due() is None
    assert (ring.metrics.windows, ring.metrics.windows_skipped) == (2, 3)


async def test_windows_come_as_the_audio_does() -> None:
    """The iterator waits for audio from another thread, and ends with the ring."""
    rate = 1000
    ring = Ring(rate, 15)
    heard: list[Window] = []
    next_wanted = asyncio.Event()
    next_wanted.set()

    async def listen() -> None:
        async for window in Windows(ring, "here", hop_s=0.5):
            heard.append(window)
            next_wanted.set()

    async def capture() -> None:
        for hop in cut(audio(rate, 3), rate, [500]):
            await next_wanted.wait()
            next_wanted.clear()
            for block in cut(hop, rate, [100]):
                await asyncio.to_thread(ring.write, block)
        await next_wanted.wait()
        await asyncio.to_thread(ring.finish)

    async with asyncio.timeout(60):
        await asyncio.gather(listen(), capture())
    assert [window.index for window in heard] == [0, 1, 2, 3, 4, 5]


async def test_what_is_due_at_the_end_is_still_read() -> None:
    """A ring that was finished before anybody listened gives its last window all the same."""
    rate = 1000
    ring = Ring(rate, 15)
    ring.write(audio(rate, 2.2))
    ring.finish()
    assert [window.index async for window in Windows(ring, "here", hop_s=1.0)] == [1]


def test_a_short_clip_comes_after_silence() -> None:
    """As the first windows of a source do."""
    (window,) = cut_clip(np.ones(3 * 1000, np.float32), 1000, 10.0, "clip")
    assert len(window.samples) == 10_000
    assert not window.samples[:7000].any()
    assert window.samples[7000:].all()


def test_windows_of_a_clip_overlap_by_half_and_end_with_it() -> None:
    """No sample is left out."""
    clip = np.arange(23 * 1000, dtype=np.float32)
    windows = cut_clip(clip, 1000, 10.0, "clip")
    assert [window.start for window in windows] == [0, 5, 10, 13]
    assert np.array_equal(windows[-1].samples, clip[-10_000:])


@given(
    n=st.integers(0, 400),
    sizes=st.lists(st.integers(0, 150), min_size=1, max_size=8),
    window=st.integers(1, 100),
)
def test_a_clip_in_pieces_has_the_windows_of_the_whole(n: int, sizes: list[int], window: int) -> None:
    """Starts, ends and samples are the same, however the clip comes."""
    samples = np.arange(n, dtype=np.float32)
    bounds = np.minimum(np.cumsum([0, *sizes]), n)
    pieces = [samples[a:b] for a, b in itertools.pairwise([*bounds.tolist(), n])]
    found = list(cut_pieces(pieces, 100, window / 100, "clip"))
    last = max(0, n - window)
    starts = [*range(0, last, max(1, window // 2)), last]
    padded = np.pad(samples, (max(0, window - n), 0))
    assert [round(one.start * 100) for one in found] == starts
    assert [one.index for one in found] == list(range(len(starts)))
    for one, at in zip(found, starts, strict=True):
        np.testing.assert_array_equal(one.samples, padded[at : at + window])


def late(block: AudioBlock, first: int, last: int, rate: int, *, is_late: bool) -> AudioBlock:
    return AudioBlock(block.samples[first * rate : last * rate], START + first, late=is_late)


def test_audio_that_came_late_is_scored_whole() -> None:
    """Hops that waited behind a link that was down are all due, and those that come meanwhile as well."""
    rate, block = 1000, audio(1000, 40)
    ring = Ring(rate, 60)
    windows = Windows(ring, "here", window_s=2.0)
    ring.write(late(block, 0, 3, rate, is_late=False))
    first = windows.due()
    assert first is not None
    assert (first.index, ring.metrics.windows_skipped) == (2, 2)  # live, the newest wins
    ring.write(late(block, 3, 20, rate, is_late=True))
    indices = []
    for second in range(20, 40):  # two windows are scored while a second comes
        for _ in range(2):
            window = windows.due()
            indices += [] if window is None else [window.index]
        ring.write(late(block, second, second + 1, rate, is_late=False))
    assert indices == list(range(3, 39))
    assert ring.metrics.windows_skipped == 2


def test_a_model_that_cannot_catch_up_skips() -> None:
    """Where hops come as fast as they are scored, the newest one wins in the end."""
    rate, block = 1000, audio(1000, 200)
    ring = Ring(rate, 60)
    windows = Windows(ring, "here", window_s=2.0)
    ring.write(late(block, 0, 10, rate, is_late=True))
    behind = []
    for second in range(10, 100):
        window = windows.due()
        assert window is not None
        behind.append(second - 1 - window.index)
        ring.write(late(block, second, second + 1, rate, is_late=False))
    assert behind[0] == 9
    assert behind[-1] == 0
    assert ring.metrics.windows_skipped == 9
