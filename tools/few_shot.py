"""How well a sound is heard that was taught from five clips, beside the model's own labels.

`python -m tools.few_shot --data DATA`: of each of 20 classes of fold 4 of `esc50-free`, which the shipped
model never saw, five clips are drawn by seed to teach it. All other clips of the fold are then in one window
each: 5 to 20 dB above noise, and every second one with a clip of another fold beside it, whose class is then
in the window, too. Average precision over all windows of the taught head, of the label group (what AudioSet
calls the class: the highest of its labels) and of the nearest centroid of the same embeddings. `--tune` has
the other classes in their place: settings are chosen by those, so that the 20 stay unseen.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from streamer.config.schema import ModelSettings
from streamer.errors import InputError
from streamer.evaluation.tagging import average_precision
from streamer.inference.engines import open_engine
from streamer.inference.heads import Head, directions, of_window
from streamer.model import hub
from streamer.teaching import bank
from streamer.teaching.clips import RATE, Clip, read_clip
from streamer.teaching.fit import Steps, fit
from streamer.teaching.teach import embeddings_of, steps_of, thinned
from streamer.teaching.variants import (
    background,
    bank_windows,
    excerpt,
    finished,
    gain,
    placed,
    variants,
)
from streamer.types import Samples, Scores, Window

FOLD, EXAMPLES, CLASSES = 4, 5, 20
WINDOW_HOURS = 10.24 / 3600
_SNR_DB = (5.0, 20.0)
_BESIDE_DB = (0.0, 10.0)
"""below the clip"""


@dataclass(frozen=True, slots=True)
class Row:
    """A class: average precision of each way, and what the taught head's score of 0.5 divides."""

    name: str
    n: int
    taught: float
    labels: float
    centroid: float
    recall: float
    precision: float
    false_per_hour: float

    @property
    def f1(self) -> float:
        total = self.recall + self.precision
        return 2 * self.recall * self.precision / total if total else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="the folder with esc50-free")
    parser.add_argument("--model", default="ast-tiny")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tune", action="store_true", help="the classes beside the 20")
    options = parser.parse_args()
    began = time.process_time()
    rows = measure(options.data / "esc50-free", options.model, options.seed, tune=options.tune)
    _print(rows, options.seed)
    print(f"\n{time.process_time() - began:.0f} s of CPU time")


def measure(folder: Path, model: str, seed: int, *, tune: bool = False) -> list[Row]:
    """A row for each class."""
    rng = np.random.default_rng(seed)
    labels, clips, beside = _read(folder, rng)
    engine = open_engine(ModelSettings(path=model, engine="onnx"), embeds=True)
    counts = {name: len(own) for name, own in clips.items()}
    by_count = sorted(counts, key=lambda name: (-counts[name], name))
    chosen = sorted(by_count[:CLASSES])
    if tune:
        chosen = sorted(name for name in by_count[CLASSES:] if counts[name] > EXAMPLES)
    drawn = {name: [clips[name][i] for i in rng.permutation(counts[name])[:EXAMPLES]] for name in chosen}
    rest = [(name, clip) for name, own in clips.items() for clip in own if clip not in drawn.get(name, [])]
    windows = list[Window]()
    classes = list[set[str]]()
    """of each window: a clip beside may be of a class that is taught"""
    for name, clip in rest:
        window, other = _window(clip, beside, engine.window_s, rng)
        windows.append(window)
        classes.append({name, other})
    scores = engine.score(windows)
    made = engine.score(bank_windows(rng, engine.window_s, 32))
    others = [(0.5, thinned(made, rng))]
    known = bank.shipped(hub.resolve(model), others[0][1].shape[-1])
    if known is not None:
        others.insert(0, (0.5, known))
    column = {label: i for i, label in enumerate(engine.labels)}
    rows = []
    for name in chosen:
        found = [variants(clip, engine.window_s, rng) for clip in drawn[name]]
        own = engine.score([variant.window for group in found for variant in group])
        steps = steps_of(found, own, others)
        head, _ = fit(name, steps)
        group = [column[label] for label in labels[name]]
        truth = np.array([name in present for present in classes])
        rows.append(_row(name, truth, scores, steps, head, group))
    return rows


