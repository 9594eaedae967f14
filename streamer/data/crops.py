"""Crops of two to ten seconds in which it is known what sounds, and when; and what is asked for each.

The teacher and the student are given the same crop (Beyer et al., A good teacher is patient and consistent,
https://arxiv.org/abs/2106.05237); only what a line or a loudspeaker does to it is done to the student's
alone, so that it learns to hear through that.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from streamer.data import paths
from streamer.data.clips import RATE, Piece, Scores
from streamer.data.synthesis import ALARMS, coloured_noise
from streamer.model.config import FRAME_S
from streamer.model.features import resample
from streamer.model.labels import AUDIOSET
from streamer.signal.sounding import sounding
from streamer.types import Samples

STRIDE = 16
"""frames a time step"""
STEP_S = STRIDE * FRAME_S
WHOLE = 64
"""time steps of a whole window, of which the last is padded"""
_WHOLE_FRAMES = 998
_CERTAIN, _NEAR = 0.9, 0.5
"""targets of labels that a person gave"""
_SYNTHESISED = (0.95, 0.8, 0.7)
"""targets of a synthesised sound's labels, surest first"""
_OTHERWISE = 0.15
"""at most so much of another alarm's label where an alarm is synthesised: the teacher confuses them"""
_HIDDEN_DB = -9.0
"""a piece that is softer than the loudest by this may not be audible: its certain labels are not asked for"""
_ALONE = 0.7
"""a loud piece's time steps are asked for no less than this share of what the teacher says of it alone"""

_NOISE_S = 16.384
"""length of the noises of which each crop has a part: a power of two of samples is quickly made"""
_N_NOISES = 9

INDEX = {label: i for i, label in enumerate(AUDIOSET)}


def n_frames(steps: int) -> int:
    return _WHOLE_FRAMES if steps == WHOLE else STRIDE * steps


def n_samples(steps: int, rate: int) -> int:
    """What gives just these frames."""
    return (n_frames(steps) - 1) * rate // 100 + rate // 40


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A piece in a crop."""

    scores: Scores
    """(n_labels,) of it alone, with its certain labels"""
    certain: Scores
    """(n_labels,) targets of its certain labels, else 0"""
    is_alarm: bool
    active: npt.NDArray[np.float32]
    """(steps,) how much of each time step it sounds in"""
    level_db: float
    """against the loudest part"""


@dataclass(slots=True, eq=False)
class Crop:
    samples: Samples
    """(n,) at RATE, as the teacher gets it"""
    heard: Samples
    """(n / 2,) at the student's rate, as the student gets it"""
    parts: list[Part] = field(default_factory=list)


def targets(teacher: Scores, parts: Sequence[Part], steps: int) -> tuple[Scores, Scores]:
    """(n_labels,) of the crop and (steps, n_labels) of its time steps, from the teacher's scores of the crop.

    A label's time steps are those of the part that has most of it.
    """
    crop = teacher.copy()
    audible = [part for part in parts if part.level_db > _HIDDEN_DB and part.active.sum() > 0.5]
    if any(part.is_alarm for part in audible):
        own = np.max([part.certain for part in audible], axis=0) > 0
        crop = np.where(_ALARM_LABELS & ~own, np.minimum(crop, _OTHERWISE), crop)
    for part in audible:
        crop = np.maximum(crop, part.certain)
    frames = np.zeros((steps, len(crop)), np.float32)
    if parts:
        most = np.max([part.scores for part in parts], axis=0) + 1e-4
        for part in parts:
            frames = np.maximum(frames, part.active[:, None] * (crop * (part.scores + 1e-4) / most))
        for part in audible:
            frames = np.maximum(frames, part.active[:, None] * (_ALONE * part.scores))
            frames = np.maximum(frames, part.active[:, None] * part.certain)
    else:
        frames += crop
    return np.asarray(crop, np.float32), np.asarray(frames, np.float32)


def _alarm_labels() -> npt.NDArray[np.bool_]:
    """The first labels of what the program synthesises: of two such sounds neither is the other."""
    rng = np.random.default_rng(0)
    named = {generator(rng, 8000, 0.5).labels[0] for generator in ALARMS for _ in range(8)}
    return np.isin(np.array(AUDIOSET), list(named))


_ALARM_LABELS = _alarm_labels()


