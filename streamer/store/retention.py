"""How long messages and clips are kept. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
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


@dataclass(frozen=True, slots=True)
class ClipBounds:
    """Where a bound is reached clips go; those that are pinned stay."""

    days: float
    size: int
    """bytes of all"""
    per_sound: int
    min_free: int
    """bytes that stay free on the disk"""


@dataclass(frozen=True, slots=True)
class KeptClip:
    id: str
    """of its event"""
    sound: str
    start: float
    size: int
    """bytes"""
    is_pinned: bool
    verdict: str | None


_WORTH = {"wrong": 0, None: 1, "right": 2}
"""what is worth least goes first"""


def clips_to_remove(
    clips: Sequence[KeptClip], *, now: float, free: int, needed: int, bounds: ClipBounds
) -> tuple[list[KeptClip], bool]:
    """Which clips go so that `needed` bytes more fit, and whether they fit then. `free` is that of the disk.

    First what is too old, then the oldest of a sound that has too many, then, from the sound with the most
    bytes, those marked wrong, those not reviewed, those marked right, the oldest first. Where not even all of
    them would free what the disk lacks, something else fills it, and none goes for that.
    """
    gone: dict[str, KeptClip] = {}
    by_sound = Counter(clip.sound for clip in clips)
    for clip in sorted(clips, key=lambda clip: clip.start):
        is_old = now - clip.start > bounds.days * 86400
        if not clip.is_pinned and (is_old or by_sound[clip.sound] > bounds.per_sound):
            gone[clip.id] = clip
            by_sound[clip.sound] -= 1
    used = sum(clip.size for clip in clips if clip.id not in gone)
    free += sum(clip.size for clip in gone.values())
    size_of = Counter[str]()
    left: dict[str, list[KeptClip]] = {}
    for clip in sorted(clips, key=lambda clip: (_WORTH[clip.verdict], clip.start), reverse=True):
        if clip.id not in gone:
            size_of[clip.sound] += clip.size
            if not clip.is_pinned:
                left.setdefault(clip.sound, []).append(clip)
    is_hopeless = free + sum(clip.size for one in left.values() for clip in one) - needed < bounds.min_free
    while used + needed > bounds.size or (free - needed < bounds.min_free and not is_hopeless):
        if not left:
            return list(gone.values()), False
        sound = max(left, key=lambda name: size_of[name])
        clip = left[sound].pop()
        if not left[sound]:
            del left[sound]
        gone[clip.id] = clip
        used, free = used - clip.size, free + clip.size
        size_of[sound] -= clip.size
    return list(gone.values()), not is_hopeless
