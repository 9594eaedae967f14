"""What a model hears: of each label a threshold, what it finds and what it errs in, and `sounds.json`.

    streamer eval support ast-tiny data/esc50-free --also held-out.csv --write

The clips are those of a fold of ESC-50 that the model never saw, those of tables, and sounds that the program
synthesises, drawn anew, in noise. A clip's score is the highest that the detection would see: of the smoothed
frame scores where the model has them. Labels above or below a clip's own are left out of account: a bark may
be an Animal.

The threshold is that of the highest F0.5, which weighs precision twice. Recordings are divided in two by
their sources, and the synthesised sounds one by one; each half is counted at the threshold that the other
half chose, so that no clip judges what it chose.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from streamer.config.schema import ModelSettings
from streamer.data.audio import decode
from streamer.data.synthesis import ALARMS, coloured_noise
from streamer.detection.smoothing import median
from streamer.errors import InputError
from streamer.evaluation.fold import FOLD, read_clips, read_rows, score_clip
from streamer.evaluation.table import read_table
from streamer.evaluation.tagging import average_precision, precision_recall
from streamer.inference.engines import open_engine
from streamer.model import hub, support
from streamer.model.labels import descendants
from streamer.model.support import Measured, Support, Tally
from streamer.types import Samples, Scores

_FEWEST = 5
"""clips of a label, below which it has no row"""
_DRAWS = 20
"""of each synthesised sound"""
_SEED = 10_000
"""far from those of the training's shards"""
_SMOOTHING_S = 0.44
"""the median that configurations have where they say nothing"""
SMOKE = ("Smoke detector, smoke alarm", "Fire alarm")


@dataclass(frozen=True, slots=True, eq=False)
class JudgedClip:
    samples: Samples
    own: frozenset[str]
    """labels that are true"""
    near: frozenset[str]
    """labels that may be true: neither right nor wrong"""
    source: str
    """whose recording: an author, a collection"""
    is_synthesised: bool = False


def fold_clips(folder: Path, fold: int, rate: int) -> Iterator[JudgedClip]:
    """The clips of a fold. Of a class that AudioSet has not just so, no label is certain."""
    rows = [row for row in read_rows(folder) if int(row["fold"]) == fold]
    for row, samples in read_clips(folder, rows, rate):
        labels = frozenset(row["audioset_labels"].split("|"))
        is_exact = row["audioset_exact"] == "1"
        yield JudgedClip(samples, labels if is_exact else frozenset(), labels, row.get("author", ""))


def listed_clips(table: Path, rate: int) -> Iterator[JudgedClip]:
    """The clips of a table, without those that cannot be decoded. Raises InputError."""
    for clip in read_table(table):
        try:
            samples = decode(clip.path, rate)
        except InputError:
            continue
        yield JudgedClip(samples, clip.own, clip.own | clip.near, clip.source)


def synthesised(rate: int) -> Iterator[JudgedClip]:
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
            own, near = frozenset(sound.labels[:1]), frozenset(sound.labels)
            yield JudgedClip(samples, own, near, generator.__name__, is_synthesised=True)


def highest(scores: Scores) -> npt.NDArray[np.float32]:
    """(n_labels,): what the detection would hold against `on` at the best moment."""
    if scores.frames is None:
        return scores.clip
    width = 2 * round((_SMOOTHING_S / scores.frame_s - 1) / 2) + 1
    return np.array([median(column, width).max() for column in scores.frames.T], np.float32)


def threshold(truth: npt.NDArray[np.bool_], scores: npt.NDArray[np.float32]) -> float:
    """(n,) and (n,) -> the threshold of the highest F0.5; 1 where nothing is true."""
    if not truth.any():
        return 1.0
    precision, recall = precision_recall(truth, scores)
    f = 1.25 * precision * recall / np.maximum(0.25 * precision + recall, 1e-9)
    descending = np.append(np.unique(scores)[::-1], 0.0)
    k = int(f.argmax())
    return float(descending[k] + descending[k + 1]) / 2


