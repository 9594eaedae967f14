"""What the network sees of labelled clips: windows, augmented, as features and targets."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from streamer.data.audio import read_audio
from streamer.data.examples import Example, count_labels
from streamer.model.config import FbankConfig
from streamer.model.fbank import Fbank
from streamer.training.augment import Augment
from streamer.types import Samples


def balanced_chances(examples: Sequence[Example]) -> npt.NDArray[np.float64]:
    """(n,) chances to be drawn: each label of a clip adds the inverse of how often it occurs."""
    counts = count_labels(examples)
    chances = np.array([sum(1 / counts[label] for label in example.labels) for example in examples])
    # A clip without labels comes as often as the rarest drawn of the others.
    chances[chances == 0] = chances[chances > 0].min(initial=1.0)
    return np.asarray(chances / chances.sum())


def loader(dataset: Dataset[Any], workers: int, **batching: Any) -> DataLoader[Any]:
    """Reads clips in so many processes, or in this one where there are 0 of them.

    A fork server starts them. A fork of this process would have the locks of all engines that it has opened,
    without the threads that give them back, and could wait for ever.
    """
    if not workers:
        return DataLoader(dataset, **batching)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])  # torch is imported once, not by each
    return DataLoader(dataset, num_workers=workers, multiprocessing_context=context, **batching)


Draw: TypeAlias = tuple[int, int | None, int]
"""an example's number, the epoch (None: then nothing is random) and the place in the epoch's order"""


class Clips(Dataset[tuple[Tensor, Tensor]]):
    """`[draw]` is ((T, M) normalised features, (n_labels,) targets).

    What is random is a function of the seed and the draw alone: the same in any process, in any order, and
    after a resume.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        labels: Sequence[str],
        config: FbankConfig,
        *,
        short: str,
        seed: int,
        augment: Augment | None = None,
    ) -> None:
        self.examples, self._short, self._seed, self._augment = examples, short, seed, augment
        self._index = {label: i for i, label in enumerate(labels)}
        self._fbank = Fbank(config)
        self._n = round(config.window_s * config.sampling_rate)

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, draw: Draw) -> tuple[Tensor, Tensor]:
        i, epoch, place = draw
        if epoch is None or self._augment is None:
            return self.features(self.window(i, None)), self.target(i)
        rng = np.random.default_rng([self._seed, 1, epoch, place])
        samples, target = self._augment.clip(self.window(i, rng), self._rate, rng), self.target(i)
        if self._augment.mixes(rng):
            j = int(rng.integers(len(self.examples)))
            other = self._augment.clip(self.window(j, rng), self._rate, rng)
            samples, share = self._augment.mix(samples, other, rng)
            target = share * target + (1 - share) * self.target(j)
        samples = self._augment.noise(samples, rng)
        return self._augment.features(self.features(samples), self._fbank.config, rng), target

    @property
    def _rate(self) -> int:
        return self._fbank.config.sampling_rate

    def window(self, i: int, rng: np.random.Generator | None) -> Samples:
        """At most a window of an example: a random part of it, or the first."""
        samples = read_audio(self.examples[i], self._rate)
        spare = len(samples) - self._n
        if spare > 0:
            begin = 0 if rng is None else int(rng.integers(spare + 1))
            return samples[begin : begin + self._n]
        if self._short == "pad":
            return samples
        begin = -spare // 2 if rng is None else int(rng.integers(-spare + 1))
        return np.pad(samples, (begin, -spare - begin))

    def features(self, samples: Samples) -> Tensor:
        """(n,) -> (T, M)."""
        features: Tensor = self._fbank(torch.from_numpy(samples)[None])[0]
        return features

    def target(self, i: int) -> Tensor:
        target = torch.zeros(len(self._index))
        for label in self.examples[i].labels:
            target[self._index[label]] = 1
        return target
