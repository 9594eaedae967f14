"""The features of `features.py` on a device of torch, for training and for the engine that runs there."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamer.model.config import FbankConfig
from streamer.model.features import PREEMPHASIS, SMALLEST, frame_sizes, mel_banks, resampler


class Fbank(nn.Module):
    """Audio to normalised log-mel energies."""

    window: Tensor
    banks: Tensor

    def __init__(self, config: FbankConfig) -> None:
        super().__init__()
        self.config = config
        self.width, self.shift, self.n_fft = frame_sizes(config)
        self.register_buffer("window", torch.hann_window(self.width, periodic=False), persistent=False)
        banks = mel_banks(config.num_mel_bins, self.n_fft, config.sampling_rate)  # (n_fft / 2 + 1, M)
        self.register_buffer("banks", torch.from_numpy(banks), persistent=False)

    def forward(self, audio: Tensor, sample_rate: int | None = None) -> Tensor:
        """(B, n_samples) at `sample_rate` Hertz (the model's own where None) -> (B, max_length, M).

        Frames past the end of the audio are 0 before normalisation, as in training of the published models.
        """
        x = self.frames(audio, sample_rate)[:, : self.config.max_length]
        x = F.pad(x, (0, 0, 0, self.config.max_length - x.shape[1]))
        return (x - self.config.mean) / (2 * self.config.std) if self.config.do_normalize else x

    def frames(self, audio: Tensor, sample_rate: int | None = None) -> Tensor:
        """(B, n_samples) -> (B, n_frames, M), neither padded nor normalised; n_frames may be 0."""
        if sample_rate is not None:
            audio = resample(audio, sample_rate, self.config.sampling_rate)
        if audio.shape[-1] < self.width:
            return audio.new_zeros(audio.shape[0], 0, self.config.num_mel_bins)
        x = audio.unfold(-1, self.width, self.shift)  # (B, n_frames, width), whole frames only
        x = x - x.mean(dim=-1, keepdim=True)
        x = x - PREEMPHASIS * torch.cat((x[..., :1], x[..., :-1]), dim=-1)
        power = torch.fft.rfft(x * self.window, n=self.n_fft).abs().square()
        energies: Tensor = power @ self.banks
        return energies.clamp_min(SMALLEST).log()


def resample(audio: Tensor, old: int, new: int) -> Tensor:
    """(B, n) at `old` Hertz -> (B, ceil(n * new / old)) at `new`, on the tensor's device."""
    n_samples = audio.shape[-1]
    if old == new or not n_samples:
        return audio
    change = resampler(old, new)
    padding = change.before, change.n_padded(n_samples) - change.before - n_samples
    rows = F.pad(audio.double(), padding).unfold(-1, change.kernel.shape[0], change.step)
    product = rows @ torch.from_numpy(change.kernel).to(audio.device)
    return product.flatten(1)[:, : change.n_outputs(n_samples)].to(audio.dtype)
