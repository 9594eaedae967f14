"""From the model's labels to the sounds of the configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from streamer.config.schema import TAUGHT
from streamer.core.nearest import suggestion
from streamer.errors import ConfigError
from streamer.types import Samples


class Sounds:
    """Picks the columns that somebody listens for, sound by sound, and takes the highest of each sound."""

    def __init__(self, sounds: Mapping[str, Sequence[str]], labels: Sequence[str]) -> None:
        """`sounds` names the labels of each sound, `labels` are the model's, in the order of its outputs.

        Raises ConfigError, with a line for each label that the model does not have.
        """
        column = {label: i for i, label in enumerate(labels)}
        unknown = [
            f"sounds.{sound}.{_problem(label, labels)}"
            for sound, own in sounds.items()
            for label in own
            if label not in column
        ]
        if unknown:
            raise ConfigError("\n".join(unknown))
        self._columns = np.array([column[label] for own in sounds.values() for label in own], np.intp)
        ends = np.cumsum([len(own) for own in sounds.values()])
        self._starts = np.concatenate(([0], ends[:-1])).astype(np.intp)[: len(sounds)]
        self.parts = {
            sound: slice(int(start), int(end))
            for sound, start, end in zip(sounds, self._starts, ends, strict=True)
        }
        """the columns of each sound among the picked ones"""

    def __len__(self) -> int:
        """How many columns are picked."""
        return len(self._columns)

    def pick(self, scores: Samples) -> Samples:
        """(n, n_labels) -> (n, n_picked): the labels of the first sound, of the second, and so on."""
        return scores[:, self._columns]

    def highest(self, picked: Samples) -> Samples:
        """(n, n_picked) -> (n, n_sounds)."""
        if not len(self):
            return picked
        by_label = np.ascontiguousarray(picked.T)  # faster than along the rows
        return np.maximum.reduceat(by_label, self._starts, axis=0).T


def _problem(label: str, labels: Sequence[str]) -> str:
    if label.startswith(TAUGHT):
        name = label.removeprefix(TAUGHT)
        return f"taught: {name!r} was not loaded with the model; after `streamer teach {name}`, restart"
    return f"labels: the model has no label {label!r}{_hint(label, labels)}"


def _hint(label: str, labels: Sequence[str]) -> str:
    found = suggestion(label, labels, quote=True)
    return f", {found}" if found else ""
