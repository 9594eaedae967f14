"""Features against `ASTFeatureExtractor`, in numpy and on a device of torch."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
import transformers
from torch import Tensor
from torchaudio.functional import resample

from streamer.model import features
from streamer.model.config import FbankConfig
from streamer.model.fbank import Fbank

RATE = 16000
TOLERANCE = 1e-4
SECONDS = (0.1, 0.5, 1.0, 3.3, 9.99, 10.0, 10.01, 12.0)


def _signal(kind: str, seconds: float, sample_rate: int = RATE) -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(3)
    t = np.arange(round(seconds * sample_rate)) / sample_rate
    match kind:
        case "noise":
            x = 0.1 * rng.standard_normal(len(t))
        case "tone":
            x = 0.5 * np.sin(2 * np.pi * 1000 * t)
        case "voice":  # pulses of a glottis through two formants that swell and fade
            pulses = np.sin(2 * np.pi * 120 * t + 3 * np.sin(2 * np.pi * 5 * t)) ** 15
            x = pulses * (np.sin(2 * np.pi * 700 * t) + 0.5 * np.sin(2 * np.pi * 1200 * t))
            x = 0.3 * x * np.sin(np.pi * 2 * t) ** 2
        case "silence":
            x = np.zeros_like(t)
        case "full scale":
            x = np.sign(np.sin(2 * np.pi * 440 * t))
    return x.astype(np.float32)


Compute = Callable[..., Tensor]


def _torch(config: FbankConfig, audio: npt.NDArray[np.float32], sample_rate: int | None = None) -> Tensor:
    """(B, n_samples) -> (B, T, M)"""
    return Fbank(config)(torch.from_numpy(audio), sample_rate)  # type: ignore[no-any-return]  # nn.Module.__call__


def _numpy(config: FbankConfig, audio: npt.NDArray[np.float32], sample_rate: int | None = None) -> Tensor:
    """(B, n_samples) -> (B, T, M)"""
    return torch.from_numpy(features.Fbank(config)(audio, sample_rate))


@functools.cache
def _published(kind: str, seconds: float) -> Tensor:
    """(T, M) of the published extractor."""
    extract = transformers.ASTFeatureExtractor()
    values: Tensor = extract(_signal(kind, seconds), sampling_rate=RATE, return_tensors="pt")["input_values"][
        0
    ]
    return values


both = pytest.mark.parametrize("compute", [_torch, _numpy], ids=["torch", "numpy"])


@both
@pytest.mark.parametrize("kind", ["noise", "tone", "voice", "silence", "full scale"])
@pytest.mark.parametrize("seconds", SECONDS)
def test_equals_the_published_extractor(compute: Compute, kind: str, seconds: float) -> None:
    """Shorter input is padded, longer cut, and every value is theirs."""
    ours = compute(FbankConfig(), _signal(kind, seconds)[None])[0]

    torch.testing.assert_close(ours, _published(kind, seconds), atol=TOLERANCE, rtol=0)


@both
@pytest.mark.parametrize(
    "config",
    [
        FbankConfig(max_length=128, mean=-6.845978, std=5.5654526),
        FbankConfig(num_mel_bins=64),
        FbankConfig(do_normalize=False),
        FbankConfig(sampling_rate=22050),
    ],
    ids=["Speech Commands", "mel bins", "not normalised", "another rate"],
)
def test_every_field(compute: Compute, config: FbankConfig) -> None:
    """Every field of a `preprocessor_config.json` means what it means to `transformers`."""
    audio = _signal("voice", 2.0, config.sampling_rate)
    extractor = transformers.ASTFeatureExtractor(
        sampling_rate=config.sampling_rate,
        num_mel_bins=config.num_mel_bins,
        max_length=config.max_length,
        mean=config.mean,
        std=config.std,
        do_normalize=config.do_normalize,
    )

    theirs = extractor(audio, sampling_rate=config.sampling_rate, return_tensors="pt")["input_values"][0]

    # numpy rounds other values of the window than torch, and then otherwise than the reference: near digital
    # silence the logarithm shows it.
    atol = TOLERANCE if compute is _torch or config.do_normalize else 2 * config.std * TOLERANCE
    torch.testing.assert_close(compute(config, audio[None])[0], theirs, atol=atol, rtol=0)


@both
def test_batch_equals_loop(compute: Compute) -> None:
    """What a window's features are does not depend on its company."""
    audio = np.stack([_signal(kind, 3.0) for kind in ("noise", "tone", "voice", "silence")])

    alone = torch.cat([compute(FbankConfig(), a[None]) for a in audio])
    torch.testing.assert_close(compute(FbankConfig(), audio), alone, atol=1e-6, rtol=0)