class Stock:
    """Pieces, drawn so that a source, or a label, with many of them does not crowd out the others."""

    def __init__(self, pieces: Sequence[Piece], shares: dict[str, float]) -> None:
        """`shares`: how often each data set is drawn from, against the others."""
        self.pieces = [piece for piece in pieces if shares.get(piece.entry.folder, 0) > 0]
        scores = np.stack([known(piece) for piece in self.pieces])
        named = np.where(scores >= 0.3, scores, 0)
        # A label's share grows with the root of its pieces, and so does a source's.
        rarity = (named / np.sqrt(1 + named.sum(axis=0))).max(axis=1)
        rarity = np.clip(rarity / np.median(rarity[rarity > 0]), 0.5, 4.0)
        by_source: dict[tuple[str, str], list[int]] = defaultdict(list)
        for i, piece in enumerate(self.pieces):
            by_source[piece.entry.folder, piece.entry.source].append(i)
        chances = np.zeros(len(self.pieces))
        for own in by_source.values():
            chances[own] = rarity[own] / rarity[own].sum() * len(own) ** 0.5
        for folder, share in shares.items():
            own = [i for i, piece in enumerate(self.pieces) if piece.entry.folder == folder]
            if own:
                chances[own] *= share / chances[own].sum()
        self._cumulated = np.cumsum(chances / chances.sum())

    def draw(self, rng: np.random.Generator) -> Piece:
        return self.pieces[min(int(np.searchsorted(self._cumulated, rng.random())), len(self.pieces) - 1)]


def certain(piece: Piece) -> Scores:
    """(n_labels,) targets of the labels that a person gave, else 0."""
    out = np.zeros(len(AUDIOSET), np.float32)
    out[[INDEX[label] for label in piece.entry.labels]] = _CERTAIN if piece.entry.exact else _NEAR
    return out


def known(piece: Piece) -> Scores:
    return np.maximum(piece.scores, certain(piece))


@functools.cache
def _noise(i: int) -> Samples:
    """From white to brown."""
    return coloured_noise(np.random.default_rng(i), RATE, _NOISE_S, 2 * i / (_N_NOISES - 1))


