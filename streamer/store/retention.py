"""How long messages are kept. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

TURN = 1000
"""messages that go at once, so that a transaction stays small"""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Where a bound is reached the oldest go, and are counted where somebody has not got them."""

    age_s: float = 7 * 86400.0
    size: int = 64 << 20
    """bytes of messages"""
    behind: int = 1000
    """messages that every consumer has, kept for one that asks again"""
    memory: int = 10_000
    """messages that wait in memory while the disk refuses"""


BOUNDS = Bounds()


class Expired(NamedTuple):
    """The messages that go: all up to one."""

    last: int
    """the number of the latest of them; 0 where none goes"""
    n: int
    size: int


def expired(
    oldest_first: Iterable[tuple[int, float, int]],
    *,
    now: float,
    size: int,
    delivered: int,
    bounds: Bounds,
) -> Expired:
    """Which of (number, time, bytes) go. `size` is that of all, `delivered` the slowest cursor."""
    last = n = freed = 0
    for seq, created, length in oldest_first:
        is_within = now - created < bounds.age_s and size - freed <= bounds.size
        if n == TURN or (is_within and seq > delivered - bounds.behind):
            break
        last, n, freed = seq, n + 1, freed + length
    return Expired(last, n, freed)
