"""What a configuration hears where there is nothing to hear: false events an hour.

    python -m streamer.evaluation.false_alarms data/esc50-free --config configs/home.yaml

An hour of synthesised background (coloured noise whose colour and level change every half minute, with hum),
and an hour of clips of ESC-50 that the model never saw, of classes whose labels nobody listens for, at levels
from -40 to -10 dBFS over background. `--keep` writes both, to choose thresholds by; judge these with another
`--seed`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from streamer.config.schema import Config, ModelSettings, load_config
from streamer.data.synthesis import coloured_noise, write_wav
from streamer.detection.ontology import below
from streamer.errors import InputError, StreamerError
from streamer.evaluation.esc50 import FOLD, read_clips, read_rows
from streamer.inference.engines import open_engine
from streamer.inference.worker import Scorer
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
    """Class and samples of the clips that nobody listens for. Raises InputError where there are none."""
    listened = {label for sound in config.sounds.values() for label in sound.labels}
    listened |= below(listened)
    rows = []
    for row in read_rows(clips):
        labels = set(row["audioset_labels"].split("|"))
        if int(row["fold"]) == fold and not (labels | below(labels)) & listened:
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


def heard(recording: Path, config: Config, scorer: Scorer) -> list[tuple[str, float]]:
    """Sound and onset of every event with labels; whatever is loud is heard rightly."""
    return [
        (event.sound, event.onset)
        for event in detect(recording, config, scorer, source_id=recording.stem)
        if event.phase == "end" and config.sounds[event.sound].labels
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="False events an hour where there is nothing to hear.")
    parser.add_argument("clips", type=Path, help="a folder with labels.csv and audio/")
    parser.add_argument("--fold", type=int, default=FOLD, help="which the model never saw (%(default)s)")
    parser.add_argument("--config", type=Path, default=Path("configs/home.yaml"))
    parser.add_argument("--model", help="another than the configuration's")
    parser.add_argument("--minutes", type=float, default=60.0, help="of each (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="another draws other recordings (%(default)s)")
    parser.add_argument("--keep", type=Path, help="write the recordings there, and do not listen to them")
    options = parser.parse_args(arguments)
    try:
        config = load_config(options.config)
        clips = strangers(options.clips, options.fold, config)
        rng = np.random.default_rng((20_000, options.seed))
        room = background(rng, options.minutes)
        others, begins = scattered(rng, clips, options.minutes)
        if options.keep is not None:
            print(write(options.keep, "background", room))
            print(write(options.keep, "others", others))
            return 0
        engine = open_engine(config.model if options.model is None else ModelSettings(path=options.model))
        with tempfile.TemporaryDirectory() as name:
            in_room = heard(write(Path(name), "background", room), config, engine)
            in_others = heard(write(Path(name), "others", others), config, engine)
    except StreamerError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    hours = options.minutes / 60
    print(f"background: {len(in_room) / hours:.1f} an hour {dict(Counter(sound for sound, _ in in_room))}")
    starts = [start for start, _ in begins]
    taken = Counter(
        f"{sound} for {begins[max(0, int(np.searchsorted(starts, onset, 'right')) - 1)][1]}"
        for sound, onset in in_others
    )
    n_classes = len({name for name, _ in clips})
    print(f"{len(clips)} clips of {n_classes} classes: {len(in_others) / hours:.1f} an hour")
    for what, n in taken.most_common():
        print(f"  {n:3} {what}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
