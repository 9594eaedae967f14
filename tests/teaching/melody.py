"""A melody that no model knows by name, as recordings that differ in level, noise and length."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from streamer.data.synthesis import coloured_noise, write_wav
from streamer.types import Samples

RATE = 16000
MELODY_S = 1.6


def melody(notes: tuple[float, ...] = (659.3, 784.0, 1046.5, 784.0)) -> Samples:
    """(n,) four struck notes of 0.4 s, peak 1: a bell of a home appliance."""
    t = np.arange(int(MELODY_S / len(notes) * RATE)) / RATE
    tones = [
        sum(a * np.sin(2 * np.pi * k * note * t) for k, a in ((1, 1.0), (2, 0.4), (3, 0.2)))
        * np.exp(-t / 0.25)
        * np.minimum(1, t / 0.005)
        for note in notes
    ]
    samples = np.concatenate(tones).astype(np.float32)
    return samples / np.abs(samples).max()


def recording(
    seconds: float, at_s: float | None, seed: int, level: float = 0.2, noise: float = 0.003
) -> Samples:
    """(n,) a quiet room in which the melody begins at `at_s`, or does not sound."""
    samples = noise * coloured_noise(np.random.default_rng(seed), RATE, seconds, 1.0)
    if at_s is not None:
        at = int(at_s * RATE)
        samples[at : at + int(MELODY_S * RATE)] += level * melody()
    return np.clip(samples, -1, 1).astype(np.float32)


def clips(folder: Path, n: int = 4) -> list[Path]:
    """Recordings to teach from."""
    paths = []
    for i in range(n):
        path = folder / f"melody{i + 1}.wav"
        write_wav(path, recording(2.5 + 0.3 * i, 0.3 + 0.1 * i, seed=i, level=0.1 + 0.1 * i), RATE)
        paths.append(path)
    return paths