def halves(sources: Sequence[str]) -> npt.NDArray[np.bool_]:
    """(n,): which clips are of the first half; each source is on one side, the largest ones apart."""
    names, counts = np.unique(np.array(sources), return_counts=True)
    sizes, first = [0, 0], set()
    for i in np.argsort(-counts, kind="stable"):
        side = int(sizes[0] > sizes[1])
        sizes[side] += int(counts[i])
        if not side:
            first.add(names[i])
    return np.array([source in first for source in sources])


def measure(clips: Sequence[JudgedClip], truth: npt.NDArray[np.bool_], scores: Samples) -> Measured:
    """One label on clips of which it is known whether they have it: (n,) truth and (n,) scores."""
    first = np.zeros(len(clips), bool)
    for has in (
        True,
        False,
    ):  # the sources of true clips are divided on their own, so that both halves have some
        some = np.flatnonzero(truth == has).tolist()
        if some:
            first[some] = halves(
                [f"{clips[i].source} {i}" if clips[i].is_synthesised else clips[i].source for i in some]
            )
    found = np.zeros(len(clips), bool)
    for half in (first, ~first):
        found[half] = scores[half] >= threshold(truth[~half], scores[~half])
    made = np.array([clip.is_synthesised for clip in clips])
    tallies = [
        Tally(
            clips=int((truth & kind).sum()),
            sources=len({clip.source for clip, has in zip(clips, truth & kind, strict=True) if has}),
            found=int((truth & found & kind).sum()),
            false=int((~truth & found & kind).sum()),
        )
        for kind in (~made, made)
    ]
    return Measured(round(threshold(truth, scores), 3), *tallies)


def _related(labels: frozenset[str], all_labels: Sequence[str]) -> frozenset[str]:
    """Labels above and below these."""
    return descendants(labels) | frozenset(label for label in all_labels if labels & descendants((label,)))


def _row(label: str, one: Measured) -> str:
    counts = " | ".join(
        f"{kind.found} of {kind.clips}, {kind.sources} sources, {kind.false} false"
        for kind in (one.recordings, one.synthesised)
    )
    shares = " | ".join(f"{low:.2f} to {high:.2f}" for low, high in (one.precision, one.recall))
    return f"| {label} | {one.heard} | {one.threshold:g} | {counts} | {shares} |"


def report(
    model: str, clips: Path, *, fold: int = FOLD, also: Sequence[Path] = (), write: bool = False
) -> str:
    """A row a label; with `write` sounds.json in the model's directory, too. Raises StreamerError."""
    engine = open_engine(ModelSettings(path=model))
    rate, labels = engine.sample_rate, engine.labels
    judged = [*fold_clips(clips, fold, rate)]
    for table in also:
        judged += listed_clips(table, rate)
    n_recordings = len(judged)
    judged += synthesised(rate)
    scores = np.stack([highest(score_clip(engine, clip.samples, rate)) for clip in judged])
    left_out = [clip.near | _related(clip.own | clip.near, labels) for clip in judged]
    found: dict[str, Measured] = {}
    for i, label in enumerate(labels):
        rows = [k for k, clip in enumerate(judged) if label in clip.own or label not in left_out[k]]
        truth = np.array([label in judged[k].own for k in rows])
        if truth.sum() >= _FEWEST:
            found[label] = measure([judged[k] for k in rows], truth, scores[rows, i])
    lines = [
        "| label | verdict | threshold | recordings | synthesised sounds | precision | recall |",
        "|---|---|---|---|---|---|---|",
        *(_row(label, one) for label, one in found.items()),
    ]
    is_smoke = np.array([SMOKE[0] in clip.own for clip in judged])
    group = scores[:, [labels.index(label) for label in SMOKE]].max(axis=1)
    lines.append(
        f"\nSmoke alarms, {int(is_smoke.sum())} against {int((~is_smoke).sum())} other clips:"
        f" average precision {average_precision(is_smoke, group):.3f}"
    )
    if write:
        measured_on = (
            f"{n_recordings} recordings: fold {fold} of ESC-50"
            f"{''.join(f', {table.stem}' for table in also)}; {len(judged) - n_recordings} synthesised sounds"
        )
        lines.append(str(support.write(hub.resolve(model), Support(measured_on, found))))
    return "\n".join(lines)
