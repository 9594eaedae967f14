"""How well a tagger names the clips of one fold of ESC-50 that it never saw.

A clip's truth are its AudioSet labels. mAP, top-1 and top-5 are taken over the clips whose class AudioSet has
exactly; so is the accuracy, which asks which of those classes is meant.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from streamer.errors import InputError
from streamer.evaluation.tagging import TaggingResult, evaluate
from streamer.training.clips import decode
from streamer.types import Samples

Tagger = Callable[[Samples], npt.NDArray[np.float32]]
"""(n,) samples to (n_labels,) scores"""


def evaluate_fold(folder: Path, fold: int, tagger: Tagger, rate: int, labels: Sequence[str]) -> TaggingResult:
    """`tagger` gets each clip at `rate` Hertz. Clips that cannot be decoded are left out."""
    index = {label: i for i, label in enumerate(labels)}
    groups: dict[str, tuple[str, ...]] = {}
    scores, truth, group_of = [], [], []
    with (folder / "labels.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["audioset_exact"] == "1"]
    for row in rows:
        groups[row["esc50_label"]] = tuple(row["audioset_labels"].split("|"))
    for row in rows:
        if int(row["fold"]) != fold:
            continue
        try:
            samples = decode(folder / "audio" / row["file"], rate)
        except InputError:
            continue
        scores.append(tagger(samples))
        truth.append(np.isin(np.arange(len(labels)), [index[x] for x in groups[row["esc50_label"]]]))
        group_of.append(row["esc50_label"])
    return evaluate(np.stack(scores), np.stack(truth), labels, groups, group_of)
