"""From the model's labels to the sounds of the configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from streamer.config.schema import TAUGHT, VetoSettings
from streamer.core.nearest import suggestion
from streamer.detection.veto import Vetoes
from streamer.errors import ConfigError
from streamer.types import Samples


class Sounds:
    """Picks the columns that somebody listens for, sound by sound, and takes the highest of each sound."""

    def __init__(
        self,
        sounds: Mapping[str, Sequence[str]],
        labels: Sequence[str],
        vetoes: Mapping[str, VetoSettings] = MappingProxyType({}),
    ) -> None:
        """`sounds` names the labels of each sound, `labels` are the model's, in the order of its outputs.

        The `vetoes` of some of the sounds are columns behind those of all labels.
        Raises ConfigError, with a line for each label that the model does not have.
        """
        column = {label: i for i, label in enumerate(labels)}
        unknown = [
            f"sounds.{sound}.{_problem(label, labels)}"
            for sound, own in sounds.items()
            for label in own
            if label not in column
        ]
        unknown += [
            f"sounds.{sound}.veto: the model has no label {label!r}{_hint(label, labels)}"
            for sound, veto in vetoes.items()
            for label in veto.weights
            if label not in column
        ]
        if unknown:
            raise ConfigError(*unknown)
        self._columns = np.array([column[label] for own in sounds.values() for label in own], np.intp)
        ends = np.cumsum([len(own) for own in sounds.values()])
        self._starts = np.concatenate(([0], ends[:-1])).astype(np.intp)[: len(sounds)]
        self.parts = {
            sound: slice(int(start), int(end))
            for sound, start, end in zip(sounds, self._starts, ends, strict=True)
        }
        """the columns of each sound among the picked ones"""
        self._vetoes = Vetoes(vetoes, labels) if vetoes else None
        self.vetoes = {sound: len(self._columns) + number for number, sound in enumerate(vetoes)}
        """the column of each veto among the picked ones"""

    def __len__(self) -> int:
        """How many columns are picked."""
        return len(self._columns) + len(self.vetoes)

    def pick(self, scores: Samples) -> Samples:
        """(n, n_labels) -> (n, n_picked): the labels of the first sound, of the second, and so on; vetoes."""
        picked = scores[:, self._columns]
        if self._vetoes is None:
            return picked
        return np.concatenate((picked, self._vetoes.of(scores)), axis=1)

    def highest(self, picked: Samples) -> Samples:
        """(n, n_picked) -> (n, n_sounds), whatever the vetoes say."""
        if not len(self._columns):
            return picked
        by_label = np.ascontiguousarray(picked[:, : len(self._columns)].T)  # faster than along the rows
        return np.maximum.reduceat(by_label, self._starts, axis=0).T


def _problem(label: str, labels: Sequence[str]) -> str:
    if label.startswith(TAUGHT):
        name = label.removeprefix(TAUGHT)
        return f"taught: {name!r} was not loaded with the model; after `streamer teach {name}`, restart"
    return f"labels: the model has no label {label!r}{_hint(label, labels)}"


def _hint(label: str, labels: Sequence[str]) -> str:
    found = suggestion(label, labels, quote=True)
    return f", {found}" if found else ""
