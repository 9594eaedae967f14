"""The ring keeps the latest audio on a true time line and knows what it lost."""

import threading

import numpy as np
import pytest

from streamer.capture.ring import Ring
from streamer.types import AudioBlock, Samples

RATE = 1000
START = 1_700_000_000.25


def ramp(first: int, last: int) -> Samples:
    """Samples that tell their own index."""
    return (np.arange(first, last) / 1e6).astype(np.float32)


def feed(ring: Ring, seconds: float, first: int = 0, late_s: float = 0.0, clock_rate: float = RATE) -> int:
    """Write blocks of 100 ms from index `first` on, captured at `clock_rate`; the index after them."""
    for index in range(first, first + round(seconds * RATE), 100):
        ring.write(AudioBlock(ramp(index, index + 100), START + index / clock_rate + late_s))
    return first + round(seconds * RATE)


def test_reads_by_index_and_by_time() -> None:
    """A sample is found by its index and by its time alike."""
    ring = Ring(RATE, 5)
    feed(ring, 3)

    excerpt = ring.read(1234, 2345)
    same = ring.between(START + 1.234, START + 2.345)

    assert np.array_equal(ramp(1234, 2345), excerpt.samples)
    assert np.array_equal(excerpt.samples, same.samples)
    assert pytest.approx((START + 1.234, START + 2.345), abs=1e-6) == (excerpt.start, excerpt.end)
    assert not excerpt.has_gap


def test_keeps_the_latest() -> None:
    """What is older than the ring is overwritten, and who asks for it gets silence and is told."""
    ring = Ring(RATE, 2)
    end = feed(ring, 9)

    assert np.array_equal(ramp(end - 2000, end), ring.read(end - 2000, end).samples)
    assert not ring.read(end - 2000, end).has_gap
    old = ring.read(end - 2100, end - 1000)
    assert old.has_gap
    assert not old.samples[:100].any()
    assert np.array_equal(ramp(end - 2000, end - 1000), old.samples[100:])


def test_memory_is_fixed() -> None:
    """Audio without end, in blocks of any size, does not make the ring grow."""
    ring = Ring(RATE, 2)
    memory = ring._samples
    for n in (1, 7, 1999, 2000, 2001, 5000):
        ring.write(AudioBlock(np.zeros(n, np.float32), START))
    assert ring._samples is memory
    assert len(memory) == 2 * RATE


@pytest.mark.parametrize(("kind", "n_bytes"), [("<i2", 2), ("<f4", 4)])
def test_what_is_kept_is_what_came(kind: str, n_bytes: int) -> None:
    """Each sample is read as it was written, to the bit; one of 16-bit audio takes two bytes."""
    whole = np.random.default_rng(1).integers(-(2**15), 2**15, 3 * RATE).astype(np.float32) / 2**15
    whole[:2] = -1, 1 - 2**-15
    if kind == "<f4":
        whole[1500:] = np.random.default_rng(2).uniform(-1, 1, 1500).astype(np.float32)
        whole[-2:] = -1, 1
    ring = Ring(RATE, 5)
    for at in range(0, len(whole), 100):
        ring.write(AudioBlock(whole[at : at + 100], START + at / RATE))
    kept = ring.read(0, len(whole))
    assert kept.samples.dtype == np.float32
    assert np.array_equal(kept.samples, whole)
    assert not kept.has_gap
    assert ring._samples.nbytes == n_bytes * 5 * RATE


def test_many_holes_take_no_memory() -> None:
    """A link that loses audio before each block does not make the ring grow, and each hole stays known."""
    ring = Ring(RATE, 2)
    for k in range(1000):
        ring.write(AudioBlock(ramp(k, k + 50), START + k * 0.1, discontinuity=True))
    assert len(ring._lost) <= 21
    end = ring.end
    assert [ring.read(end - 100 * k - 50, end - 100 * k).has_gap for k in range(19)] == [False] * 19
    assert [ring.read(end - 100 * k - 51, end - 100 * k).has_gap for k in range(19)] == [True] * 19


def test_before_the_start_is_silence_without_a_gap() -> None:
    """Before a source began nothing was lost."""
    ring = Ring(RATE, 5)
    feed(ring, 1)
    excerpt = ring.read(-500, 1000)
    assert not excerpt.samples[:500].any()
    assert np.array_equal(ramp(0, 1000), excerpt.samples[500:])
    assert not excerpt.has_gap


def test_what_is_yet_to_come_is_a_gap() -> None:
    """Who asks for more than there is gets silence and is told."""
    ring = Ring(RATE, 5)
    feed(ring, 1)
    assert ring.read(900, 1100).has_gap
    assert not ring.read(1000, 1100).samples.any()


def test_a_hole_is_silence_of_its_length() -> None:
    """Lost audio leaves silence, so that what follows keeps its time; it is marked and counted."""
    ring = Ring(RATE, 5)
    feed(ring, 1)
    ring.write(AudioBlock(ramp(1300, 1400), START + 1.3, discontinuity=True))

    assert ring.end == 1400
    assert not ring.read(1000, 1300).samples.any()
    assert np.array_equal(ramp(1300, 1400), ring.between(START + 1.3, START + 1.4).samples)
    assert [ring.read(*span).has_gap for span in ((0, 1000), (0, 1001), (1299, 1400), (1300, 1400))] == [
        False,
        True,
        True,
        False,
    ]
    assert ring.metrics.overflows == 1
    assert ring.metrics.gap_s == pytest.approx(0.3)


