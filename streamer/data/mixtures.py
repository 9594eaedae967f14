"""Windows of ten seconds in which it is known what sounds, and from when to when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from streamer.data.clips import RATE, active_part
from streamer.data.synthesis import ALARMS, coloured_noise
from streamer.types import Samples

WINDOW_S = 10.0
_N = int(WINDOW_S * RATE)
_LABEL_TARGETS = (0.95, 0.8, 0.7)
"""targets of a synthesised sound's labels, surest first"""

Target = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Ingredient:
    """A sound to mix in, and what the student shall say of it."""

    samples: Samples
    target: Target
    """(n_labels,)"""


@dataclass(frozen=True, slots=True, eq=False)
class Event:
    onset: float
    """seconds from the window's start"""
    offset: float
    target: Target
    """(n_labels,)"""


@dataclass(slots=True, eq=False)
class Mixture:
    samples: Samples
    """(10 s at RATE,)"""
    events: list[Event] = field(default_factory=list)


def sharpen(scores: Target) -> Target:
    """A timid teacher's scores, made bolder: the right label's median of 0.34 becomes 0.6."""
    logits = np.log(np.clip(scores, 1e-6, 1 - 1e-6) / np.clip(1 - scores, 1e-6, 1))
    return np.asarray(1 / (1 + np.exp(-(1.3 * logits + 1.27))), np.float32)


