"""What may be expected of a taught sound: whether its clips suffice, and which other sounds are like it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from streamer.errors import ModelError
from streamer.teaching import record
from streamer.teaching.clips import GOOD
from streamer.teaching.fit import likeness
from streamer.teaching.record import Taught

ALIKE = 0.5
"""the score from which on two sounds sound alike"""


@dataclass(frozen=True, slots=True)
class Alike:
    """Another taught sound that is taken for this one."""

    name: str
    n: int
    """of its clips that are taken for it"""
    n_clips: int


@dataclass(frozen=True, slots=True)
class Judgement:
    too_few: bool
    """clips; more of them would say more"""
    too_different: bool
    """most clips were not heard by heads that were fitted without them"""
    is_contradicted: bool
    """the same, and what was given as something else sounds the same"""
    alike: list[Alike]


def judge(taught: Taught, state: Path) -> Judgement:
    """Among all sounds that were taught with the same model; one whose file is damaged is left out."""
    about = taught.about
    alike = []
    for name in record.names(state):
        if name == about.name:
            continue
        try:
            other = record.read(state, name)
        except ModelError:  # its own row says so
            continue
        if other.about.fingerprint != about.fingerprint:
            continue
        scores = likeness(taught.head, other.embeddings, other.clip)
        n_alike = sum(score >= ALIKE for score in scores)
        if 2 * n_alike > len(scores):
            alike.append(Alike(name, n_alike, len(scores)))
    is_unheard = 2 * about.heard < len(about.clips)
    return Judgement(
        too_few=len(about.clips) < GOOD,
        too_different=is_unheard and not about.is_contradicted,
        is_contradicted=is_unheard and about.is_contradicted,
        alike=alike,
    )
