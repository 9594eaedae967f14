"""How weights move: groups with their rates, the schedule, the mean of weights."""

from __future__ import annotations

import math
from collections import defaultdict

import torch
from torch import Tensor, nn

from streamer.model.ast import AST
from streamer.training.settings import FinetuneSettings, ScheduleSettings


def optimizer(network: AST, settings: FinetuneSettings) -> torch.optim.AdamW:
    """AdamW whose rate falls from layer to layer; biases, norms, tokens and positions do not decay.

    Each group keeps the rate that the schedule multiplies as `base_lr`.
    """
    top = network.config.num_hidden_layers + 1
    groups: dict[tuple[int, bool], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in network.named_parameters():
        groups[_layer(name, top), parameter.ndim == 2].append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "base_lr": settings.lr * settings.layer_decay ** (top - layer),
                "weight_decay": settings.weight_decay if is_matrix else 0.0,
            }
            for (layer, is_matrix), parameters in groups.items()
        ],
        lr=settings.lr,
        betas=(settings.betas[0], settings.betas[1]),
    )


def _layer(name: str, top: int) -> int:
    """0 for what makes tokens, 1 … for the blocks, `top` for the head and the norms before it."""
    if name.startswith("blocks."):
        return int(name.split(".")[1]) + 1
    return top if name.startswith(("norm", "head")) else 0


def rate(step: int, steps_an_epoch: int, epochs: int, schedule: ScheduleSettings) -> float:
    """What the learning rate is multiplied with at an optimizer step, counted from 0."""
    if step < schedule.warm_up:
        return (step + 1) / schedule.warm_up
    if schedule.kind == "constant":
        return 1.0
    if schedule.kind == "cosine":
        left = max(1, steps_an_epoch * epochs - schedule.warm_up)
        return 0.5 + 0.5 * math.cos(math.pi * min(1.0, (step - schedule.warm_up) / left))
    epoch = step // steps_an_epoch
    falls = (epoch - schedule.first) // schedule.every + 1 if epoch >= schedule.first else 0
    return schedule.factor**falls


class Average:
    """The mean of weights: over steps, the late ones most (`ema`), over epochs (`epochs`), or none."""

    def __init__(self, settings: FinetuneSettings) -> None:
        self._kind, self._decay, self._from = settings.average, settings.ema_decay, settings.average_from
        self.n = 0
        self.weights: dict[str, Tensor] = {}

    def step(self, network: AST) -> None:
        """After each optimizer step."""
        if self._kind == "ema":
            # A short run would else be a mean of its random start.
            self._move(network, 1 - min(self._decay, (1 + self.n) / (10 + self.n)))

    def epoch(self, network: AST, epoch: int) -> None:
        """After each epoch, counted from 1."""
        if self._kind == "epochs" and epoch >= self._from:
            self._move(network, 1 / (self.n + 1))

    def _move(self, network: AST, share: float) -> None:
        if not self.n:
            self.weights = {name: p.detach().clone() for name, p in network.state_dict().items()}
        for name, parameter in network.state_dict().items():
            self.weights[name].lerp_(parameter, share)
        self.n += 1