@pytest.mark.parametrize("late_s", [0.0, 0.0004, -0.3])
def test_a_hole_shorter_than_a_sample_is_none(late_s: float) -> None:
    """A mark of lost audio without lost time is counted and leaves no hole."""
    ring = Ring(RATE, 5)
    feed(ring, 1)
    ring.write(AudioBlock(ramp(1000, 1100), START + 1 + late_s, discontinuity=True))
    assert ring.end == 1100
    assert not ring.read(0, 1100).has_gap
    assert (ring.metrics.overflows, ring.metrics.gap_s) == (1, 0.0)


def test_a_hole_longer_than_the_ring_restarts_it() -> None:
    """After an hour without audio nothing old is left, indices go on, and times are those of now."""
    ring = Ring(RATE, 5)
    feed(ring, 1)
    ring.write(AudioBlock(ramp(0, 100), START + 3600, discontinuity=True))

    excerpt = ring.read(0, 1100)
    assert ring.end == 1100
    assert excerpt.has_gap
    assert not excerpt.samples[:1000].any()
    assert np.array_equal(ramp(0, 100), excerpt.samples[1000:])
    assert excerpt.end == pytest.approx(START + 3600.1, abs=1e-6)
    assert ring.metrics.gap_s == pytest.approx(3599)


def test_the_first_block_lost_nothing() -> None:
    """A source marks its first block; in an empty ring there is nothing before it that could be lost."""
    ring = Ring(RATE, 5)
    ring.write(AudioBlock(ramp(0, 100), START, discontinuity=True))
    assert (ring.end, ring.metrics.overflows) == (100, 0)
    assert not ring.read(0, 100).has_gap


def test_bad_samples_are_cleaned_and_counted() -> None:
    """NaN, infinity and values beyond full scale do not get in; the writer's array is left alone."""
    bad = np.array([0.5, np.nan, np.inf, -np.inf, 1e30, -1.001, 1.0, -1.0, 1e-45], np.float32)
    original = bad.copy()
    ring = Ring(RATE, 5)
    ring.write(AudioBlock(bad, START))

    assert ring.read(0, 8).samples.tolist() == [0.5, 0, 1, -1, 1, -1, 1, -1]
    assert ring.metrics.bad_samples == 5
    assert np.array_equal(original, bad, equal_nan=True)


def test_exact_times_stay_exact() -> None:
    """A file's times are not bent, however long it is."""
    ring = Ring(RATE, 5)
    end = feed(ring, 3600)
    assert ring.read(end - 1, end).end == START + 3600


@pytest.mark.parametrize("error", [50e-6, -50e-6, 300e-6])
def test_follows_a_drifting_clock(error: float) -> None:
    """A device whose clock is off by 50 ppm, with callbacks that come late in bursts, stays within 50 ms."""
    random = np.random.default_rng(1)
    ring = Ring(RATE, 5)
    off_s = []
    for index in range(0, 3600 * RATE, 100):
        true = START + index / (RATE * (1 + error))
        burst_s = 0.4 * random.random() if random.random() < 0.2 else 0.003 * random.random()
        ring.write(AudioBlock(ramp(0, 100), true + burst_s))
        off_s.append(ring.read(index, index + 1).start - true)
    assert max(map(abs, off_s[100:])) < 0.05


def test_a_burst_after_a_stall_moves_nothing() -> None:
    """Blocks that a stalled server held back and then gives all at once keep the times they had."""
    ring = Ring(RATE, 60)
    end = feed(ring, 20)
    for _ in range(40):
        ring.write(AudioBlock(ramp(0, 100), START + 24.1))  # all come at the end of 4 s
    feed(ring, 20, first=end + 4000)
    assert ring.read(0, 1).start == START


@pytest.mark.parametrize("lost_s", [None, 2.0])
def test_a_stretch_whose_first_block_is_late(lost_s: float | None) -> None:
    """The blocks after it show when it was, at the start and after a hole: nothing lies in the future."""
    ring = Ring(RATE, 30)
    first, begin = 0, START
    if lost_s is not None:
        first, begin = feed(ring, 1), START + lost_s
        ring.write(AudioBlock(ramp(first, first + 100), begin + first / RATE + 0.4, discontinuity=True))
    else:
        ring.write(AudioBlock(ramp(0, 100), START + 0.4))
    end = first + 100
    for index in range(end, end + 500, 100):
        ring.write(AudioBlock(ramp(index, index + 100), begin + index / RATE))

    assert ring.time(ring.end) == pytest.approx(begin + (end + 500) / RATE, abs=0.02)


@pytest.mark.parametrize("step_s", [3600.0, -3600.0])
def test_follows_a_clock_that_is_set(step_s: float) -> None:
    """When the wall clock is set, times are right again within 20 s of audio."""
    ring = Ring(RATE, 5)
    end = feed(ring, 15)
    end = feed(ring, 20, first=end, late_s=step_s)
    assert ring.read(end, end).start == pytest.approx(START + end / RATE + step_s, abs=1e-3)


def test_one_writes_while_another_reads() -> None:
    """A reader in another thread sees every sample either whole or not yet."""
    ring = Ring(RATE, 20)
    writer = threading.Thread(target=feed, args=(ring, 15))
    writer.start()
    while writer.is_alive():
        end = ring.end
        assert np.array_equal(ramp(0, end), ring.read(0, end).samples)
    writer.join()
    assert ring.end == 15 * RATE


def test_tells_its_listener() -> None:
    """Whoever waits for audio is woken by each block and by the end."""
    ring = Ring(RATE, 5)
    calls: list[bool] = []
    ring.listen(lambda: calls.append(ring.finished))
    feed(ring, 0.2)
    ring.finish()
    assert calls == [False, False, True]
