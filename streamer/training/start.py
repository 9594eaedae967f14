"""The network that a training starts from: a model made to fit its window and labels, or random weights."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import nn

from streamer.errors import ConfigError
from streamer.model import checkpoint, hub
from streamer.model.ast import AST
from streamer.model.checkpoint import Loaded
from streamer.model.config import ASTConfig, FbankConfig
from streamer.training.settings import FinetuneSettings


def starting_model(settings: FinetuneSettings) -> Loaded:
    """The model of the recipe, or one with random weights and labels still to be named. Raises ModelError."""
    if settings.model is not None:
        return checkpoint.load(hub.resolve(settings.model))
    assert settings.architecture is not None  # noqa: S101  # the schema: one of the two is there
    max_length = settings.max_length or ASTConfig.max_length
    try:
        config = ASTConfig(**settings.architecture.model_dump(), max_length=max_length)
    except ValueError as error:
        raise ConfigError(f"architecture: {error}") from None
    torch.manual_seed(settings.seed)
    network = AST(config)
    network.start_from_scratch()
    fbank = FbankConfig(num_mel_bins=config.num_mel_bins, max_length=max_length)
    return Loaded("random weights", network, fbank)


def fit(loaded: Loaded, labels: list[str], max_length: int | None, seed: int) -> Loaded:
    """The model with these labels and this many frames, ready to train.

    Other labels get a new head; another length gets positions that are cut or interpolated. A frame head,
    which clips without times cannot train, is left out.
    """
    old = loaded.network.config
    length = max_length or old.max_length
    config = replace(old, id2label=dict(enumerate(labels)), max_length=length, frame_head=False)
    weights = loaded.network.state_dict()
    weights = {name: tensor for name, tensor in weights.items() if not name.startswith("frame_head.")}
    weights["position"] = checkpoint.fit_positions(weights["position"], old.grid, config.grid)
    if config.labels != old.labels:
        torch.manual_seed(seed)
        norm, head = nn.LayerNorm(config.hidden_size), nn.Linear(config.hidden_size, len(labels))
        nn.init.normal_(head.weight, std=config.initializer_range)
        prior = 1 / max(2, len(labels))
        nn.init.constant_(head.bias, math.log(prior / (1 - prior)))
        for name, module in (("head_norm", norm), ("head", head)):
            weights |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
    network = checkpoint.build(config, weights, loaded.name).requires_grad_(True)
    return Loaded(loaded.name, network, replace(loaded.fbank, max_length=length))
