"""Models of `transformers` with random weights, and directories of them."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers
from torch import Tensor

SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "num_mel_bins": 32,
    "max_length": 64,
    "id2label": {i: f"sound {i}" for i in range(5)},
}
"""a whole AST, in miniature"""


def reference(seed: int = 0, **fields: object) -> transformers.ASTForAudioClassification:
    """Theirs, in eval mode; also what they start at zero is random, so that all of it matters."""
    torch.manual_seed(seed)
    model = transformers.ASTForAudioClassification(transformers.ASTConfig(**{**SMALL, **fields})).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if "layernorm" in name and "weight" in name else 0.0, 0.1)
    return model


def save(model: transformers.ASTForAudioClassification, directory: Path, **options: object) -> Path:
    """As a published model comes: by their own `save_pretrained`."""
    model.save_pretrained(directory, **options)
    config = model.config
    transformers.ASTFeatureExtractor(
        max_length=config.max_length, num_mel_bins=config.num_mel_bins
    ).save_pretrained(directory)
    return directory


@torch.no_grad()
def logits(model: transformers.ASTForAudioClassification, x: Tensor) -> Tensor:
    return model(x).logits


def features(model: transformers.ASTForAudioClassification, batch: int = 2) -> Tensor:
    """(B, T, M) of noise, as large as normalised log-mel energies are."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, model.config.max_length, model.config.num_mel_bins, generator=generator)
