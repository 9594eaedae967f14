"""Scores become bold, and keep their order."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from streamer.data.clips import Piece
from streamer.model import checkpoint
from streamer.model.config import FbankConfig
from streamer.training.sharpen import THRESHOLD, score, sharpen, threshold, thresholds
from tests.data.test_crops import DOG, WHISTLE, piece, scores


def labelled(label: str) -> Piece:
    one = piece(label=label)
    return Piece(
        replace(one.entry, labels=(label,)), one.samples, one.active, one.rms, scores(**{label: 0.6})
    )


def test_the_threshold_is_where_a_label_is_told_best() -> None:
    """Between the true and the false scores where clips are many; near what is usual where they are few."""
    truth = np.arange(400) < 200
    logits = np.where(truth, -3.0, -6.0).astype(np.float32) + np.linspace(0, 0.5, 400, dtype=np.float32)
    assert -3.1 < threshold(truth, logits) < -2.8
    assert threshold(truth[197:], logits[197:]) == THRESHOLD
    assert THRESHOLD - 1 < threshold(truth[195:], logits[195:]) < THRESHOLD


def test_what_may_be_true_does_not_count_as_false() -> None:
    """The teacher hears a dog in clips of whistles: they say nothing of dogs."""
    dogs, whistles = [labelled("Dog")] * 6, [labelled("Whistle")] * 6
    for one in whistles:
        one.scores[DOG] = 0.7
    logits = np.full((12, 527), -5.0, np.float32)
    logits[:6, DOG], logits[6:, DOG] = -2.0, 3.0  # far above the dogs' own
    found = thresholds([*dogs, *whistles], logits)
    assert found[DOG] < THRESHOLD
    assert found[WHISTLE] < THRESHOLD


@pytest.mark.slow
def test_it_keeps_the_order_of_a_labels_scores() -> None:
    """For both heads, and the heads' maps are all that changes."""
    loaded = checkpoint.load(Path("streamer/model/assets/ast-tiny"))
    before = {name: value.clone() for name, value in loaded.network.state_dict().items()}
    pieces = [labelled("Whistle"), labelled("Dog"), piece(seconds=3.0)]
    ranks = [values.argsort(axis=0) for values in score(loaded.network, FbankConfig(), pieces)]
    sharpen(loaded.network, FbankConfig(), pieces)
    for old, values in zip(ranks, score(loaded.network, FbankConfig(), pieces), strict=True):
        assert (values.argsort(axis=0) == old).mean() > 0.99  # ties of float32 apart
    changed = [n for n, value in loaded.network.state_dict().items() if not torch.equal(value, before[n])]
    assert changed == ["head.weight", "head.bias", "frame_head.dense.weight", "frame_head.dense.bias"]
