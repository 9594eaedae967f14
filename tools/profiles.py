"""Three profiles on the recordings of `make quality`, from saved scores, and the line between them.

    python -m tools.profiles thresholds.yaml --soundscapes … --data … --bed held-out.csv --picture line.png

`thresholds.yaml` is what `streamer eval thresholds` prints. The events of a profile are replayed from scores
that are kept in out/scores, and judged by score.py of the folder of tools, as all of `make quality` is. The
line goes through `balanced`: the odds that every sound needs are multiplied, as a source's sensitivity does.
That has rows of its own.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from streamer.config.control import PROFILES as SENSITIVITIES
from streamer.config.schema import Config, load_config
from streamer.errors import InputError
from streamer.evaluation import bed, plots
from streamer.evaluation.events import SavedScores
from streamer.evaluation.thresholds import PROFILES, at, open_scorer
from streamer.mqtt.messages import event_message
from tools.quality import (
    COLUMNS,
    Clips,
    Tools,
    add_recordings,
    find_tools,
    known_sounds,
    make_recordings,
    run_tool,
    table,
    write_events,
)

_COLUMNS = {name: keys for name, keys in COLUMNS.items() if not name.startswith("PSDS")}
"""all that depends on the thresholds"""
ODDS = (8.0, 4.0, 2.0, 1.0, 0.5, 0.25, 0.125)
"""by which the odds of the thresholds of `balanced` are multiplied"""


def read_profiles(path: Path, config: Config) -> dict[str, dict[str, float]]:
    """Thresholds by profile and sound. Raises InputError."""
    try:
        rows = yaml.safe_load(path.read_text(encoding="utf-8"))
        found = {name: {sound: float(own[name]) for sound, own in rows.items()} for name in PROFILES}
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not what `streamer eval thresholds` prints ({error})") from error
    if unknown := sorted(found["balanced"].keys() - config.sounds.keys()):
        raise InputError(f"{path}: the configuration has no {', '.join(unknown)}")
    return found


def multiplied(thresholds: Mapping[str, float], odds: float) -> dict[str, float]:
    """Thresholds whose odds are so many times as high."""
    return {sound: odds * on / (1 - on + odds * on) for sound, on in thresholds.items()}


def point(figures: Mapping[str, Any]) -> plots.Point:
    """What the picture shows of what `Tools.score` found; precision is 1 where there is no event."""
    hits, false = figures["hits"], figures["false_alarms"]
    precision = hits / (hits + false) if hits + false else 1.0
    return plots.Point(hits / figures["references"], precision, figures["false_alarms_per_hour"])


class Judge:
    """Figures of thresholds on recordings, by their saved scores."""

    def __init__(self, tools: Tools, config: Config, scores: SavedScores, known: set[str]) -> None:
        self._tools, self._config, self._scores, self._known = tools, config, scores, known

    def figures(
        self, name: str, kind: str, recordings: Sequence[Path], thresholds: Mapping[str, float]
    ) -> dict[str, Any]:
        """What `Tools.score` has for them; `name` and `kind` name its files."""
        settings = at(self._config, thresholds)
        for recording in recordings:
            events = self._scores.replay(self._scores.keep(recording, settings), settings)
            messages = (event_message(event, settings.node, origin=0.0) for event in events)
            write_events(self._tools.events(name, recording), messages, self._known)
        return self._tools.score(name, kind, recordings)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="profiles", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("thresholds", type=Path, help="what `streamer eval thresholds` prints")
    add_recordings(parser)
    add("--scores", type=Path, default=Path("out/scores"), help="folder that keeps scores")
    add("--picture", type=Path, help="draw the line between the profiles there")
    return run_tool(parser, _measure, arguments)


def _measure(options: argparse.Namespace) -> str:
    options.out.mkdir(parents=True, exist_ok=True)
    tools = find_tools(options.soundscapes, options.out)
    config = load_config(options.config)
    profiles = read_profiles(options.thresholds, config)
    files = bed.choose_clips(options.bed, config) if options.bed else {}
    recordings = make_recordings(tools, Clips(options.data / "esc50-free", options.folds, files), options)
    scorer, model = open_scorer(config, options.model)
    scores = SavedScores(scorer, config, options.scores, model)
    judge = Judge(tools, config, scores, known_sounds(options.soundscapes))
    for name, odds in SENSITIVITIES.items():
        if odds != 1:
            profiles[f"sensitivity {name}"] = multiplied(profiles["balanced"], odds)
    parts, lines, points = [], {}, {}
    for i, (kind, made) in enumerate(recordings.items()):
        found = {name: judge.figures(name, str(i), made, on) for name, on in profiles.items()}
        parts.append(f"{kind}\n\n{table(found, _COLUMNS)}")
        points[kind] = {name: point(found[name]) for name in PROFILES}
        if options.picture is not None:
            lines[kind] = [
                point(judge.figures("line", str(i), made, multiplied(profiles["balanced"], odds)))
                for odds in ODDS
            ]
    if options.picture is not None:
        plots.operating_points(options.picture, lines, points)
    return "\n\n".join(parts)


if __name__ == "__main__":
    sys.exit(main())
