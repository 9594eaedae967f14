"""Pauses between attempts."""

from __future__ import annotations

from streamer.core.backoff import Backoff


def test_it_grows_to_its_bound() -> None:
    """With full jitter between nothing and twice as much each time, after any number of failures."""
    backoff = Backoff(jitter=1.0)
    for failures, most in [(1, 1), (2, 2), (3, 4), (7, 60), (1000, 60)]:
        pauses = [backoff.pause_s(failures) for _ in range(200)]
        assert all(0 <= pause <= most for pause in pauses)
        assert max(pauses) > most / 2


def test_without_jitter_it_doubles() -> None:
    """From the first to the longest; no failure is no pause."""
    backoff = Backoff(first_s=0.5, longest_s=3.0)
    assert [backoff.pause_s(failures) for failures in range(6)] == [0, 0.5, 1, 2, 3, 3]


def test_the_first_attempt_may_come_at_once() -> None:
    """One failure is often the only one."""
    backoff = Backoff(at_once=True)
    assert [backoff.pause_s(failures) for failures in range(4)] == [0, 0, 1, 2]
