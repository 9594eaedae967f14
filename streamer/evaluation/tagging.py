"""How well clips are named: average precision, top-k, accuracy over groups; numpy alone.

Definitions: average precision as scikit-learn's `average_precision_score` (no interpolation); mAP is its
mean over the labels that occur; top-k counts a clip whose k highest labels hold one of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float32]


def average_precision(truth: npt.NDArray[np.bool_], scores: Matrix) -> float:
    """(n,) and (n,) -> the mean precision at each true item, ties taken together; nan if nothing is true."""
    if not truth.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    hits = truth[order]
    # A threshold admits all items of its score at once: precision counts at the last of equals.
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    found = np.cumsum(hits)[last]
    precision = found / (last + 1)
    recall_step = np.diff(np.concatenate(([0], found))) / truth.sum()
    return float((precision * recall_step).sum())


@dataclass(frozen=True, slots=True)
class TaggingResult:
    n_clips: int
    mean_average_precision: float
    top1: float
    top5: float
    group_accuracy: float
    average_precisions: dict[str, float]
    """by label"""


def evaluate(
    scores: Matrix,
    truth: npt.NDArray[np.bool_],
    labels: Sequence[str],
    groups: dict[str, tuple[str, ...]],
    group_of: Sequence[str],
) -> TaggingResult:
    """(n_clips, n_labels) scores against (n_clips, n_labels) truth.

    `groups` names sets of labels; a clip counts for the accuracy where the group of its highest label,
    taken over the labels of groups alone, is its own in `group_of`.
    """
    index = {label: i for i, label in enumerate(labels)}
    present = np.flatnonzero(truth.any(axis=0))
    by_label = {labels[int(i)]: average_precision(truth[:, i], scores[:, i]) for i in present}
    ranked = np.argsort(-scores, axis=1)
    hit = np.take_along_axis(truth, ranked[:, :5], axis=1)
    names = list(groups)
    group_scores = np.stack(
        [scores[:, [index[x] for x in groups[name]]].max(axis=1) for name in names], axis=1
    )
    guess = [names[i] for i in group_scores.argmax(axis=1)]
    return TaggingResult(
        n_clips=len(scores),
        mean_average_precision=float(np.mean(list(by_label.values()))),
        top1=float(hit[:, 0].mean()),
        top5=float(hit.any(axis=1).mean()),
        group_accuracy=float(np.mean([a == b for a, b in zip(guess, group_of, strict=True)])),
        average_precisions=by_label,
    )