class Mixer:
    """Draws crops: a piece, often a second and a third, alarms, rooms, noise, levels, paths."""

    def __init__(self, stock: Stock, rooms: Sequence[Samples], rng: np.random.Generator) -> None:
        self._stock, self._rooms, self._rng = stock, rooms, rng

    def draw(self, steps: int) -> Crop:
        rng = self._rng
        n = n_samples(steps, RATE)
        mixed = np.zeros(n, np.float32)
        drawn: list[tuple[float, Scores, Scores, bool, npt.NDArray[np.float32]]] = []
        kind = rng.random()
        n_pieces = 0 if kind < 0.06 else 1 if kind < 0.5 else 2 if kind < 0.88 else 3
        n_pieces += int(steps == WHOLE and rng.random() < 0.4)  # ten seconds have room for more
        has_alarm = rng.random() < (0.8 if n_pieces == 0 else 0.07)
        for i in range(n_pieces + has_alarm):
            level_db = 0.0 if not drawn else rng.uniform(-14, 6)
            if i == n_pieces:
                samples, rms, active, scores, sure, is_alarm = self._alarm()
            else:
                piece = self._stock.draw(rng)
                samples, rms = piece.samples.astype(np.float32), piece.rms
                active, scores, sure, is_alarm = piece.active, known(piece), certain(piece), False
            samples, active = self._vary(samples, active)
            when = self._place(mixed, samples * (10 ** (level_db / 20) / rms), active, steps)
            drawn.append((level_db, scores, sure, is_alarm, when))
        top_db = max((level_db for level_db, *_ in drawn), default=0.0)
        parts = [
            Part(scores, sure, is_alarm, when, level_db - top_db)
            for level_db, scores, sure, is_alarm, when in drawn
        ]
        mixed /= 10 ** (top_db / 20)
        if rng.random() < 0.5 or not parts:
            noise = _noise(int(rng.integers(_N_NOISES)))
            begin = int(rng.integers(len(noise) - n))
            mixed += noise[begin : begin + n] * np.float32(10 ** (-rng.uniform(3, 40) / 20))
        mixed *= (
            np.float32(0.05 / (np.sqrt(np.square(mixed).mean()) + 1e-6)) if not parts else np.float32(0.07)
        )
        mixed = mixed / max(1.0, float(np.max(np.abs(mixed))))
        heard = resample(mixed[None], RATE, paths.RATE)[0, : n_samples(steps, paths.RATE)]
        heard = paths.vary(heard, rng)
        level = 10 ** (rng.triangular(-28, -4, 16) / 20)
        heard = heard * np.float32(level)
        if rng.random() < 0.9:  # what a microphone adds of its own
            floor = 10 ** (rng.uniform(-90, -60) / 20)
            heard += rng.standard_normal(len(heard), np.float32) * np.float32(floor)
        return Crop(mixed, np.clip(heard, -1, 1).astype(np.float32), parts)

    def _alarm(
        self,
    ) -> tuple[Samples, float, npt.NDArray[np.float32], Scores, Scores, bool]:
        rng = self._rng
        generator = ALARMS[int(rng.integers(len(ALARMS)))]
        sound = generator(rng, RATE, float(rng.uniform(2.0, 12.0)))
        sure = np.zeros(len(AUDIOSET), np.float32)
        for label, value in zip(sound.labels, _SYNTHESISED, strict=False):
            sure[INDEX[label]] = value
        active = sounding((sound.samples * 30000).astype(np.int16), RATE)
        rms = float(np.sqrt(np.square(sound.samples).mean()) + 1e-6) * 1.5
        return sound.samples, rms, active, sure, sure, True

    def _vary(
        self, samples: Samples, active: npt.NDArray[np.float32]
    ) -> tuple[Samples, npt.NDArray[np.float32]]:
        """Speed ± 15 %, a room."""
        rng = self._rng
        if len(samples) > 15 * RATE:  # nothing is longer than what the longest crop can hold
            begin = int(rng.integers(len(samples) - 15 * RATE))
            samples = samples[begin : begin + 15 * RATE]
            active = np.clip(active - begin / RATE, 0, 15)
            active = active[active[:, 1] > active[:, 0]]
        if rng.random() < 0.6:
            speed = rng.uniform(0.87, 1.15)
            at = np.arange(0, len(samples) - 1, speed, dtype=np.float32)
            samples = np.interp(at, np.arange(len(samples)), samples).astype(np.float32)
            active = active / np.float32(speed)
        if self._rooms and rng.random() < 0.3:
            response = self._rooms[int(rng.integers(len(self._rooms)))]
            n_fft = paths.fast_length(len(samples) + len(response))
            wet = paths.convolved(samples, torch.fft.rfft(torch.from_numpy(response), n_fft), n_fft)
            dry = rng.uniform(0.0, 0.8)
            samples = (dry * samples + (1 - dry) * wet).astype(np.float32)
        return samples, active

    def _place(
        self, mixed: Samples, samples: Samples, active: npt.NDArray[np.float32], steps: int
    ) -> npt.NDArray[np.float32]:
        """Add it so that some moment of its sound lies somewhere in the crop; when it sounds, (steps,)."""
        rng, n = self._rng, len(mixed)
        moment = int(rng.integers(len(samples)))
        if len(active):  # a long piece may be silent in the part of it that was taken
            lengths = active[:, 1] - active[:, 0]
            moment = int(RATE * rng.uniform(*active[int(rng.choice(len(active), p=lengths / lengths.sum()))]))
        start = int(rng.integers(n)) - moment
        if len(samples) > n and rng.random() < 0.6:
            start = min(0, max(start, n - len(samples)))  # no end and no beginning in sight
        starts = [start]
        if len(samples) < 0.7 * n and rng.random() < 0.5:  # again and again
            pause = int(RATE * rng.uniform(0.05, 1.5))
            while starts[-1] + len(samples) + pause < n:
                starts.append(starts[-1] + len(samples) + pause)
            while starts[0] - pause > 0:
                starts.insert(0, starts[0] - pause - len(samples))
        sounds = np.zeros(steps, np.float32)
        edges = np.arange(steps) * STEP_S
        for at in starts:
            begin, end = max(at, 0), min(at + len(samples), n)
            if end > begin:
                mixed[begin:end] += samples[begin - at : end - at]
            for onset, offset in active + at / RATE:
                sounds += np.clip(np.minimum(edges + STEP_S, offset) - np.maximum(edges, onset), 0, None)
        # Half a step is enough to count in full: short barks would else never be asked for.
        return np.asarray(np.minimum(1, 2 * sounds / STEP_S), np.float32)
