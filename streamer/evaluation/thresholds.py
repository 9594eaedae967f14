"""Thresholds of each sound for three profiles, chosen on recordings whose events are known.

    streamer eval thresholds out/s201.wav … out/bed.wav out/others.wav --config configs/home.yaml

Beside each recording lies its truth, NAME.tsv. There should be hours of them: with events, with other sounds,
and with music, speech and ambience (`streamer eval false-alarms --keep` writes the latter two). All of a grid
of thresholds are tried on all recordings. A profile says how many false alarms of one sound are borne in an
hour; of the thresholds that keep to it the one is taken at which most is found. Of equally good ones it is
the middle one: recordings of another kind score lower, and other sounds higher. A sound that never occurs
gets the lowest that keeps to the limit.

One clip decides nothing: of the false alarms of a sound those for its worst clip are left out of account, and
counts are smoothed over neighbours on the grid.

Scores are kept by model and recording, so that a second run is quick.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
import numpy.typing as npt

from streamer.config.schema import Config, ModelSettings, SoundSettings
from streamer.evaluation.events import Count, SavedScores, count, ended, read_truth, total
from streamer.inference.engines import open_engine
from streamer.inference.worker import Scorer
from streamer.model import hub

GRID = (0.03, 0.05, 0.08, 0.12, 0.16, 0.2, 0.25, 0.3, 0.36, 0.42, 0.5, 0.58, 0.66, 0.74, 0.82, 0.9)
PROFILES = {"quiet": 0.25, "balanced": 1.0, "eager": 3.0}
"""false alarms of one sound that are borne in an hour of the recordings"""
_SMOOTH = np.array([0.25, 0.5, 0.25])


def at(config: Config, thresholds: Mapping[str, float]) -> Config:
    """A configuration with these thresholds; `off` keeps its share of `on`, and no alarm is verified."""
    sounds: dict[str, SoundSettings] = {}
    for name, sound in config.sounds.items():
        changes: dict[str, object] = {"verify": "none"}
        if name in thresholds:
            rule, on = config.sound(name), thresholds[name]
            changes |= {"on": on, "off": on * rule.off / rule.on}
        sounds[name] = sound.model_copy(update=changes)
    return config.model_copy(update={"sounds": sounds})


def table(
    scorer: SavedScores, config: Config, recordings: Sequence[Path], grid: Sequence[float] = GRID
) -> dict[str, list[Count]]:
    """Of each sound with labels, what is found and what is false at each threshold of the grid."""
    names = [name for name, sound in config.sounds.items() if sound.labels and sound.verify != "require"]
    sources = {scorer.keep(path, config): read_truth(path.with_suffix(".tsv")) for path in recordings}
    rows: dict[str, list[Count]] = {name: [] for name in names}
    for threshold in grid:
        settings = at(config, dict.fromkeys(names, threshold))
        summed = total(count(truth, ended(scorer.replay(name, settings))) for name, truth in sources.items())
        for name in names:
            rows[name].append(summed.get(name, Count()))
        print(f"threshold {threshold:g}", file=sys.stderr)
    return rows


def choose(counts: Sequence[Count], hours: float, most_false_an_hour: float) -> int:
    """The place in the grid of one sound's threshold; the last one where none keeps to the limit."""
    found = _smoothed([own.found for own in counts])
    false = _smoothed([own.false_but_worst for own in counts])
    too_many = np.flatnonzero(false > most_false_an_hour * hours)
    lowest = min(int(too_many[-1]) + 1, len(counts) - 1) if too_many.size else 0
    if not counts[0].true:
        return lowest
    equal = np.flatnonzero(found[lowest:] >= found[lowest:].max())
    return lowest + int(equal[len(equal) // 2])


def _smoothed(counts: Sequence[int]) -> npt.NDArray[np.float64]:
    return np.convolve(np.pad(np.array(counts, np.float64), 1, mode="edge"), _SMOOTH, "valid")


def report(
    config: Config,
    recordings: Sequence[Path],
    *,
    model: str | None = None,
    scores: Path = Path("out/scores"),
) -> str:
    """`on` of each sound and profile as YAML. The folder `scores` keeps scores. Raises StreamerError."""
    engine, name = open_scorer(config, model)
    kept = SavedScores(engine, config, scores, name)
    rows = table(kept, config, recordings)
    hours = kept.hours(config.hop_s)
    chosen = {
        profile: {sound: choose(counts, hours, most) for sound, counts in rows.items()}
        for profile, most in PROFILES.items()
    }
    lines = [f"# {name}, {hours:.2f} h"]
    for profile, places in chosen.items():
        counts = [rows[sound][i] for sound, i in places.items()]
        true, found, false = (
            sum(getattr(own, what) for own in counts) for what in ("true", "found", "false")
        )
        f1 = 2 * found / max(1, true + found + false)
        lines.append(
            f"# {profile}: found {found} of {true}, {false / hours:.1f} false alarms an hour, F1 {f1:.2f}"
        )
    for sound, counts in rows.items():
        own = {profile: (GRID[places[sound]], counts[places[sound]]) for profile, places in chosen.items()}
        values = ", ".join(f"{profile}: {on:g}" for profile, (on, _) in own.items())
        found, false = (
            " / ".join(str(getattr(c, what)) for _, c in own.values()) for what in ("found", "false")
        )
        lines.append(f"{sound}: {{{values}}}  # found {found} of {counts[0].true}, false {false}")
    return "\n".join(lines)


def open_scorer(config: Config, model: str | None) -> tuple[Scorer, str]:
    """An engine, and a name for its scores: other weights, another name. Raises ModelError."""
    settings = config.model if model is None else ModelSettings(path=model)
    engine = open_engine(settings)
    digest = sha256()
    for path in sorted(hub.resolve(settings.path).glob("*.safetensors")):
        digest.update(path.read_bytes())
    return engine, f"{engine.name}-{digest.hexdigest()[:8]}"
