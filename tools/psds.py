"""Polyphonic sound detection scores, PSDS1 and PSDS2 of DCASE task 4, by sed_scores_eval.

    python tools/psds.py --truth a.tsv b.tsv --scores a-scores.tsv b-scores.tsv

Bilen et al., https://arxiv.org/abs/1910.08440; Ebbers et al., https://arxiv.org/abs/2201.13148. The first
asks for exact times (70 % of a detection and of a true event must meet), the second for the right name. Both
are areas under a curve over all thresholds, up to 100 false alarms an hour and class, and hold instability
over classes against a detector. Runs in the environment of the soundscape tools: the library needs many other
packages, one of which is named as a module of the standard library.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path

PSDS1 = {"dtc_threshold": 0.7, "gtc_threshold": 0.7, "cttc_threshold": None, "alpha_ct": 0.0, "alpha_st": 1.0}
PSDS2 = {"dtc_threshold": 0.1, "gtc_threshold": 0.1, "cttc_threshold": 0.3, "alpha_ct": 0.5, "alpha_st": 1.0}
"""https://dcase.community/challenge2022/task-sound-event-detection-in-domestic-environments"""
MAX_FALSE_ALARMS_AN_HOUR = 100.0
DISTRACTOR = "distractor"
"""what the soundscapes call a sound that is no event"""

Events = dict[str, list[tuple[float, float, str]]]


def read_events(paths: Sequence[Path]) -> Events:
    """Recording to (onset, offset, class), of tables with tabs: onset, offset, event_label."""
    events: Events = {}
    for path in paths:
        with path.open(newline="", encoding="utf-8") as file:
            events[path.stem] = [
                (float(row["onset"]), float(row["offset"]), row["event_label"])
                for row in csv.DictReader(file, delimiter="\t")
            ]
    return events


def psds(truths: Sequence[Path], scores: Sequence[Path]) -> dict[str, float | None]:
    """Of recordings and tables of scores in the same order, over the classes that occur, distractors apart.

    A class that is not scored has scores of 0. Of fewer than two classes there is no score: instability over
    classes is a part of it.
    """
    import pandas  # noqa: PLC0415  # of the tools' environment, as the next one
    from sed_scores_eval.intersection_based import psds as area  # noqa: PLC0415

    events = read_events(truths)
    frames = {truth.stem: pandas.read_csv(path, sep="\t") for truth, path in zip(truths, scores, strict=True)}
    classes = sorted({label for own in events.values() for *_, label in own} - {DISTRACTOR})
    if len(classes) < 2:
        return {"psds1": None, "psds2": None}
    columns = ["onset", "offset", *classes]
    frames = {name: frame.reindex(columns=columns, fill_value=0.0) for name, frame in frames.items()}
    own = {name: [event for event in events[name] if event[2] in classes] for name in events}
    lengths = {name: float(frame["offset"].iloc[-1]) for name, frame in frames.items()}
    return {
        name: float(area(frames, own, lengths, max_efpr=MAX_FALSE_ALARMS_AN_HOUR, **parameters)[0])
        for name, parameters in (("psds1", PSDS1), ("psds2", PSDS2))
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="PSDS1 and PSDS2 of saved scores, as JSON.")
    parser.add_argument("--truth", type=Path, nargs="+", required=True, help="onset, offset, event_label")
    parser.add_argument(
        "--scores", type=Path, nargs="+", required=True, help="onset, offset, a column a class"
    )
    options = parser.parse_args(arguments)
    print(json.dumps(psds(options.truth, options.scores)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