@both
@pytest.mark.parametrize("sample_rate", [8000, 11025, 22050, 32000, 44100, 48000, 96000])
def test_other_rates(compute: Compute, sample_rate: int) -> None:
    """A source of any rate is heard as its resampled signal is."""
    audio = _signal("voice", 10.0, sample_rate)
    # In double precision: in single, the reference's own taps are off by more than what is compared here.
    resampled = resample(torch.from_numpy(audio).double(), sample_rate, RATE).float().numpy()

    ours = compute(FbankConfig(), audio[None], sample_rate)[0]
    theirs = transformers.ASTFeatureExtractor()(resampled, sampling_rate=RATE, return_tensors="pt")[
        "input_values"
    ][0]

    torch.testing.assert_close(ours, theirs, atol=TOLERANCE, rtol=0)


@both
def test_a_rate_without_a_simple_ratio(compute: Compute) -> None:
    """A rate that shares no divisor with the model's needs no gigabytes; the nearest that does is taken."""
    odd, even = 47999, 48000

    x = compute(FbankConfig(), _signal("tone", 1.0, odd)[None], odd)
    y = compute(FbankConfig(), _signal("tone", 1.0, even)[None], even)

    assert (x - y).abs().mean() < 0.01


@both
@pytest.mark.parametrize("n_samples", [0, 1, 399])
def test_less_than_a_frame(compute: Compute, n_samples: int) -> None:
    """Audio shorter than a frame is all padding."""
    config = FbankConfig()

    x = compute(config, np.ones((1, n_samples), np.float32))

    assert (x == -config.mean / (2 * config.std)).all()


@pytest.mark.parametrize(
    ("max_length", "expected"), [(1024, 10.0), (998, 10.0), (512, 5.0), (128, 1.0), (64, 0.66)]
)
def test_window(max_length: int, expected: float) -> None:
    """A window is what the model was trained for, without the padding."""
    assert expected == FbankConfig(max_length=max_length).window_s


@both
@pytest.mark.parametrize("sample_rate", [8000, 22050, 44100, 48000, 192000])
@pytest.mark.parametrize("n_samples", [0, 1, 7, 4000])
def test_short_audio_of_other_rates(compute: Compute, sample_rate: int, n_samples: int) -> None:
    """However few samples there are, the features have their shape, and nothing of them is missing."""
    x = compute(FbankConfig(), np.ones((2, n_samples), np.float32), sample_rate)

    assert x.shape == (2, 1024, 128)
    assert x.isfinite().all()


@pytest.mark.parametrize(
    # Of a pure tone, bins 100 dB below it hold the rounding of torch's own Fourier transform.
    ("kind", "tolerance"),
    [("noise", TOLERANCE), ("voice", TOLERANCE), ("silence", 0.0), ("tone", 3e-4), ("full scale", 3e-4)],
)
def test_the_two_agree_at_every_rate(kind: str, tolerance: float) -> None:
    """No engine is given another signal than the other."""
    for sample_rate in (8000, 11025, 16000, 22050, 24000, 32000, 37800, 44100, 48000, 88200, 96000, 192000):
        audio = _signal(kind, 2.0, sample_rate)[None]
        ours, theirs = (compute(FbankConfig(), audio, sample_rate) for compute in (_torch, _numpy))
        torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=0)