def _row(
    name: str,
    truth: npt.NDArray[np.bool_],
    scores: Sequence[Scores],
    steps: Steps,
    head: Head,
    group: list[int],
) -> Row:
    def best(values: Sequence[Samples]) -> Samples:
        return np.array([of_window(one[:, None])[0] for one in values], np.float32)

    seen = [directions(embeddings_of(one), head.centre) for one in scores]
    taught = best([one @ np.array(head.weights, np.float32) + np.float32(head.bias) for one in seen])
    centroid = directions(steps.sound, head.centre).mean(axis=0)
    near = best([one @ centroid for one in seen])
    clip = np.array([one.clip[group].max() for one in scores])
    heard = taught >= 0
    n_heard = int((heard & truth).sum())
    return Row(
        name=name,
        n=int(truth.sum()),
        taught=average_precision(truth, taught),
        labels=average_precision(truth, clip),
        centroid=average_precision(truth, near),
        recall=n_heard / int(truth.sum()),
        precision=n_heard / max(1, int(heard.sum())),
        false_per_hour=float((heard & ~truth).sum() / ((~truth).sum() * WINDOW_HOURS)),
    )


def _read(
    folder: Path, rng: np.random.Generator
) -> tuple[dict[str, list[str]], dict[str, list[Clip]], list[tuple[str, Clip]]]:
    """AudioSet's labels of each class; the clips of the fold by class; and some of other folds."""
    labels: dict[str, list[str]] = {}
    clips: dict[str, list[Clip]] = defaultdict(list)
    beside: list[tuple[str, Clip]] = []
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for i in rng.permutation(len(rows)):
        row = rows[int(i)]
        if int(row["fold"]) != FOLD and len(beside) >= 80:
            continue
        try:
            clip = read_clip(folder / "audio" / row["file"])
        except InputError:  # clipped, or next to silent
            continue
        if int(row["fold"]) == FOLD:
            labels[row["esc50_label"]] = row["audioset_labels"].split("|")
            clips[row["esc50_label"]].append(clip)
        else:
            beside.append((row["esc50_label"], clip))
    return labels, dict(clips), beside


def _window(
    clip: Clip, beside: Sequence[tuple[str, Clip]], window_s: float, rng: np.random.Generator
) -> tuple[Window, str]:
    """The clip at some time in noise, every second one with another beside it; the class of that, or none."""
    n = round(window_s * RATE)
    samples = _placed(clip, n, window_s, rng)
    samples += gain(-rng.uniform(*_SNR_DB)) * background(rng, n)
    name, other = beside[int(rng.integers(len(beside)))]
    if rng.random() >= 0.5:
        return finished(samples, window_s, rng), ""
    samples += gain(-rng.uniform(*_BESIDE_DB)) * _placed(other, n, window_s, rng)
    return finished(samples, window_s, rng), name


def _placed(clip: Clip, n: int, window_s: float, rng: np.random.Generator) -> Samples:
    """(n,) with the clip's sound somewhere in it, its RMS 1."""
    samples, _ = excerpt(clip, window_s, rng)
    return placed(samples / np.float32(np.sqrt(np.square(samples).mean()) + 1e-9), n, rng)


def _print(rows: Sequence[Row], seed: int) -> None:
    print(f"{EXAMPLES} clips a class, drawn by seed {seed}\n")
    print("| class | n | taught | labels | centroid | recall | precision | F1 | false/h |")
    print("|---|---|---|---|---|---|---|---|---|")
    mean = Row(
        f"mean of {len(rows)}",
        sum(row.n for row in rows),
        *(
            float(np.mean([getattr(row, field) for row in rows]))
            for field in ("taught", "labels", "centroid", "recall", "precision", "false_per_hour")
        ),
    )
    for row in (*rows, mean):
        print(
            f"| {row.name} | {row.n} | {row.taught:.2f} | {row.labels:.2f} | {row.centroid:.2f}"
            f" | {row.recall:.2f} | {row.precision:.2f} | {row.f1:.2f} | {row.false_per_hour:.1f} |"
        )


if __name__ == "__main__":
    main()
