"""The threshold of each sound, chosen on recordings whose events are known.

    streamer eval thresholds out/s101.wav out/s102.wav … --config configs/home.yaml

Beside each recording lies its truth, NAME.tsv. All thresholds of a grid are tried on all recordings; of each
sound the one is taken that helps the figure of them all most, F1 over every event (Dinkelbach's iteration).
If that leaves more false alarms than allowed, a false alarm is made to cost more, until it does not. Counts
are smoothed over neighbours on the grid, so that a threshold is not chosen for the sake of one event. A sound
that never occurs gets the lowest threshold with at most one false alarm in two hours. In the recordings of
`--nothing-in` every event is false: each sound gets a threshold at which there is none.

Scores are kept by model and recording, so that a second run is quick.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType

import numpy as np

from streamer.config.schema import Config, ModelSettings, SoundSettings
from streamer.evaluation.events import Count, SavedScores, count, ended, read_truth, total
from streamer.inference.engines import open_engine
from streamer.inference.worker import Scorer
from streamer.model import hub

GRID = (0.03, 0.05, 0.08, 0.12, 0.16, 0.2, 0.25, 0.3, 0.36, 0.42, 0.5, 0.58, 0.66, 0.74, 0.82, 0.9)
_COSTS = (1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.7, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 32.0)
_ITERATIONS = 20
_ABSENT_AN_HOUR = 0.5
_SMOOTH = np.array([0.25, 0.5, 0.25])


def at(config: Config, thresholds: dict[str, float]) -> Config:
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


def floors(rows: dict[str, list[Count]]) -> dict[str, int]:
    """For each sound the index in the grid from which on it has no false alarm; the last one, if none has."""
    return {
        name: next((i for i in range(len(counts)) if not any(c.false for c in counts[i:])), len(counts) - 1)
        for name, counts in rows.items()
    }


def choose(
    rows: dict[str, list[Count]],
    hours: float,
    most_false_an_hour: float,
    grid: Sequence[float] = GRID,
    floor: Mapping[str, int] = MappingProxyType({}),
) -> dict[str, float]:
    """The threshold of each sound, at `floor` in the grid or above."""
    found, false = (
        {
            name: np.convolve(np.pad([getattr(c, what) for c in counts], 1, mode="edge"), _SMOOTH, "valid")
            for name, counts in rows.items()
        }
        for what in ("found", "false")
    )
    absent = {
        name: next((i for i, n in enumerate(false[name]) if n <= _ABSENT_AN_HOUR * hours), len(grid) - 1)
        for name, counts in rows.items()
        if not counts[0].true
    }
    present = [name for name in rows if name not in absent]
    n_true = sum(rows[name][0].true for name in present)
    best: dict[str, int] = {}
    for cost in _COSTS:
        f1 = 0.3
        for _ in range(_ITERATIONS):
            gain = {name: (2 - f1) * found[name] - cost * f1 * false[name] for name in present}
            for name in present:
                gain[name][: floor.get(name, 0)] = -np.inf
            # Of equally good ones the strictest.
            best = {name: len(grid) - 1 - int(np.argmax(gain[name][::-1])) for name in present}
            right = sum(found[name][i] for name, i in best.items())
            wrong = sum(false[name][i] for name, i in best.items())
            f1 = 2 * right / max(1, n_true + right + wrong)
        if wrong <= most_false_an_hour * hours:
            break
    return {name: grid[max(floor.get(name, 0), i)] for name, i in (best | absent).items()}


def report(
    config: Config,
    recordings: Sequence[Path],
    *,
    nothing_in: Sequence[Path] = (),
    model: str | None = None,
    false_alarms: float = 20.0,
    scores: Path = Path("out/scores"),
) -> str:
    """The chosen thresholds as YAML. In `nothing_in` no event happens; the folder `scores` keeps scores.

    Raises StreamerError.
    """
    engine, name = open_scorer(config, model)
    kept = SavedScores(engine, config, scores, name)
    rows = table(kept, config, recordings)
    hours = kept.hours(config.hop_s)
    floor = floors(table(kept, config, nothing_in)) if nothing_in else {}
    thresholds = choose(rows, hours, false_alarms, floor=floor)
    chosen = {sound: rows[sound][GRID.index(on)] for sound, on in thresholds.items()}
    n_true, n_found, n_false = (
        sum(getattr(own, what) for own in chosen.values()) for what in ("true", "found", "false")
    )
    f1 = 2 * n_found / max(1, n_true + n_found + n_false)
    lines = [f"# {name}, {hours:.2f} h: F1 {f1:.2f}, {n_false / hours:.0f} false alarms an hour"]
    for sound, on in thresholds.items():
        own = chosen[sound]
        lines.append(f"  {sound}:\n    on: {on:g}  # found {own.found} of {own.true}, {own.false} false")
    return "\n".join(lines)


def open_scorer(config: Config, model: str | None) -> tuple[Scorer, str]:
    """An engine, and a name for its scores: other weights, another name. Raises ModelError."""
    settings = config.model if model is None else ModelSettings(path=model)
    engine = open_engine(settings)
    digest = sha256()
    for path in sorted(hub.resolve(settings.path).glob("*.safetensors")):
        digest.update(path.read_bytes())
    return engine, f"{engine.name}-{digest.hexdigest()[:8]}"
