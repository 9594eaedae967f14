"""The teacher: EfficientAT's mn04_as, a small convolutional AudioSet tagger, as an ONNX file.

Schmid, Koutini, Widmer: Efficient Large-scale Audio Tagging Via Transformer-to-CNN Knowledge Distillation,
https://arxiv.org/abs/2211.04772. The features are those the network was trained on: 32 kHz, pre-emphasis
0.97, Hann window of 800 in 1024, shift 320, 128 Kaldi mel bands from 0 to 15 kHz, (ln(x + 1e-5) + 4.5) / 5.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from streamer.model.features import mel_banks
from streamer.types import Samples

RATE = 32000
_SHORTEST = RATE  # samples; the network was never shown less than a second


class Teacher:
    """Scores of 527 AudioSet labels. onnxruntime is imported here, since only training needs it."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        import onnxruntime  # noqa: PLC0415  # an optional package of the `train` extra

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._banks = torch.from_numpy(mel_banks(128, 1024, RATE, 0.0, 15000.0)).T  # (128, 513)
        # numpy's Hann window is symmetric, as torch's with periodic=False.
        self._window = torch.hann_window(800, periodic=False)

    def score(self, samples: Samples) -> npt.NDArray[np.float32]:
        """(n,) at 32 kHz -> (527,) posteriors."""
        return self.listen(samples)[0]

    def listen(self, samples: Samples) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """(n,) at 32 kHz -> (527,) posteriors and (384,) the vector that they are made of."""
        x = torch.from_numpy(np.pad(samples, (0, max(0, _SHORTEST - len(samples)))))
        x = x[1:] - 0.97 * x[:-1]
        spectrum = torch.stft(
            x, 1024, 320, 800, self._window, center=True, pad_mode="reflect", return_complex=True
        )  # (513, n_frames)
        power = torch.view_as_real(spectrum).square().sum(dim=-1)
        mel = ((self._banks @ power + 1e-5).log() + 4.5) / 5
        logits, features = self._session.run(["logits", "features"], {"spec": mel[None, None].numpy()})
        return np.asarray(1 / (1 + np.exp(-logits[0])), np.float32), np.asarray(features[0], np.float32)
