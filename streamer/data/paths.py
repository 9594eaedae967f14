"""What lies between a sound and its samples: a telephone, a small loudspeaker, a codec, a microphone."""

from __future__ import annotations

import io

import av
import numpy as np
import numpy.typing as npt
import torch

from streamer.types import Samples

RATE = 16000
"""Hertz: the student's"""
Rng = np.random.Generator
_FLOOR_DB = -80.0
"""what a filter leaves of what it does not let through"""


def vary(samples: Samples, rng: Rng) -> Samples:
    """(n,) at RATE, on one of the paths, or on none."""
    draw = rng.random()
    if draw < 0.03:
        samples = through_mp3(samples, RATE, int(rng.choice([24, 32, 48, 64])) * 1000)
        if draw < 0.01:
            return samples
    if draw < 0.65:
        samples = filtered(samples, gain_db(samples, rng))
    if rng.random() < 0.05:
        samples = telephone_code(samples)
    if rng.random() < 0.04:  # as a small loudspeaker or a cheap microphone does where it is too loud
        peak = float(np.max(np.abs(samples), initial=1e-6))
        drive = rng.uniform(1.5, 6)
        samples = np.tanh(samples * (drive / peak)) * (peak / np.tanh(drive))
    return np.asarray(samples, np.float32)


def gain_db(samples: Samples, rng: Rng) -> npt.NDArray[np.float64]:
    """(n_fft / 2 + 1,) a tilted spectrum, and now and then the limits of a line or a loudspeaker."""
    f = np.maximum(np.fft.rfftfreq(fast_length(len(samples)), 1 / RATE), 20.0)
    gain = np.clip(rng.uniform(-3, 3) * np.log2(f / 1000), -15, 12)  # dB an octave
    kind = rng.random()
    if kind < 0.10:  # telephone
        gain += _high_pass(f, rng.uniform(200, 350), 8) + _low_pass(f, rng.uniform(3200, 3800), 12)
    elif kind < 0.22:  # 8 kHz, as cameras send
        gain += _low_pass(f, rng.uniform(3000, 4000), 24)
    elif kind < 0.34:  # a small loudspeaker: no bass, and a resonance or two
        gain += _high_pass(f, rng.uniform(200, 700), 4) + _low_pass(f, rng.uniform(5000, 12000), 4)
        for _ in range(2):
            gain += rng.uniform(0, 9) * np.exp(-((np.log2(f / rng.uniform(400, 4000)) / 0.3) ** 2))
    elif kind < 0.5:
        gain += _low_pass(f, rng.uniform(2500, 9000), 4)
    elif kind < 0.62:
        gain += _high_pass(f, rng.uniform(60, 400), 4)
    return np.asarray(np.maximum(gain, _FLOOR_DB))


def filtered(samples: Samples, gain: npt.NDArray[np.float64]) -> Samples:
    return convolved(
        samples, torch.from_numpy(10 ** (gain / 20)).to(torch.complex64), fast_length(len(samples))
    )


def convolved(samples: Samples, response: torch.Tensor, n_fft: int) -> Samples:
    """(n,) samples through a filter, given as its spectrum (n_fft / 2 + 1,)."""
    spectrum = torch.fft.rfft(torch.from_numpy(samples), n_fft) * response
    return torch.fft.irfft(spectrum, n_fft)[: len(samples)].numpy()  # type: ignore[no-any-return]


def telephone_code(samples: Samples) -> Samples:
    """G.711's 8 bits, mu-law."""
    peak = max(1.0, float(np.max(np.abs(samples), initial=0.0)))
    x = samples / peak
    code = np.round(127 * np.sign(x) * np.log1p(255 * np.abs(x)) / np.log(256))
    return np.asarray(peak * np.sign(code) * np.expm1(np.abs(code) / 127 * np.log(256)) / 255, np.float32)


def through_mp3(samples: Samples, rate: int, bit_rate: int) -> Samples:
    """(n,) samples coded and decoded again, (n,): what MP3 leaves of them."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp3") as container:
        stream = container.add_stream("mp3", rate=rate, layout="mono", bit_rate=bit_rate)
        whole = np.clip(samples * 32767, -32768, 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(whole[None], format="s16", layout="mono")
        frame.sample_rate = rate
        for part in (frame, None):
            for packet in stream.encode(part):
                container.mux(packet)
    buffer.seek(0)
    with av.open(buffer, "r") as container:
        resampler = av.AudioResampler(format="flt", layout="mono", rate=rate)
        parts = [r.to_ndarray()[0] for f in container.decode(audio=0) for r in resampler.resample(f)]
    out = np.concatenate([*parts, np.zeros(len(samples), np.float32)])
    return np.asarray(out[: len(samples)], np.float32)


def fast_length(n: int) -> int:
    """The next length whose Fourier transform is quick."""
    return min(odd << max(1, (-(-n // odd) - 1).bit_length()) for odd in (1, 3, 5, 9, 15, 25, 27))


def _low_pass(f: npt.NDArray[np.float64], at: float, order: int) -> npt.NDArray[np.float64]:
    return np.asarray(-10 * np.log10(1 + (f / at) ** order))


def _high_pass(f: npt.NDArray[np.float64], at: float, order: int) -> npt.NDArray[np.float64]:
    return np.asarray(-10 * np.log10(1 + (at / f) ** order))