class Mixer:
    """Draws mixtures from labelled clips, unlabelled clips and synthesised alarms."""

    def __init__(
        self,
        labelled: Sequence[Ingredient],
        unlabelled: Sequence[Ingredient],
        rooms: Sequence[Samples],
        label_index: dict[str, int],
        rng: np.random.Generator,
    ) -> None:
        self.labelled, self.unlabelled, self.rooms = labelled, unlabelled, rooms
        self.label_index, self.rng = label_index, rng

    def draw(self) -> Mixture:
        rng, mixture = self.rng, Mixture(np.zeros(_N, np.float32))
        kind = rng.choice(
            ["one", "several", "alarm", "alarm over", "unlabelled", "noise"],
            p=[0.42, 0.16, 0.11, 0.09, 0.18, 0.04],
        )
        loudness_db = rng.uniform(-45, -10)
        parts: list[Ingredient] = []
        if kind in {"one", "alarm over"}:
            parts = [self._pick(self.labelled)]
        elif kind == "several":
            n = int(rng.integers(2, 4))
            parts = [self._pick(self.labelled if rng.random() < 0.7 else self.unlabelled) for _ in range(n)]
        elif kind == "unlabelled":
            parts = [self._pick(self.unlabelled) for _ in range(int(rng.integers(1, 5)))]
        for part in parts:
            self._place(mixture, part, loudness_db + rng.uniform(-8, 4))
        if kind in {"alarm", "alarm over"}:
            self._place(mixture, self._alarm(), loudness_db + rng.uniform(-8, 8))
        self._background(mixture, loudness_db)
        peak = float(np.max(np.abs(mixture.samples), initial=0.0))
        if peak > 1:
            if rng.random() < 0.3:
                np.clip(mixture.samples, -1, 1, out=mixture.samples)  # as a cheap microphone does
            else:
                mixture.samples /= peak
        return mixture

    def _pick(self, among: Sequence[Ingredient]) -> Ingredient:
        return among[int(self.rng.integers(len(among)))]

    def _alarm(self) -> Ingredient:
        generator = ALARMS[int(self.rng.integers(len(ALARMS)))]
        sound = generator(self.rng, RATE, float(self.rng.uniform(1.0, 10.0)))
        target = np.zeros(len(self.label_index), np.float32)
        for label, value in zip(sound.labels, _LABEL_TARGETS, strict=False):
            target[self.label_index[label]] = value
        return Ingredient(sound.samples[active_part(sound.samples, gap_s=2.5)], target)

    def _place(self, mixture: Mixture, part: Ingredient, level_dbfs: float) -> None:
        """Put it somewhere, cut at the window's edges, perhaps again and again after pauses."""
        rng = self.rng
        samples = self._vary(part.samples, level_dbfs)
        dry_s = len(part.samples) / RATE
        at_s = rng.uniform(-0.6 * dry_s, WINDOW_S - min(0.5, 0.5 * dry_s))
        again = rng.random() < (0.35 if dry_s < 3 else 0.1)
        while at_s < WINDOW_S:
            start = int(at_s * RATE)
            begin, end = max(start, 0), min(start + len(samples), _N)
            if end > begin:
                mixture.samples[begin:end] += samples[begin - start : end - start]
            onset, offset = max(at_s, 0.0), min(at_s + dry_s, WINDOW_S)
            if offset - onset > 0.05:
                mixture.events.append(Event(onset, offset, part.target))
            if not again:
                return
            at_s += dry_s + rng.uniform(0.1, 3.0)

    def _vary(self, samples: Samples, level_dbfs: float) -> Samples:
        """Speed ± 12 %, a tilted spectrum, a room, a level."""
        rng = self.rng
        if rng.random() < 0.5:
            n = max(2, int(len(samples) * rng.uniform(0.88, 1.12)))
            at = np.linspace(0, len(samples) - 1, n)
            samples = np.interp(at, np.arange(len(samples)), samples).astype(np.float32)
        wet = rng.random() < 0.4
        response = (
            self.rooms[int(rng.integers(len(self.rooms)))] if wet and self.rooms else np.ones(1, np.float32)
        )
        n = len(samples) + len(response) - 1
        n_fft = 1 << max(n - 1, 1).bit_length()
        spectrum = np.fft.rfft(samples, n_fft)
        if wet:
            dry = rng.uniform(0.2, 0.9)
            spectrum = spectrum * (dry + (1 - dry) * np.fft.rfft(response, n_fft))
        f = np.maximum(np.fft.rfftfreq(n_fft, 1 / RATE), 20.0)
        gain_db = rng.uniform(-4, 4) * np.log2(f / 1000)  # a tilt, dB an octave over 1 kHz
        if rng.random() < 0.3:
            gain_db += 20 * np.log10(1 / np.sqrt(1 + (f / rng.uniform(3000, 12000)) ** 4))
        if rng.random() < 0.3:
            gain_db += 20 * np.log10(1 / np.sqrt(1 + (rng.uniform(60, 400) / f) ** 4))
        out = np.fft.irfft(spectrum * 10 ** (np.clip(gain_db, -30, 15) / 20), n_fft)[:n]
        rms = float(np.sqrt(np.square(out).mean())) + 1e-9
        return np.asarray(out * (10 ** (level_dbfs / 20) / rms), np.float32)

    def _background(self, mixture: Mixture, loudness_db: float) -> None:
        """Coloured noise of wandering level, some hum; sometimes digital silence before the source began."""
        rng = self.rng
        noise = coloured_noise(rng, RATE, WINDOW_S, float(rng.uniform(0.0, 2.0)))
        level_dbfs = max(-90.0, loudness_db - rng.uniform(3, 45))
        sway = rng.uniform(0, 4) * np.sin(
            2 * np.pi * (rng.uniform(0.02, 0.3) * np.arange(_N) / RATE + rng.random())
        )
        mixture.samples += (noise * 10 ** ((level_dbfs + sway) / 20)).astype(np.float32)
        if rng.random() < 0.2:
            hum = np.sin(2 * np.pi * float(rng.choice([50, 60, 100, 120])) * np.arange(_N) / RATE)
            mixture.samples += (hum * 10 ** ((level_dbfs - rng.uniform(0, 15)) / 20)).astype(np.float32)
        if rng.random() < 0.15:
            begin_s = float(rng.uniform(0, 9))
            mixture.samples[: int(begin_s * RATE)] = 0
            mixture.events = [
                Event(max(e.onset, begin_s), e.offset, e.target)
                for e in mixture.events
                if e.offset > begin_s + 0.05
            ]
