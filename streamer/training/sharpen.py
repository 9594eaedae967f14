"""Makes the scores of a timid model bold: 0.5 is where a label's F1 is highest on clips that validate.

A student of soft targets says what its teacher says, whose median score for the true label is 0.34. Each
label's logit z becomes SLOPE * (z - threshold), which is folded into the last linear map of each head: the
model keeps its format. The order of a label's scores stays, and with it its average precision.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from streamer.data.clips import RATE, Piece
from streamer.evaluation.tagging import precision_recall
from streamer.model.ast import AST
from streamer.model.config import FbankConfig
from streamer.model.fbank import Fbank, resample
from streamer.model.labels import AUDIOSET

SLOPE = 1.3
THRESHOLD = -0.98
"""logit (a score of 0.27) where nothing else is known; labels with few clips stay near it"""
_PRIOR_CLIPS = 10.0
"""so many clips of a label weigh as much as THRESHOLD"""
_FEWEST = 4
_UNSURE = 0.1
"""where the teacher's score is above this and nobody named the label, it may be true"""
_BATCH = 16

Matrix = npt.NDArray[np.float32]


def threshold(truth: npt.NDArray[np.bool_], logits: Matrix) -> float:
    """(n,) and (n,) -> the logit at which F1 is highest, drawn to THRESHOLD where true clips are few."""
    n = int(truth.sum())
    if n < _FEWEST:
        return THRESHOLD
    precision, recall = precision_recall(truth, logits)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-9)
    best = float(np.unique(logits)[::-1][int(f1.argmax())])
    return (n * best + _PRIOR_CLIPS * THRESHOLD) / (n + _PRIOR_CLIPS)


def thresholds(pieces: Sequence[Piece], logits: Matrix) -> Matrix:
    """(n, n_labels) logits -> (n_labels,). A clip counts for a label where it is known whether it has it."""
    truth = np.array([np.isin(AUDIOSET, piece.entry.labels) for piece in pieces])
    exact = np.array([piece.entry.exact for piece in pieces])
    scores = np.stack([piece.scores for piece in pieces])
    found = np.full(len(AUDIOSET), THRESHOLD, np.float32)
    for i in np.flatnonzero(truth[exact].any(axis=0)):
        certain = (truth[:, i] & exact) | (~truth[:, i] & (scores[:, i] < _UNSURE))
        found[i] = threshold(truth[certain, i], logits[certain, i])
    return found


@torch.inference_mode()
def score(network: AST, fbank: FbankConfig, pieces: Sequence[Piece]) -> tuple[Matrix, Matrix]:
    """(n, n_labels) logits of the window and the highest of its time steps; clips come after silence."""
    features, window, steps = Fbank(fbank), [], []
    n = int(fbank.window_s * fbank.sampling_rate)
    for begin in range(0, len(pieces), _BATCH):
        audio = torch.zeros(len(pieces[begin : begin + _BATCH]), n)
        for row, piece in zip(audio, pieces[begin:], strict=False):
            samples = torch.from_numpy(piece.samples.astype(np.float32) / 32768)
            samples = resample(samples[None], RATE, fbank.sampling_rate)[0, :n]
            row[n - len(samples) :] = samples
        logits, frame_logits = network(features(audio))
        window.append(logits)
        steps.append(logits if frame_logits is None else frame_logits.amax(dim=1))
    return torch.cat(window).numpy(), torch.cat(steps).numpy()


@torch.no_grad()
def sharpen(network: AST, fbank: FbankConfig, pieces: Sequence[Piece]) -> None:
    """Change the heads' last maps. Clips without certain labels help to know what a label is not."""
    window, steps = score(network, fbank, pieces)
    _fold_in(network.head, torch.from_numpy(thresholds(pieces, window)))
    if network.frame_head is not None:
        _fold_in(network.frame_head.dense, torch.from_numpy(thresholds(pieces, steps)))


def _fold_in(linear: torch.nn.Linear, at: Tensor) -> None:
    linear.weight.mul_(SLOPE)
    linear.bias.sub_(at).mul_(SLOPE)
