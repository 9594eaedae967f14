"""Learns a veto: what tells the events of a sound that were marked wrong from its other ones, by labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streamer.detection.veto import HOLDS
from streamer.errors import InputError
from streamer.teaching.fit import regression
from streamer.types import Samples

FEWEST_OTHERS = 3
"""events that were not marked wrong"""
LABELS = 8
"""that decide; few can be read by people, and few events cannot tell more"""
PENALTY = 0.02
"""of the squared length of the weights, against the mean loss"""
UNREVIEWED = 0.25
"""weight of an event that nobody has reviewed, where one that was marked right has 1"""
_LEFT_OUT_MOST = 60
_STEPS = 30

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """An event of the sound."""

    evidence: Samples
    """(n, n_labels), n > 0: of the moments at which it counted, as `detection.veto.evidence` has it"""
    is_wrong: bool
    is_reviewed: bool


@dataclass(frozen=True, slots=True)
class Learned:
    """A veto, and what it does with events that it was not fitted to, each left out in turn."""

    bias: float
    weights: Mapping[str, float]
    n_wrong: int
    n_right: int
    n_unreviewed: int
    held_wrong: int | None
    """events marked wrong that it holds back; None where there is one alone, which cannot be left out"""
    held_others: int
    """of all others"""


def learn(examples: Sequence[Example], labels: Sequence[str]) -> Learned:
    """Raises InputError where there is too little to learn from, or nothing that tells them apart."""
    wrong = [one for one in examples if one.is_wrong]
    others = [one for one in examples if not one.is_wrong]
    if not wrong:
        raise InputError("none of its events was marked wrong: streamer events review ID wrong")
    if len(others) < FEWEST_OTHERS:
        raise InputError(
            f"{len(others)} events that were not marked wrong are too few: {FEWEST_OTHERS} are needed"
        )
    bias, weights, chosen = _fit(examples)
    is_held = [_is_held(one, bias, weights, chosen) for one in examples]
    n_wrong_held = sum(held for one, held in zip(examples, is_held, strict=True) if one.is_wrong)
    n_others_held = sum(is_held) - n_wrong_held
    if 2 * n_wrong_held < len(wrong) or 2 * n_others_held > len(others):
        raise InputError(
            "the events that were marked wrong cannot be told from the others by their labels: raise its"
            " threshold (streamer calibrate), or teach it anew with --not"
        )
    held_wrong, held_others = _left_out(examples)
    return Learned(
        bias=round(bias, 3),
        weights={
            labels[column]: round(float(weight), 3) for column, weight in zip(chosen, weights, strict=True)
        },
        n_wrong=len(wrong),
        n_right=sum(one.is_reviewed for one in others),
        n_unreviewed=sum(not one.is_reviewed for one in others),
        held_wrong=None if len(wrong) == 1 else held_wrong,
        held_others=held_others,
    )


def _left_out(examples: Sequence[Example]) -> tuple[int, int]:
    """How many of both kinds what was fitted without them holds back; of many, some are tried."""
    counts = []
    for is_wrong in (True, False):
        own = [i for i, one in enumerate(examples) if one.is_wrong == is_wrong]
        tried = own[:: -(-len(own) // _LEFT_OUT_MOST)] if len(own) > (1 if is_wrong else 0) else []
        n_held = 0
        for i in tried:
            n_held += _is_held(examples[i], *_fit([*examples[:i], *examples[i + 1 :]]))
        counts.append(round(n_held * len(own) / len(tried)) if tried else 0)
    return counts[0], counts[1]


def _is_held(one: Example, bias: float, weights: Floats, chosen: npt.NDArray[np.intp]) -> bool:
    """Most of its moments are."""
    logits = one.evidence[:, chosen] @ weights + bias
    return bool(np.mean(1 / (1 + np.exp(-np.clip(logits, -30, 30))) >= HOLDS) > 0.5)


def _fit(examples: Sequence[Example]) -> tuple[float, Floats, npt.NDArray[np.intp]]:
    """Bias, weights and the columns that they are of: logistic regression, by Newton's method."""
    is_wrong = np.array([one.is_wrong for one in examples])
    weight = np.array([1.0 if one.is_wrong or one.is_reviewed else UNREVIEWED for one in examples])
    for kind in (is_wrong, ~is_wrong):
        weight[kind] /= weight[kind].sum()
    means = np.stack([one.evidence.mean(axis=0) for one in examples]).astype(np.float64)
    chosen = _telling(means, weight, is_wrong)
    x = np.concatenate([one.evidence[:, chosen] for one in examples]).astype(np.float64)
    x = np.concatenate((x, np.ones((len(x), 1))), axis=1)
    sizes = np.array([len(one.evidence) for one in examples])
    w, y = np.repeat(weight / sizes, sizes), np.repeat(is_wrong.astype(np.float64), sizes)
    penalty = np.full(x.shape[1], PENALTY * w.sum())
    penalty[-1] = 1e-6
    v = regression(x, y, w, penalty, np.zeros(x.shape[1]), _STEPS)
    return float(v[-1]), v[:-1], chosen


def _telling(means: Floats, weight: Floats, is_wrong: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """The columns whose means over the events differ most between both kinds, against how they scatter."""
    sides = []
    for kind in (is_wrong, ~is_wrong):
        mean = weight[kind] @ means[kind]
        sides.append((mean, weight[kind] @ np.square(means[kind] - mean)))
    (wrong, scatter), (right, other_scatter) = sides
    apart = np.abs(wrong - right) / np.sqrt(scatter + other_scatter + 1.0)
    return np.sort(np.argsort(-apart, kind="stable")[:LABELS])
