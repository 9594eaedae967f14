"""False events an hour in recordings that contain none of the configured sounds.

    streamer eval false-alarms data/esc50-free --config configs/home.yaml

An hour of synthesised background (coloured noise whose colour and level change every half minute, with hum),
and an hour of clips of ESC-50 that the model never saw, of classes that are not configured, at levels
from -40 to -10 dBFS over background. `--keep` writes both, to choose thresholds by; judge these with another
`--seed`.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from streamer.config.schema import Config, ModelSettings
from streamer.data.synthesis import coloured_noise, write_wav
from streamer.errors import InputError
from streamer.evaluation.fold import FOLD, read_clips, read_rows
from streamer.inference.engines import open_engine
from streamer.inference.worker import Scorer
from streamer.model.labels import descendants
from streamer.run.offline import detect
from streamer.types import Samples

RATE = 16000
_PIECE_S = 30.0


def background(rng: np.random.Generator, minutes: float) -> Samples:
    """A room in which nothing happens: noise that changes every half minute, sometimes with hum."""
    pieces = []
    n = round(_PIECE_S * RATE)
    for _ in range(round(minutes * 60 / _PIECE_S)):
        level = 10 ** (rng.uniform(-70, -35) / 20)
        piece = level * coloured_noise(rng, RATE, _PIECE_S, float(rng.uniform(0, 2)))
        if rng.random() < 0.3:
            hum = np.sin(2 * np.pi * float(rng.choice([50, 60, 100, 120])) * np.arange(n) / RATE)
            piece = piece + level * 10 ** (-rng.uniform(0, 15) / 20) * hum
        pieces.append(piece.astype(np.float32))
    return np.concatenate(pieces)


def strangers(clips: Path, fold: int, config: Config) -> list[tuple[str, Samples]]:
    """Class and samples of the clips of other sounds. Raises InputError if there are none."""
    listened = {label for sound in config.sounds.values() for label in sound.labels}
    listened |= descendants(listened)
    rows = []
    for row in read_rows(clips):
        labels = set(row["audioset_labels"].split("|"))
        if int(row["fold"]) == fold and not (labels | descendants(labels)) & listened:
            rows.append(row)
    found = [(row["esc50_label"], samples) for row, samples in read_clips(clips, rows, RATE)]
    if not found:
        raise InputError(f"{clips}: every clip of fold {fold} is one that is listened for")
    return found


def scattered(
    rng: np.random.Generator, clips: Sequence[tuple[str, Samples]], minutes: float
) -> tuple[Samples, list[tuple[float, str]]]:
    """Clips one after the other over background, in random order, again and again; and when each begins."""
    samples = background(rng, minutes)
    at = 0
    begins: list[tuple[float, str]] = []
    order: list[int] = []
    while True:
        order = order or rng.permutation(len(clips)).tolist()
        name, clip = clips[order.pop()]
        if at + len(clip) > len(samples):
            return np.clip(samples, -1, 1), begins
        rms = float(np.sqrt(np.square(clip).mean())) + 1e-9
        samples[at : at + len(clip)] += clip * (10 ** (rng.uniform(-40, -10) / 20) / rms)
        begins.append((at / RATE, name))
        at += len(clip)


def write(folder: Path, name: str, samples: Samples) -> Path:
    """A recording, and beside it the truth: nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.wav"
    write_wav(path, samples, RATE)
    path.with_suffix(".tsv").write_text("onset\toffset\tevent_label\n", encoding="utf-8")
    return path


def detected(recording: Path, config: Config, scorer: Scorer) -> list[tuple[str, float]]:
    """Sound and onset of every event, without those of loudness, which are never false."""
    return [
        (event.sound, event.onset)
        for event in detect(recording, config, scorer, source_id=recording.stem)
        if event.phase == "end" and config.sounds[event.sound].labels
    ]


def recordings(
    config: Config, clips: Path, fold: int, minutes: float, seed: int
) -> tuple[Samples, Samples, list[tuple[float, str]], str]:
    """Background, clips of other sounds over background, when each of them begins, and a line about them."""
    found = strangers(clips, fold, config)
    rng = np.random.default_rng((20_000, seed))
    room = background(rng, minutes)
    others, begins = scattered(rng, found, minutes)
    return room, others, begins, f"{len(found)} clips of {len({name for name, _ in found})} classes"


def report(
    config: Config,
    clips: Path,
    *,
    fold: int = FOLD,
    model: str | None = None,
    minutes: float = 60.0,
    seed: int = 1,
) -> str:
    """False events an hour in background and in clips of other sounds. Raises StreamerError."""
    room, others, begins, about = recordings(config, clips, fold, minutes, seed)
    engine = open_engine(config.model if model is None else ModelSettings(path=model))
    with tempfile.TemporaryDirectory() as name:
        in_room = detected(write(Path(name), "background", room), config, engine)
        in_others = detected(write(Path(name), "others", others), config, engine)
    hours = minutes / 60
    starts = [start for start, _ in begins]
    taken = Counter(
        f"{sound} for {begins[max(0, int(np.searchsorted(starts, onset, 'right')) - 1)][1]}"
        for sound, onset in in_others
    )
    return "\n".join(
        [
            f"background: {len(in_room) / hours:.1f} an hour {dict(Counter(sound for sound, _ in in_room))}",
            f"{about}: {len(in_others) / hours:.1f} an hour",
            *(f"  {n:3} {what}" for what, n in taken.most_common()),
        ]
    )
