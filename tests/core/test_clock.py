"""Clocks that follow a wall clock that was set, and nothing else."""

from __future__ import annotations

import time

import pytest

from streamer.core.clock import Clock, SourceClock


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A wall clock that is off by what stands in the list: only root may set the real one."""
    offset = [0.0]
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + offset[0])
    return offset


@pytest.mark.parametrize("step_s", [0.9, -0.9])
def test_small_steps_are_not_followed(wall: list[float], step_s: float) -> None:
    """As NTP makes them: an interval between two times stays true."""
    clock = Clock()
    began = clock.now()
    wall[0] = step_s
    assert 0 <= clock.now() - began < 0.5


@pytest.mark.parametrize("step_s", [-86_400.0, 1.1, 86_400.0])
def test_a_clock_that_was_set_is_followed(wall: list[float], step_s: float) -> None:
    """From the next call on."""
    clock = Clock()
    began = clock.now()
    wall[0] = step_s
    assert clock.now() - began == pytest.approx(step_s, abs=0.5)


@pytest.mark.parametrize("step_s", [-3600.0, 3600.0])
def test_a_source_follows_when_its_windows_do(wall: list[float], step_s: float) -> None:
    """Until then its clock and its windows are on the old time: no latency is an hour, or negative."""
    clock = SourceClock()
    began = time.time()
    assert clock.follow(began) == pytest.approx(began, abs=0.5)
    wall[0] = step_s
    assert clock.follow(began) == pytest.approx(began, abs=0.5)
    assert clock.now() == pytest.approx(began, abs=0.5)
    assert clock.follow(began + step_s) == pytest.approx(began + step_s, abs=0.5)
    assert clock.now() == pytest.approx(began + step_s, abs=0.5)


@pytest.mark.parametrize("step_s", [-3600.0, 3600.0])
def test_a_window_that_is_late_is_no_sign_that_the_source_has_followed(
    wall: list[float], step_s: float
) -> None:
    """Its latency is what it is, on the old time, as long as its window is."""
    clock = SourceClock()
    began = time.time()
    clock.follow(began)
    wall[0] = step_s
    assert clock.follow(began - 3) == pytest.approx(began, abs=0.5)
    assert clock.follow(began) == pytest.approx(began, abs=0.5)
    assert clock.follow(began + step_s - 3) == pytest.approx(began + step_s, abs=0.5)
