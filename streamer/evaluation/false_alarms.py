"""False events an hour in recordings that contain none of the configured sounds.

    streamer eval false-alarms data/esc50-free --config configs/home.yaml

An hour of synthesised background (coloured noise whose colour and level change every half minute, with hum),
an hour of clips of ESC-50 that the model never saw, of classes that are not configured, at levels from -40
to -10 dBFS over background, and with `--bed` an hour of music, speech and ambience from tables of clips.
`--keep` writes them, to choose thresholds by; judge these with another `--seed`.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streamer.config.schema import Config, ModelSettings
from streamer.data.synthesis import coloured_noise, write_wav
from streamer.errors import InputError
from streamer.evaluation import bed
from streamer.evaluation.events import Span, count, ended, read_truth, write_truth
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


def strangers(clips: Path, fold: int, config: Config) -> list[tuple[str, str, Samples]]:
    """Class, file and samples of the clips of other sounds. Raises InputError if there are none."""
    listened = {label for sound in config.sounds.values() for label in sound.labels}
    listened |= descendants(listened)
    rows = []
    for row in read_rows(clips):
        labels = set(row["audioset_labels"].split("|"))
        if int(row["fold"]) == fold and not (labels | descendants(labels)) & listened:
            rows.append(row)
    found = [(row["esc50_label"], row["file"], samples) for row, samples in read_clips(clips, rows, RATE)]
    if not found:
        raise InputError(f"{clips}: every clip of fold {fold} is one that is listened for")
    return found


def scattered(
    rng: np.random.Generator, clips: Sequence[tuple[str, str, Samples]], minutes: float
) -> tuple[Samples, list[Span]]:
    """Clips (class, file, samples) one after the other over background, in random order, again and again."""
    samples = background(rng, minutes)
    at = 0
    spans: list[Span] = []
    order: list[int] = []
    while True:
        order = order or rng.permutation(len(clips)).tolist()
        name, file, clip = clips[order.pop()]
        if at + len(clip) > len(samples):
            return np.clip(samples, -1, 1), spans
        rms = float(np.sqrt(np.square(clip).mean())) + 1e-9
        samples[at : at + len(clip)] += clip * (10 ** (rng.uniform(-40, -10) / 20) / rms)
        spans.append(Span(name, at / RATE, (at + len(clip)) / RATE, f"{name} {file}"))
        at += len(clip)


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    name: str
    samples: Samples
    """(n,) at RATE"""
    truth: list[Span]
    """what sounds, none of it to be told of but music and speech where these are configured"""
    about: str
    """for people"""


def recordings(
    config: Config, clips: Path, fold: int, minutes: float, seed: int, bed_tables: Sequence[Path] = ()
) -> list[Recording]:
    """Background; clips of other sounds over it; with tables of clips music, speech and ambience over it.

    Raises InputError.
    """
    found = strangers(clips, fold, config)
    rng = np.random.default_rng((20_000, seed))
    room = background(rng, minutes)
    others, spans = scattered(rng, found, minutes)
    about = f"{len(found)} clips of {len({name for name, _, _ in found})} classes"
    made = [Recording("background", room, [], "background"), Recording("others", others, spans, about)]
    if bed_tables:
        chosen = bed.choose_clips(bed_tables, config)
        samples, laid = bed.lay(rng, background(rng, minutes), RATE, chosen)
        made.append(Recording("bed", samples, bed.truth(laid, config), "music, speech and ambience"))
    return made


def write(folder: Path, recording: Recording) -> Path:
    """NAME.wav, and beside it NAME.tsv: what sounds. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{recording.name}.wav"
    write_wav(path, recording.samples, RATE)
    write_truth(path.with_suffix(".tsv"), recording.truth)
    return path


def false_events(recording: Path, config: Config, scorer: Scorer) -> Counter[str]:
    """False events by sound and by what they were for; those of loudness are never false."""
    truth = read_truth(recording.with_suffix(".tsv"))
    events = ended(detect(recording, config, scorer, source_id=recording.stem))
    labelled = [event for event in events if config.sounds[event.sound].labels]
    return Counter(
        {
            f"{sound} for {cause}": n
            for sound, own in count(truth, labelled).items()
            for cause, n in own.false_for.items()
        }
    )


def report(
    config: Config,
    clips: Path,
    *,
    fold: int = FOLD,
    model: str | None = None,
    minutes: float = 60.0,
    seed: int = 1,
    bed_tables: Sequence[Path] = (),
) -> str:
    """False events an hour in each recording. Raises StreamerError."""
    made = recordings(config, clips, fold, minutes, seed, bed_tables)
    engine = open_engine(config.model if model is None else ModelSettings(path=model))
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for recording in made:
            false = false_events(write(Path(folder), recording), config, engine)
            lines.append(f"{recording.about}: {false.total() / (minutes / 60):.1f} an hour")
            lines += [f"  {n:3} {what}" for what, n in false.most_common()]
    return "\n".join(lines)
