"""What a model hears: of each label the threshold with precision 0.9 and the most recall, and `sounds.json`.

    streamer eval support ast-tiny data/esc50-free --write

The clips are those of a fold of ESC-50 that the model never saw, and sounds that the program synthesises,
drawn anew, in noise. A clip's score is the highest that the detection would see: of the smoothed frame scores
where the model has them. Labels above or below a clip's own are left out of account: a bark may be an Animal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from streamer.config.schema import ModelSettings
from streamer.data.synthesis import ALARMS, coloured_noise
from streamer.detection.smoothing import median
from streamer.evaluation.fold import FOLD, read_clips, read_rows, score_clip
from streamer.evaluation.tagging import average_precision, precision_recall
from streamer.inference.engines import open_engine
from streamer.model import hub, support
from streamer.model.labels import descendants
from streamer.model.support import OperatingPoint, Support
from streamer.types import Samples, Scores

PRECISION, RECALL = 0.9, 0.3
_FEWEST = 5
"""clips of a label, below which nothing is said of it"""
_DRAWS = 20
"""of each synthesised sound"""
_SEED = 10_000
"""far from those of the training's shards"""
_SMOOTHING_S = 0.44
"""the median that configurations have where they say nothing"""
SMOKE = ("Smoke detector, smoke alarm", "Fire alarm")


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    samples: Samples
    own: frozenset[str]
    """labels that are true"""
    near: frozenset[str]
    """labels that may be true: neither right nor wrong"""


def recordings(folder: Path, fold: int, rate: int) -> Iterator[Example]:
    """The clips of a fold. Of a class that AudioSet has not just so, no label is certain."""
    rows = [row for row in read_rows(folder) if int(row["fold"]) == fold]
    for row, samples in read_clips(folder, rows, rate):
        labels = frozenset(row["audioset_labels"].split("|"))
        is_exact = row["audioset_exact"] == "1"
        yield Example(samples, labels if is_exact else frozenset(), labels)


def synthesised(rate: int) -> Iterator[Example]:
    """Ten seconds of each sound that the program makes, in noise of 0 to 30 dB below it."""
    rng = np.random.default_rng(_SEED)
    for generator in ALARMS:
        for _ in range(_DRAWS):
            sound = generator(rng, rate, 10.0)
            noise = coloured_noise(rng, rate, 10.0, float(rng.uniform(0, 2)))
            power = float(np.square(sound.samples).mean())
            noise = noise * np.sqrt(power / np.square(noise).mean()) * 10 ** (-rng.uniform(0, 30) / 20)
            level = 10 ** (-rng.uniform(0, 20) / 20)
            samples = np.clip(level * (sound.samples + noise), -1, 1).astype(np.float32)
            yield Example(samples, frozenset(sound.labels[:1]), frozenset(sound.labels))


def highest(scores: Scores) -> npt.NDArray[np.float32]:
    """(n_labels,): what the detection would hold against `on` at the best moment."""
    if scores.frames is None:
        return scores.clip
    width = 2 * round((_SMOOTHING_S / scores.frame_s - 1) / 2) + 1
    return np.array([median(column, width).max() for column in scores.frames.T], np.float32)


def operating_point(truth: npt.NDArray[np.bool_], scores: npt.NDArray[np.float32]) -> OperatingPoint | None:
    """The lowest threshold that still has the precision; None where its recall is too small."""
    if truth.sum() < _FEWEST:
        return None
    precision, recall = precision_recall(truth, scores)
    descending = np.unique(scores)[::-1]
    fine = np.flatnonzero((precision >= PRECISION) & (recall >= RECALL))
    if not fine.size:
        return None
    k = int(fine[-1])
    below_it = descending[k + 1] if k + 1 < len(descending) else 0.0
    threshold = float(descending[k] + below_it) / 2
    return OperatingPoint(
        round(threshold, 3), round(float(precision[k]), 3), round(float(recall[k]), 3), int(truth.sum())
    )


def _related(labels: frozenset[str], all_labels: Sequence[str]) -> frozenset[str]:
    """Labels above and below these."""
    return descendants(labels) | frozenset(label for label in all_labels if labels & descendants((label,)))


def report(model: str, clips: Path, *, fold: int = FOLD, write: bool = False) -> str:
    """A row a label; with `write` sounds.json in the model's directory, too. Raises StreamerError."""
    engine = open_engine(ModelSettings(path=model))
    rate, labels = engine.sample_rate, engine.labels
    examples = [*recordings(clips, fold, rate), *synthesised(rate)]
    scores = np.stack([highest(score_clip(engine, example.samples, rate)) for example in examples])
    left_out = [example.near | _related(example.own | example.near, labels) for example in examples]
    points: dict[str, OperatingPoint] = {}
    lines = ["| label | clips | threshold | precision | recall |", "|---|---|---|---|---|"]
    for i, label in enumerate(labels):
        rows = [k for k, e in enumerate(examples) if label in e.own or label not in left_out[k]]
        truth = np.array([label in examples[k].own for k in rows])
        point = operating_point(truth, scores[rows, i])
        if point is not None:
            points[label] = point
            lines.append(
                f"| {label} | {point.clips} | {point.threshold} | {point.precision} | {point.recall} |"
            )
        elif truth.sum() >= _FEWEST:
            lines.append(f"| {label} | {int(truth.sum())} | - | | |")
    is_smoke = np.array([SMOKE[0] in example.own for example in examples])
    group = scores[:, [labels.index(label) for label in SMOKE]].max(axis=1)
    lines.append(
        f"\nSmoke alarms, {int(is_smoke.sum())} against {int((~is_smoke).sum())} other clips:"
        f" average precision {average_precision(is_smoke, group):.3f}"
    )
    if write:
        n_drawn = _DRAWS * len(ALARMS)
        measured_on = (
            f"{len(examples) - n_drawn} clips of fold {fold} of ESC-50, {n_drawn} synthesised sounds;"
            f" precision {PRECISION} or more with recall {RECALL} or more"
        )
        lines.append(str(support.write(hub.resolve(model), Support(measured_on, points))))
    return "\n".join(lines)
