"""Fits the head of a taught sound: regularised logistic regression on directions of embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from streamer.inference.heads import BEST, Head, directions
from streamer.types import Samples

Floats = npt.NDArray[np.float64]

PENALTY = 0.003
"""of the squared length of the weights, against the mean loss"""
AROUND = 0.25
"""of the weight of all negatives: what lies around the sound in its own windows"""
_STEPS = 15
_SHARP = 1.4
"""logit, a score of 0.8, of a sound as it mostly comes"""
_USUAL, _RARE = 0.25, 0.98
"""quantiles: of the clips, so few score lower; of other windows, so many score lower"""


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """Embeddings of the time steps of windows, in which the sound is or is not."""

    sound: Samples
    """(n, size) of when it sounds"""
    clip: npt.NDArray[np.int64]
    """(n,) the clip of each"""
    window: npt.NDArray[np.int64]
    """(n,) the window of each"""
    around: Samples
    """(m, size) of the same windows, when it does not"""
    around_clip: npt.NDArray[np.int64]
    """(m,)"""
    others: Sequence[tuple[float, Samples]]
    """by share of the weight of negatives: (k, t, size) of windows of other sounds, the bank's last"""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a head does with what it was not fitted to."""

    n_clips: int
    heard: int
    """clips that were heard in most of their windows by heads that were fitted without them"""
    n_others: int
    false: int
    """of so many windows of other sounds, those that were taken for it"""
    is_contradicted: bool
    """half of the windows or more of one kind of others would be taken for it if that kind did not count"""


def fit(name: str, steps: Steps) -> tuple[Head, Estimate]:
    """The head, its score 0.5 where it divides best what it was not fitted to, and how well it does that."""
    bank = steps.others[-1][1]
    centre = bank.reshape(-1, bank.shape[-1]).mean(axis=0)
    seen = replace(
        steps,
        sound=directions(steps.sound, centre),
        around=directions(steps.around, centre),
        others=[(share, directions(windows, centre)) for share, windows in steps.others],
    )
    weights, bias = _regress(seen)
    own, others = _left_out(seen, (weights, bias))
    high = float(np.quantile(np.concatenate(own), _USUAL))
    # By the kind of other sounds that is nearest: what is far off, however much, says little of it.
    lows = [float(np.quantile(logits, _RARE)) for logits in others]
    low = max(lows)
    middle = (high + low) / 2 if high > low else low
    nearest, rest = others[int(np.argmax(lows))], sorted(lows)[:-1]
    slope = float(np.clip(_SHARP / max(high - middle, 1e-3), 0.5, 4.0))
    head = Head(name, centre.tolist(), (slope * weights).tolist(), slope * (bias - middle))
    heard = sum(bool(np.median(logits) >= middle) for logits in own)
    return head, Estimate(
        n_clips=len(own),
        heard=heard,
        n_others=sum(map(len, others)),
        false=sum(int((logits >= middle).sum()) for logits in others),
        is_contradicted=bool(rest) and bool(np.mean(nearest >= (high + max(rest)) / 2) >= 0.5),
    )


def _left_out(seen: Steps, whole: tuple[Floats, float]) -> tuple[list[Floats], list[Floats]]:
    """Logits of the windows of each clip, and of each kind of others, by heads fitted without them."""
    own: list[Floats] = []
    others: list[list[float]] = [[] for _ in seen.others]
    clips = np.unique(seen.clip)
    for fold, clip in enumerate(clips):
        weights, bias = _regress(seen, whole, without=int(clip), fold=(fold, len(clips)))
        mine = seen.clip == clip
        own.append(
            np.array(
                [
                    _best(seen.sound[mine & (seen.window == window)] @ weights + bias)
                    for window in np.unique(seen.window[mine])
                ]
            )
        )
        for found, (_, windows) in zip(others, seen.others, strict=True):
            found += [_best(logits) for logits in windows[fold :: len(clips)] @ weights + bias]
    return own, [np.array(found) for found in others if found]


def _regress(
    seen: Steps,
    start: tuple[Floats, float] | None = None,
    *,
    without: int | None = None,
    fold: tuple[int, int] | None = None,
) -> tuple[Floats, float]:
    """Weights and bias by Newton's method, without a clip and without each so-and-so-many-th other window.

    `start` is near them, where something near is known.
    """

    def kept(windows: Samples) -> Samples:
        if fold is not None:
            windows = np.delete(windows, np.s_[fold[0] :: fold[1]], axis=0)
        return windows.reshape(-1, windows.shape[-1])

    sound, around = seen.sound, seen.around
    if without is not None:
        sound, around = sound[seen.clip != without], around[seen.around_clip != without]
    total = sum(share for share, _ in seen.others) / (1 - AROUND)
    parts = [(sound, 1.0), (around, AROUND)]
    parts += [(kept(windows), share / total) for share, windows in seen.others]
    x = np.concatenate([part for part, _ in parts]).astype(np.float64)
    x = np.concatenate((x, np.ones((len(x), 1))), axis=1)
    y = np.concatenate((np.ones(len(sound)), np.zeros(len(x) - len(sound))))
    w = np.concatenate([np.full(len(part), share / max(1, len(part))) for part, share in parts])
    penalty = np.full(x.shape[1], PENALTY * w.sum())
    penalty[-1] = 1e-9
    v = np.zeros(x.shape[1]) if start is None else np.append(*start)
    v = regression(x, y, w, penalty, v, _STEPS)
    return v[:-1], float(v[-1])


def regression(x: Floats, y: Floats, w: Floats, penalty: Floats, v: Floats, steps: int) -> Floats:
    """Logistic regression by Newton's method: rows (n, m), their truths and weights (n,)."""
    for _ in range(steps):
        p = 1 / (1 + np.exp(-np.clip(x @ v, -30, 30)))
        slope = x.T @ (w * (p - y)) + penalty * v
        curve = (x * (w * np.maximum(p * (1 - p), 1e-3))[:, None]).T @ x + np.diag(penalty)
        step = np.linalg.solve(curve, slope)
        v -= step
        if np.abs(step).max() < 1e-3 * np.abs(v).max():
            break
    return v


def _best(logits: Floats) -> float:
    """As `heads.of_window`, of one window and one head."""
    return float(np.sort(logits)[-BEST:].mean())


def likeness(head: Head, embeddings: Samples, clip: npt.NDArray[np.int64]) -> list[float]:
    """The score of each clip of another sound, from its embeddings (n, size) and their clips (n,)."""
    logits = directions(embeddings, head.centre) @ np.array(head.weights) + head.bias
    return [float(1 / (1 + np.exp(-_best(logits[clip == one])))) for one in np.unique(clip)]
