"""Learning rates, and the weights that a training begins and ends with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from streamer.model.ast import AST
from streamer.model.checkpoint import fit_positions
from streamer.model.config import ASTConfig
from streamer.training.optimize import Average, optimizer, rate
from streamer.training.settings import FinetuneSettings, ScheduleSettings
from tests.training.sounds import recipe

TINY = ASTConfig(
    hidden_size=8,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=8,
    max_length=32,
    num_mel_bins=32,
)


def settings(**changes: object) -> FinetuneSettings:
    return FinetuneSettings.model_validate(recipe(Path("run"), Path("clips")) | changes)


def test_warm_up_then_cosine_then_zero() -> None:
    """The rate climbs in a line, falls in a half cosine, and ends near 0."""
    schedule = ScheduleSettings(kind="cosine", warm_up=10)
    rates = [rate(step, 50, 2, schedule) for step in range(100)]
    assert rates[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert rates[55] == pytest.approx(0.5)
    assert rates[-1] < 0.001
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_steps_fall_as_published() -> None:
    """ESC-50's recipe: 0.85 after each epoch from the fifth on."""
    schedule = ScheduleSettings(kind="step", first=5, every=1, factor=0.85)
    rates = [rate(epoch * 7, 7, 25, schedule) for epoch in range(8)]
    assert rates == pytest.approx([1, 1, 1, 1, 1, 0.85, 0.85**2, 0.85**3])


def test_deeper_layers_learn_more_slowly() -> None:
    """Each layer's rate is that of the layer above times the decay; biases and positions do not decay."""
    network = AST(TINY)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    groups = optimizer(network, settings(lr=0.1, layer_decay=0.5, weight_decay=0.3)).param_groups
    found = {
        names[id(p)]: (group["base_lr"], group["weight_decay"]) for group in groups for p in group["params"]
    }
    assert len(found) == len(names)
    assert found["head.weight"] == (0.1, 0.3)
    assert found["blocks.1.up.bias"] == (pytest.approx(0.05), 0.0)
    assert found["blocks.0.up.weight"] == (pytest.approx(0.025), 0.3)
    assert found["position"] == (pytest.approx(0.0125), 0.0)


def test_averages_are_means_of_weights() -> None:
    """Over epochs it is the plain mean from the first that counts; over steps the late ones weigh more."""
    network = AST(TINY)
    epochs, ema = Average(settings(average="epochs", average_from=2)), Average(settings(average="ema"))
    for epoch in range(1, 5):
        torch.nn.init.constant_(network.head.bias, float(epoch))
        epochs.epoch(network, epoch)
        ema.step(network)
    torch.testing.assert_close(epochs.weights["head.bias"], torch.full((2,), 3.0))
    assert 2.5 < ema.weights["head.bias"][0] < 4


@pytest.mark.parametrize("t", [25, 101, 140])
def test_positions_are_fitted_as_the_authors_do(t: int) -> None:
    """Fewer time steps: the middle of the published ones. More: bilinear between them."""
    position = torch.randn(1, 12 * 101 + 2, 8)
    grid = position[:, 2:].transpose(1, 2).reshape(1, 8, 12, 101)
    if t <= 101:
        grid = grid[:, :, :, 50 - t // 2 : 50 - t // 2 + t]
    else:
        grid = F.interpolate(grid, size=(12, t), mode="bilinear")
    expected = torch.cat((position[:, :2], grid.reshape(1, 8, 12 * t).transpose(1, 2)), dim=1)
    torch.testing.assert_close(fit_positions(position, (12, 101), (12, t)), expected)
