"""What the flow of blocks says of a source."""

from __future__ import annotations

import pytest

from streamer.capture.stall import Flow

RATE = 16000
LOOK_S = 0.25


def looks(flow: Flow, seconds: float, *, speed: float = 1.0, burst_s: float = 0.1) -> list[float]:
    """Look at a source that gives `speed` times its rate, in bursts; returns the shortages found."""
    found = []
    for i in range(1, round(seconds / LOOK_S) + 1):
        n_bursts = int(i * LOOK_S / burst_s)
        flow.check(i * LOOK_S, n_bursts, round(n_bursts * burst_s * RATE * speed))
        if flow.shortage is not None:
            found.append(flow.shortage)
    return found


def test_a_steady_source() -> None:
    """A source at its rate is short of nothing, and is never quiet for longer than a block."""
    flow = Flow(RATE)
    assert looks(flow, 200) == pytest.approx([0.0] * 3, abs=0.01)
    assert flow.quiet_s <= LOOK_S


@pytest.mark.parametrize("speed", [0.85, 0.919])
def test_a_source_that_is_short(speed: float) -> None:
    """A slow callback, or 44.1 kHz sold as 48: what lacks is found in a minute."""
    assert looks(Flow(RATE), 70, speed=speed) == pytest.approx([1 - speed], abs=0.01)


def test_bursts_are_no_shortage() -> None:
    """A stream that comes in segments of six seconds lacks nothing."""
    assert looks(Flow(RATE), 400, burst_s=6.0) == pytest.approx([0.0] * 6, abs=0.01)


def test_a_source_that_stands_still() -> None:
    """Quiet is counted from the last block on, and ends with the next."""
    flow = Flow(RATE)
    looks(flow, 10)
    for i in range(1, 9):
        flow.check(10 + i * LOOK_S, 100, 100)
    assert flow.quiet_s == 8 * LOOK_S
    flow.check(12.25, 101, 101)
    assert flow.quiet_s == 0.0


def test_a_process_that_stood_still() -> None:
    """A look that comes late proves nothing: neither that the source stood still, nor that it is short."""
    flow = Flow(RATE)
    looks(flow, 50)
    flow.check(80.0, 500, 50 * RATE)
    assert (flow.quiet_s, flow.shortage) == (0.0, None)


def test_a_source_that_is_fast() -> None:
    """Twice its rate is noticed in the second minute; the burst with which a stream begins is not."""
    flow = Flow(RATE)
    assert looks(flow, 65, speed=2.0) == pytest.approx([-1.0], abs=0.02)
    assert not flow.is_fast
    flow = Flow(RATE)
    looks(flow, 130, speed=2.0)
    assert flow.is_fast


def test_samples_that_are_none() -> None:
    """Their share of the last ten seconds of audio; nothing is said of less."""
    flow = Flow(RATE)
    for second in range(1, 31):
        n_bad = 0 if second <= 10 else (second - 10) * RATE // 4 if second <= 20 else 10 * RATE // 4
        flow.check(second, second, second * RATE, n_bad)
        assert flow.bad_share == (0.25 if 20 <= second < 30 else 0.0)
