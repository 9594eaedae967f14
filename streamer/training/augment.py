"""Changes of clips while training: level, place, noise, blends of two, masks.

SpecAugment: Park et al., https://arxiv.org/abs/1904.08779. Blends of waveforms, masks of value 0 before
normalisation and noise on features are those of AST's authors, https://arxiv.org/abs/2104.01778.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor, from_numpy

from streamer.model.config import FbankConfig
from streamer.training.settings import AugmentSettings
from streamer.types import Samples

Rng = np.random.Generator


class Augment:
    """Every draw is from the generator that is given, and is made whatever comes of it."""

    def __init__(self, settings: AugmentSettings) -> None:
        self._settings = settings

    def clip(self, samples: Samples, rate: int, rng: Rng) -> Samples:
        """A clip at another level and, rolled, at another time."""
        most_db, most = self._settings.gain_db, int(self._settings.shift_s * rate)
        gain = 10 ** (rng.uniform(-most_db, most_db) / 20)
        return np.roll(samples, int(rng.integers(-most, most + 1))) * np.float32(gain)

    def mixes(self, rng: Rng) -> bool:
        return bool(rng.random() < self._settings.mixup)

    def mix(self, samples: Samples, other: Samples, rng: Rng) -> tuple[Samples, float]:
        """A blend as long as the first, and the first's share of it."""
        share = float(rng.beta(self._settings.mixup_alpha, self._settings.mixup_alpha))
        other = np.pad(other[: len(samples)], (0, max(0, len(samples) - len(other))))
        return np.asarray(share * samples + (1 - share) * other, np.float32), share

    def noise(self, samples: Samples, rng: Rng) -> Samples:
        """White noise over every second clip: what never came clean in training is strange when it does."""
        if self._settings.noise_snr_db is None or rng.random() < 0.5:
            return samples
        low_db, high_db = self._settings.noise_snr_db
        rms = float(np.sqrt(np.square(samples).mean()))
        level = rms * 10 ** (-rng.uniform(low_db, high_db) / 20)
        return samples + np.float32(level) * rng.standard_normal(len(samples), np.float32)

    def features(self, features: Tensor, config: FbankConfig, rng: Rng) -> Tensor:
        """(T, M) normalised features, masked in time and in frequency, with noise."""
        masked = features.clone()
        fill = -config.mean / (2 * config.std) if config.do_normalize else 0.0  # 0 before normalisation
        for axis, most in ((0, self._settings.time_mask), (1, self._settings.frequency_mask)):
            width = min(int(rng.uniform(0, most)), features.shape[axis])
            begin = int(rng.uniform(0, features.shape[axis] - width))
            masked.narrow(axis, begin, width).fill_(fill)
        if self._settings.feature_noise:
            most_noise = self._settings.feature_noise * rng.random()
            masked += most_noise * from_numpy(rng.random(tuple(features.shape), np.float32))
        return masked
