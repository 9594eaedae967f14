"""Small models with random weights in directories, and windows for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from streamer.model import checkpoint
from streamer.model.ast import AST
from streamer.model.config import ASTConfig, FbankConfig
from streamer.types import Window

RATE = 16000


def directory(path: Path, dtype: torch.dtype = torch.float32, **fields: object) -> Path:
    """A model for windows of 1 s, with a frame head unless told otherwise."""
    values: dict[str, object] = {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 96,
        "frequency_stride": 16,
        "time_stride": 16,
        "max_length": 128,
        "id2label": {i: f"sound {i}" for i in range(7)},
        "frame_head": True,
    }
    torch.manual_seed(0)
    network = AST(ASTConfig(**{**values, **fields}))  # type: ignore[arg-type]  # mixed values
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0.0, 0.1)
    checkpoint.save(path, network, FbankConfig(max_length=network.config.max_length), dtype=dtype)
    return path


def window(
    index: int = 0, seconds: float = 1.0, sample_rate: int = RATE, source_id: str = "kitchen"
) -> Window:
    """Noise and a tone of its own."""
    n_samples = round(seconds * sample_rate)
    t = np.arange(n_samples) / sample_rate
    noise = np.random.default_rng(index).standard_normal(n_samples)
    samples = (0.05 * noise + 0.2 * np.sin(2 * np.pi * (300 + 200 * index) * t)).astype(np.float32)
    return Window(source_id, index, samples, sample_rate, 1000.0, 1000.0 + seconds)
