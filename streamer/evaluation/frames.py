"""When, not only what: frame scores against recordings whose events are known.

    streamer eval frames out/s201.wav out/s202.wav … --config configs/home.yaml

Beside each recording lies its truth, NAME.tsv. Of each sound that occurs, the average precision over the
cells of the time line, and the mean over the sounds: of the frame scores of all windows together, as the
detection sees them, and of the window's score, held for its newest hop or for its whole length, as a tagger
without frames has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from streamer.config.schema import Config
from streamer.detection.pipeline import Pipeline
from streamer.detection.smoothing import median
from streamer.detection.sounds import Sounds
from streamer.detection.timeline import CELL_S, Timeline
from streamer.evaluation.events import every_window, read_truth
from streamer.evaluation.tagging import average_precision
from streamer.evaluation.thresholds import open_scorer
from streamer.inference.worker import Scorer
from streamer.run.offline import detect
from streamer.types import Samples, Scores, Window

FRAMES, NEWEST, WHOLE = (
    "frames",
    "the window's score, for its newest hop",
    "the window's score, for its length",
)

_LONGEST_S = 3600.0
"""of a recording"""


def judge(recordings: Sequence[Path], config: Config, scorer: Scorer) -> dict[str, dict[str, float]]:
    """The average precision of each sound that occurs, by what was made of the scores."""
    sounds = Sounds({name: s.labels for name, s in config.sounds.items() if s.labels}, scorer.labels)
    names = list(sounds.parts)
    truths: list[npt.NDArray[np.bool_]] = []
    scores: dict[str, list[Samples]] = {FRAMES: [], NEWEST: [], WHOLE: []}
    for recording in recordings:
        for what, line in _lines(recording, config, scorer, sounds).items():
            scores[what].append(line)
        truth = np.zeros((len(line), len(names)), bool)
        for span in read_truth(recording.with_suffix(".tsv")):
            if span.sound in names:
                cells = slice(round(span.onset / CELL_S), round(span.offset / CELL_S))
                truth[cells, names.index(span.sound)] = True
        truths.append(truth)
    truth = np.concatenate(truths)
    present = [(i, name) for i, name in enumerate(names) if truth[:, i].any()]
    joined = {what: np.concatenate(lines) for what, lines in scores.items()}
    return {
        what: {name: average_precision(truth[:, i], line[:, i]) for i, name in present}
        for what, line in joined.items()
    }


def _lines(recording: Path, config: Config, scorer: Scorer, sounds: Sounds) -> dict[str, Samples]:
    """(n_cells, n_sounds) of a recording, by what was made of the scores."""
    # Nothing is forgotten: long enough for any recording that fits into memory.
    lines = {what: Timeline(len(sounds), 0.0, _LONGEST_S) for what in (FRAMES, NEWEST, WHOLE)}

    def see(_: Pipeline, window: Window, scores: Scores | None) -> None:
        if scores is None:
            return
        start = max(0.0, window.start)
        clip = sounds.pick(scores.clip[None])
        lines[NEWEST].add(clip, window.end - config.hop_s, window.end, config.hop_s)
        lines[WHOLE].add(clip, start, window.end, window.end - start)
        if scores.frames is not None:
            lines[FRAMES].add(sounds.pick(scores.frames), window.start, window.end, scores.frame_s)
        else:
            lines[FRAMES].add(clip, start, window.end, window.end - start)

    for _ in detect(recording, every_window(config), scorer, source_id=recording.stem.lower(), observe=see):
        pass
    return {what: sounds.highest(line.means()) for what, line in lines.items()}


def write_scores(folder: Path, recordings: Sequence[Path], config: Config, scorer: Scorer) -> list[Path]:
    """NAME-scores.tsv of each recording: what the thresholds are compared with, in sed_scores_eval's format.

    Tables with tabs: onset and offset of each cell in seconds, and the smoothed score of each sound. The
    guards of `unless` are not applied. Raises OSError, StreamerError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sounds = Sounds({name: s.labels for name, s in config.sounds.items() if s.labels}, scorer.labels)
    widths = [2 * max(0, round((config.sound(x).smoothing_s / CELL_S - 1) / 2)) + 1 for x in sounds.parts]
    written = []
    for recording in recordings:
        line = _lines(recording, config, scorer, sounds)[FRAMES]
        smoothed = np.stack([median(x, width) for x, width in zip(line.T, widths, strict=True)], axis=1)
        onsets = np.arange(len(line)) * CELL_S
        path = folder / f"{recording.stem}-scores.tsv"
        np.savetxt(
            path,
            np.column_stack((onsets, onsets + CELL_S, smoothed)),
            fmt="%.4f",
            delimiter="\t",
            header="\t".join(("onset", "offset", *sounds.parts)),
            comments="",
        )
        written.append(path)
    return written


def table(found: Mapping[str, Mapping[str, float]]) -> str:
    """Markdown: a row for each use of the scores, then each sound's average precision of its frames."""
    lines = ["| scores | mean average precision |", "|---|---|"]
    lines += [f"| {what} | {np.mean(list(own.values())):.3f} |" for what, own in found.items()]
    best = sorted(found[FRAMES].items(), key=lambda item: -item[1])
    return "\n".join([*lines, "", ", ".join(f"{name} {value:.2f}" for name, value in best)])


def report(
    recordings: Sequence[Path], config: Config, model: str | None = None, scores: Path | None = None
) -> str:
    """The table for recordings (NAME.wav with NAME.tsv beside it); their scores go to the folder `scores`.

    Raises StreamerError.
    """
    scorer, name = open_scorer(config, model)
    if scores is not None:
        write_scores(scores, recordings, config, scorer)
    return f"{name}\n\n{table(judge(recordings, config, scorer))}"
