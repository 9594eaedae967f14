"""The network against `transformers`, field by field."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from streamer.model import checkpoint
from streamer.model.ast import ACTIVATIONS, AST
from streamer.model.config import ASTConfig
from tests.model.reference import features, logits, reference, save

TOLERANCE = 1e-4
"""absolute, of float32 logits"""

FIELDS: dict[str, dict[str, Any]] = {
    "hidden_size": {"hidden_size": 64},
    "num_hidden_layers": {"num_hidden_layers": 5},
    "one layer": {"num_hidden_layers": 1},
    "num_attention_heads": {"num_attention_heads": 8},
    "one head": {"num_attention_heads": 1},
    "head width that is no power of two": {"hidden_size": 36, "num_attention_heads": 3},
    "intermediate_size": {"intermediate_size": 20},
    "layer_norm_eps": {"layer_norm_eps": 0.1},
    "no qkv_bias": {"qkv_bias": False},
    "patch_size": {"patch_size": 8},
    "odd patch_size": {"patch_size": 5},
    "frequency_stride": {"frequency_stride": 16},
    "time_stride": {"time_stride": 7},
    "strides beyond the patch": {"frequency_stride": 20, "time_stride": 24},
    "max_length": {"max_length": 101},
    "num_mel_bins": {"num_mel_bins": 80},
    "one label": {"id2label": {0: "it"}},
    "dropout, which only training has": {"hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.3},
    "initializer_range": {"initializer_range": 0.5},
    "Speech Commands": {
        "max_length": 128,
        "num_mel_bins": 128,
        "id2label": {i: str(i) for i in range(35)},
    },
    "tiny": {
        "hidden_size": 192,
        "num_hidden_layers": 6,
        "num_attention_heads": 3,
        "intermediate_size": 768,
        "frequency_stride": 16,
        "time_stride": 16,
        "max_length": 1024,
        "num_mel_bins": 128,
        "id2label": {i: str(i) for i in range(527)},
    },
}


def _differs(tmp_path: Path, **fields: Any) -> float:
    theirs = reference(**fields)
    network = checkpoint.load(save(theirs, tmp_path / "model")).network
    x = features(theirs)
    with torch.no_grad():
        return float((network(x)[0] - logits(theirs, x)).abs().max())


@pytest.mark.parametrize("fields", FIELDS.values(), ids=FIELDS.keys())
def test_field(tmp_path: Path, fields: dict[str, Any]) -> None:
    """Every field of the configuration means what it means to `transformers`."""
    assert _differs(tmp_path, **fields) < TOLERANCE


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation(tmp_path: Path, activation: str) -> None:
    """Every activation by its published name."""
    assert _differs(tmp_path, hidden_act=activation) < TOLERANCE


@pytest.mark.slow
def test_base(tmp_path: Path) -> None:
    """The published size: 86.6 million weights, 527 labels."""
    fields: dict[str, Any] = {
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "max_length": 1024,
        "num_mel_bins": 128,
        "id2label": {i: str(i) for i in range(527)},
    }
    torch.manual_seed(0)
    theirs = reference(**fields)
    with (
        torch.no_grad()
    ):  # deep and wide: at the published scale of weights, logits are of the published size
        for parameter in theirs.parameters():
            parameter.mul_(0.2) if parameter.ndim > 1 else parameter
    network = checkpoint.load(save(theirs, tmp_path / "model")).network
    x = features(theirs, batch=1)

    assert 86.5e6 < sum(p.numel() for p in network.parameters()) < 86.7e6
    with torch.no_grad():
        assert (network(x)[0] - logits(theirs, x)).abs().max() < TOLERANCE


def test_defaults_are_the_published_ones() -> None:
    """A field that a `config.json` leaves out is what it is to `transformers`."""
    ours, theirs = ASTConfig(), transformers.ASTConfig()
    for name in ASTConfig.__dataclass_fields__:
        if name != "frame_head":
            assert getattr(ours, name) == getattr(theirs, name), name


def _with_frame_head() -> AST:
    torch.manual_seed(0)
    config = ASTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_length=64,
        num_mel_bins=32,
        frame_head=True,
    )
    network = AST(config).eval()
    network.start_from_scratch()
    return network


def test_frame_head_leaves_the_window_alone() -> None:
    """The scores of a window are the same with and without a frame head."""
    network = _with_frame_head()
    plain = AST(replace(network.config, frame_head=False)).eval()
    plain.load_state_dict({k: v for k, v in network.state_dict().items() if not k.startswith("frame_head.")})
    x = torch.randn(2, 64, 32)

    with torch.no_grad():
        clip, frames = network(x)
        expected, none = plain(x)
    assert none is None
    assert frames.shape == (2, network.config.grid[1], 2)
    torch.testing.assert_close(clip, expected, atol=1e-6, rtol=0)


def test_dropping_no_patch_changes_nothing() -> None:
    """In training, keeping all patches is the same as not choosing."""
    network = _with_frame_head()
    f, t = network.config.grid
    keep = torch.arange(f)[None, :, None].expand(2, f, t)
    x = torch.randn(2, 64, 32)

    with torch.no_grad():
        chosen = network.classify(network.tokens(x, keep), t)
        for kept, all_of_them in zip(chosen, network(x), strict=True):
            torch.testing.assert_close(kept, all_of_them, atol=1e-6, rtol=0)
