"""Kaldi-compatible log-mel features of a batch of windows, on the device of the model.

Equal, to float32 rounding, to `torchaudio.compliance.kaldi.fbank(x, window_type="hanning", num_mel_bins=M)`,
which is what `ASTFeatureExtractor` computes one clip at a time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchaudio.compliance.kaldi import get_mel_banks
from torchaudio.functional import resample

FRAME_S = 0.010
_WIDTH_S = 0.025
_PREEMPHASIS = 0.97
_LARGEST_DENOMINATOR = 1000


@dataclass(frozen=True)
class FbankConfig:
    """`preprocessor_config.json` of a model directory."""

    sampling_rate: int = 16000
    num_mel_bins: int = 128
    max_length: int = 1024
    """frames; shorter input is padded, longer is cut"""
    mean: float = -4.2677393
    std: float = 4.5689974
    do_normalize: bool = True

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean) and math.isfinite(self.std) and self.std > 0):
            raise ValueError(f"mean {self.mean} and std {self.std} cannot normalise anything")

    @property
    def window_s(self) -> float:
        """Seconds of the windows that the model is for.

        Published models pad: 1024 frames for clips of 10 s (998 frames), 512 for 5 s, 128 for 1 s. So it is
        the whole seconds that fit; what is shorter than one second is taken as it is.
        """
        seconds = (self.max_length + 2) * FRAME_S
        return float(int(seconds + 1e-9)) if seconds >= 1 else round(seconds, 2)


class Fbank(nn.Module):
    """Audio to normalised log-mel energies."""

    window: Tensor
    banks: Tensor

    def __init__(self, config: FbankConfig) -> None:
        super().__init__()
        self.config = config
        self.width = int(config.sampling_rate * _WIDTH_S)
        self.shift = int(config.sampling_rate * FRAME_S)
        self.n_fft = 1 << (self.width - 1).bit_length()
        banks, _ = get_mel_banks(
            config.num_mel_bins, self.n_fft, config.sampling_rate, 20.0, 0.0, 100.0, -500.0, 1.0
        )
        self.register_buffer("window", torch.hann_window(self.width, periodic=False), persistent=False)
        self.register_buffer(
            "banks", F.pad(banks, (0, 1)).T.contiguous(), persistent=False
        )  # (n_fft/2 + 1, M)

    def forward(self, audio: Tensor, sample_rate: int | None = None) -> Tensor:
        """(B, n_samples) at `sample_rate` Hertz (the model's own where None) -> (B, max_length, M).

        Frames past the end of the audio are 0 before normalisation, as in training of the published models.
        """
        x = self.frames(audio, sample_rate)[:, : self.config.max_length]
        x = F.pad(x, (0, 0, 0, self.config.max_length - x.shape[1]))
        return (x - self.config.mean) / (2 * self.config.std) if self.config.do_normalize else x

    def frames(self, audio: Tensor, sample_rate: int | None = None) -> Tensor:
        """(B, n_samples) -> (B, n_frames, M), neither padded nor normalised; n_frames may be 0."""
        if sample_rate is not None and sample_rate != self.config.sampling_rate:
            # The kernel grows with the denominator: all usual rates are exact, 47 999 Hz is taken as 48 000.
            ratio = Fraction(sample_rate, self.config.sampling_rate).limit_denominator(_LARGEST_DENOMINATOR)
            audio = resample(audio, ratio.numerator, ratio.denominator)
        if audio.shape[-1] < self.width:
            return audio.new_zeros(audio.shape[0], 0, self.config.num_mel_bins)
        x = audio.unfold(-1, self.width, self.shift)  # (B, n_frames, width), whole frames only
        x = x - x.mean(dim=-1, keepdim=True)
        x = x - _PREEMPHASIS * torch.cat((x[..., :1], x[..., :-1]), dim=-1)
        power = torch.fft.rfft(x * self.window, n=self.n_fft).abs().square()
        energies: Tensor = power @ self.banks
        return energies.clamp_min(torch.finfo(torch.float32).eps).log()
