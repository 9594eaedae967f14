"""The threshold of each sound, chosen on recordings whose events are known.

    python -m streamer.evaluation.thresholds out/s101.wav out/s102.wav … --config configs/home.yaml

Beside each recording lies its truth, NAME.tsv. All thresholds of a grid are tried on all recordings; of each
sound the one is taken that helps the figure of them all most, F1 over every event (Dinkelbach's iteration),
where a false alarm costs `--cost` times what F1 itself makes it cost. Counts are smoothed over neighbours on
the grid, so that a threshold is not chosen for the sake of one event.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from streamer.config import Config, ModelSettings, SoundSettings, load_config
from streamer.errors import StreamerError
from streamer.evaluation.events import Count, KeptScores, count, ended, read_truth, total
from streamer.evaluation.spans import SpanScorer
from streamer.inference.engine import Engine
from streamer.offline import Scorer

GRID = (0.03, 0.05, 0.08, 0.12, 0.16, 0.2, 0.25, 0.3, 0.36, 0.42, 0.5, 0.58, 0.66, 0.74, 0.82, 0.9)
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
    scorer: KeptScores, config: Config, recordings: Sequence[Path], grid: Sequence[float] = GRID
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


def choose(
    rows: dict[str, list[Count]], grid: Sequence[float] = GRID, cost: float = 1.0
) -> tuple[dict[str, float], float]:
    """The best threshold of each sound, and the F1 of all; for one that never occurs it means nothing."""
    found, false = (
        {
            name: np.convolve(np.pad([getattr(c, what) for c in counts], 1, mode="edge"), _SMOOTH, "valid")
            for name, counts in rows.items()
        }
        for what in ("found", "false")
    )
    n_true = sum(counts[0].true for counts in rows.values())
    f1, best = 0.3, dict.fromkeys(rows, len(grid) - 1)
    for _ in range(20):
        gain = {name: (2 - f1) * found[name] - cost * f1 * false[name] for name in rows}
        # Of equally good ones the strictest.
        best = {name: len(grid) - 1 - int(np.argmax(gain[name][::-1])) for name in rows}
        right = sum(found[name][i] for name, i in best.items())
        wrong = sum(false[name][i] for name, i in best.items())
        f1 = 2 * right / max(1, n_true + right + wrong)
    return {name: grid[i] for name, i in best.items()}, float(f1)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Choose the threshold of each sound on known recordings.")
    parser.add_argument("recordings", type=Path, nargs="+", help="NAME.wav with NAME.tsv beside it")
    parser.add_argument("--config", type=Path, default=Path("configs/home.yaml"))
    parser.add_argument("--model", help="another than the configuration's")
    parser.add_argument("--teacher", type=Path, help="the scores of this ONNX file instead of the model's")
    parser.add_argument("--cost", type=float, default=1.0, help="of a false alarm (%(default)s)")
    parser.add_argument("--scores", type=Path, default=Path("out/scores"), help="kept here (%(default)s)")
    options = parser.parse_args(arguments)
    try:
        config = load_config(options.config)
        scorer, name = open_scorer(config, options.model, options.teacher)
        kept = KeptScores(scorer, config, options.scores, name)
        rows = table(kept, config, options.recordings)
    except StreamerError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    thresholds, f1 = choose(rows, cost=options.cost)
    print(f"# F1 {f1:.2f} on {len(options.recordings)} recordings with {name}")
    for sound, on in thresholds.items():
        own = rows[sound][GRID.index(on)]
        if own.true:
            print(f"  {sound}:\n    on: {on:g}  # found {own.found} of {own.true}, {own.false} false")
    return 0


def open_scorer(config: Config, model: str | None, teacher: Path | None) -> tuple[Scorer, str]:
    """The scorer that options name, and its own name."""
    if teacher is not None:
        return SpanScorer(teacher), "teacher"
    settings = config.model if model is None else ModelSettings(path=model)
    engine = Engine(settings)
    return engine, engine.name


if __name__ == "__main__":
    sys.exit(main())
