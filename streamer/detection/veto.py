"""What holds a sound back where it is like events marked wrong: a function of the scores of labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from streamer.config.schema import VetoSettings
from streamer.detection.steps import LOWEST, STEPS
from streamer.types import Samples

HOLDS = 0.5
"""the veto's score from which on the sound does not count"""
_LEAST = (LOWEST / STEPS) ** 2
"""the lowest score that counts"""
_MOST = 0.999
_NOTHING = float(np.log(_LEAST / (1 - _LEAST)))


class Vetoes:
    """The vetoes of some sounds, each a column beside the labels'."""

    def __init__(self, vetoes: Mapping[str, VetoSettings], labels: Sequence[str]) -> None:
        """`labels` are the model's, and have all that the vetoes name."""
        column = {label: i for i, label in enumerate(labels)}
        self.sounds = tuple(vetoes)
        self._columns = np.array(
            sorted({column[label] for veto in vetoes.values() for label in veto.weights}), np.intp
        )
        place = {labels[i]: row for row, i in enumerate(self._columns)}
        self._weights = np.zeros((len(self._columns), len(vetoes)), np.float32)
        for number, veto in enumerate(vetoes.values()):
            for label, weight in veto.weights.items():
                self._weights[place[label], number] = weight
        self._biases = np.array([veto.bias for veto in vetoes.values()], np.float32)

    def of(self, scores: Samples) -> Samples:
        """(n, n_labels) -> (n, n_vetoes), 0..1."""
        logits = evidence(scores[:, self._columns]) @ self._weights + self._biases
        return np.asarray(1 / (1 + np.exp(-np.clip(logits, -30, 30))), np.float32)


def evidence(scores: Samples) -> Samples:
    """The log odds of scores, of any shape, above those of the lowest that counts: 0 where there is none."""
    bounded = np.clip(scores, _LEAST, _MOST)
    return np.asarray(np.log(bounded / (1 - bounded)) - _NOTHING, np.float32)


def score_of(found: Samples) -> Samples:
    """The scores that have such evidence; 0 of none."""
    odds = np.exp(found + _NOTHING)
    return np.asarray(np.where(found > 0, odds / (1 + odds), 0), np.float32)
