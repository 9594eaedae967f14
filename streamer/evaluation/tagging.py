"""How well clips are named: average precision, area under the ROC, top-k, groups, confusions; numpy alone.

Definitions: average precision and area under the ROC as scikit-learn's `average_precision_score` (no
interpolation) and `roc_auc_score`. mAP is the mean over the labels that occur, mAUC over those of them that
some clip lacks; d' is the distance of two normal distributions with that area, sqrt(2) * Phi^-1(mAUC).
Top-k counts the clips, of those with a label, whose k highest labels hold one of their own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float32]
Truth = npt.NDArray[np.bool_]


def precision_recall(truth: Truth, scores: Matrix) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(n,) and (n,) -> precision and recall at each threshold, from the highest score down."""
    found, admitted = _admitted(truth, scores)
    return found / admitted, found / max(1, truth.sum())


def average_precision(truth: Truth, scores: Matrix) -> float:
    """(n,) and (n,) -> the mean precision at each true item, ties taken together; nan if nothing is true."""
    if not truth.any():
        return float("nan")
    precision, recall = precision_recall(truth, scores)
    return float((precision * np.diff(recall, prepend=0.0)).sum())


def roc_auc(truth: Truth, scores: Matrix) -> float:
    """(n,) and (n,) -> how often a true item is above a false one, a tie counting half; nan without both."""
    n_true, n_false = int(truth.sum()), int((~truth).sum())
    if not n_true or not n_false:
        return float("nan")
    found, admitted = _admitted(truth, scores)
    hits, alarms = np.append(0, found) / n_true, np.append(0, admitted - found) / n_false
    return float(((hits[1:] + hits[:-1]) / 2 * np.diff(alarms)).sum())


def d_prime(auc: float) -> float:
    """Infinite at an area of 1."""
    if math.isnan(auc) or not 0 < auc < 1:
        return math.copysign(math.inf, auc - 0.5) if auc in (0, 1) else math.nan
    return math.sqrt(2) * NormalDist().inv_cdf(auc)


def confusion(truth: Truth, scores: Matrix) -> npt.NDArray[np.int64]:
    """(n_clips, n_labels) twice -> (n_labels, n_labels): true by highest label, of clips with one label."""
    n_labels = truth.shape[1]
    single = truth.sum(axis=1) == 1
    pairs = truth[single].argmax(axis=1) * n_labels + scores[single].argmax(axis=1)
    return np.bincount(pairs, minlength=n_labels**2).reshape(n_labels, n_labels)


def _admitted(truth: Truth, scores: Matrix) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """How many true items, and how many items, each threshold admits, from the highest score down."""
    order = np.argsort(-scores, kind="stable")
    # A threshold admits all items of its score at once: only the last of equals counts.
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    return np.cumsum(truth[order], dtype=np.int64)[last], np.asarray(last + 1, np.int64)


@dataclass(frozen=True, slots=True)
class TaggingResult:
    n_clips: int
    mean_average_precision: float
    mean_auc: float
    d_prime: float
    top1: float
    top5: float
    group_accuracy: float
    """nan where there are no groups"""
    average_precisions: dict[str, float]
    """by label"""
    aucs: dict[str, float]
    """by label"""


def evaluate(
    scores: Matrix,
    truth: Truth,
    labels: Sequence[str],
    groups: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
    group_of: Sequence[str] = (),
) -> TaggingResult:
    """(n_clips, n_labels) scores against (n_clips, n_labels) truth.

    `groups` names sets of labels; a clip counts for the accuracy where the group of its highest label,
    taken over the labels of groups alone, is its own in `group_of`.
    """
    present = [int(i) for i in np.flatnonzero(truth.any(axis=0))]
    by_label = {labels[i]: average_precision(truth[:, i], scores[:, i]) for i in present}
    aucs = {labels[i]: roc_auc(truth[:, i], scores[:, i]) for i in present if not truth[:, i].all()}
    mean_auc = _mean(list(aucs.values()))
    labelled = truth.any(axis=1)
    ranked = np.argsort(-scores[labelled], axis=1)
    hit = np.take_along_axis(truth[labelled], ranked[:, :5], axis=1)
    return TaggingResult(
        n_clips=len(scores),
        mean_average_precision=_mean(list(by_label.values())),
        mean_auc=mean_auc,
        d_prime=d_prime(mean_auc),
        top1=_mean(hit[:, :1].any(axis=1)),
        top5=_mean(hit.any(axis=1)),
        group_accuracy=_group_accuracy(scores, labels, groups, group_of) if groups else math.nan,
        average_precisions=by_label,
        aucs=aucs,
    )


def _mean(values: npt.ArrayLike) -> float:
    array = np.asarray(values, np.float64)
    return float(array.mean()) if array.size else math.nan


def _group_accuracy(
    scores: Matrix, labels: Sequence[str], groups: Mapping[str, tuple[str, ...]], group_of: Sequence[str]
) -> float:
    index = {label: i for i, label in enumerate(labels)}
    names = list(groups)
    group_scores = np.stack(
        [scores[:, [index[x] for x in groups[name]]].max(axis=1) for name in names], axis=1
    )
    guess = [names[i] for i in group_scores.argmax(axis=1)]
    return float(np.mean([a == b for a, b in zip(guess, group_of, strict=True)]))
