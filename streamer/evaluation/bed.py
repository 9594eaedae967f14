"""What sounds for hours in a home: music, speech and ambience, laid from clips of tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from streamer.config.schema import Config
from streamer.data.audio import decode
from streamer.errors import InputError
from streamer.evaluation.events import Span
from streamer.evaluation.table import read_table
from streamer.model.labels import descendants
from streamer.types import Samples

_AMBIENT = (
    *("Rain", "Wind", "Stream", "Waterfall", "Ocean", "Bird", "Insect", "Mechanical fan", "Air conditioning"),
    *("Outside, rural or natural", "Outside, urban or manmade", "Traffic noise, roadway noise"),
    *("Inside, small room", "Inside, large room or hall", "Inside, public space", "Environmental noise"),
)
KINDS = {
    "music": descendants(("Music",)),
    "speech": descendants(("Speech",)),
    "ambience": descendants(_AMBIENT),
}
"""labels of AudioSet of each kind"""
_STRETCH_S = (60.0, 180.0)
_PAUSE_S = (5.0, 30.0)
_FADE_S = 0.05
_LEVEL_DBFS = (-45.0, -20.0)


def choose_clips(tables: Sequence[Path], config: Config) -> dict[str, list[Path]]:
    """The files of each kind, without those in which another configured sound may be. Raises InputError."""
    listed = [clip for table in tables for clip in read_table(table)]
    found: dict[str, list[Path]] = {}
    for kind, own in KINDS.items():
        others = _listened(config, without=own)
        found[kind] = [clip.path for clip in listed if clip.own & own and not (clip.own | clip.near) & others]
        if not found[kind]:
            raise InputError(f"{', '.join(map(str, tables))}: no clip of {kind} without other sounds")
    return found


def _listened(config: Config, without: frozenset[str]) -> frozenset[str]:
    """The labels of all sounds that have none of a kind's labels, and all below them."""
    apart = [sound.labels for sound in config.sounds.values() if not without & set(sound.labels)]
    return descendants(label for labels in apart for label in labels) - without


def names_of_kinds(config: Config) -> dict[str, list[str]]:
    """The configured sounds that are true while a kind sounds."""
    return {
        kind: [name for name, sound in config.sounds.items() if kind.capitalize() in sound.labels]
        for kind in KINDS
    }


def lay(
    rng: np.random.Generator,
    room: Samples,
    rate: int,
    clips: Mapping[str, Sequence[Path]],
    level_dbfs: tuple[float, float] = _LEVEL_DBFS,
) -> tuple[Samples, list[Span]]:
    """(n,) a room with stretches of one to three minutes of each kind in turn, and where each clip lies.

    The spans are named by kind. A stretch has one level, an RMS between the two, and clips in random
    order; those that cannot be decoded are left out.
    """
    samples, spans = room.copy(), []
    kinds = list(clips)
    queues: dict[str, list[Path]] = {kind: [] for kind in kinds}
    at = round(rng.uniform(*_PAUSE_S) * rate)
    for turn in range(len(samples)):
        kind = kinds[turn % len(kinds)]
        until = min(len(samples), at + round(rng.uniform(*_STRETCH_S) * rate))
        level = 10 ** (rng.uniform(*level_dbfs) / 20)
        while at < until:
            if not queues[kind]:
                queues[kind] = [clips[kind][i] for i in rng.permutation(len(clips[kind]))]
            path = queues[kind].pop()
            clip = _faded(path, rate)[: until - at]
            if not len(clip):
                continue
            samples[at : at + len(clip)] += level * clip
            spans.append(Span(kind, at / rate, (at + len(clip)) / rate, path.name))
            at += len(clip)
        at += round(rng.uniform(*_PAUSE_S) * rate)
        if at >= len(samples):
            break
    return np.clip(samples, -1, 1), spans


def _faded(path: Path, rate: int) -> Samples:
    """(n,) with an RMS of 1 and faded ends; empty where it is silent, too short or no audio."""
    try:
        clip = decode(path, rate)
    except InputError:
        return np.zeros(0, np.float32)
    n = round(_FADE_S * rate)
    rms = float(np.sqrt(np.square(clip).mean())) if len(clip) else 0.0
    if len(clip) < 4 * n or rms < 1e-5 or not np.isfinite(rms):
        return np.zeros(0, np.float32)
    clip = clip / rms
    ramp = np.linspace(0, 1, n, dtype=np.float32)
    clip[:n] *= ramp
    clip[-n:] *= ramp[::-1]
    return clip


def truth(spans: Sequence[Span], config: Config) -> list[Span]:
    """The spans by the names of the configured sounds; by kind where none is configured."""
    names = names_of_kinds(config)
    return [
        Span(name, span.onset, span.offset, span.clip)
        for span in spans
        for name in names[span.sound] or [span.sound]
    ]
