"""Checkpoints of the authors' code: keys and shapes as they are published, arithmetic as they wrote it."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor

from streamer.errors import ModelError
from streamer.model import checkpoint, manifest
from streamer.model.convert import convert
from streamer.model.labels import AUDIOSET, ESC50, SPEECH_COMMANDS

pytestmark = pytest.mark.slow

Weights = dict[str, Tensor]


def authors_weights(
    n_labels: int = 527, n_patches: int = 1212, hidden: int = 64, depth: int = 2, prefix: str = "module."
) -> Weights:
    """What `torch.save(audio_model.state_dict())` wrote: a DeiT, its two unused heads, and AST's own."""
    generator = torch.Generator().manual_seed(n_labels)

    def random(*shape: int) -> Tensor:
        return 0.1 * torch.randn(*shape, generator=generator)

    weights = {
        "v.cls_token": random(1, 1, hidden),
        "v.dist_token": random(1, 1, hidden),
        "v.pos_embed": random(1, n_patches + 2, hidden),
        "v.patch_embed.proj.weight": random(hidden, 1, 16, 16),
        "v.patch_embed.proj.bias": random(hidden),
    }
    for i in range(depth):
        block = f"v.blocks.{i}."
        weights |= {
            f"{block}norm1.weight": 1 + random(hidden),
            f"{block}norm1.bias": random(hidden),
            f"{block}attn.qkv.weight": random(3 * hidden, hidden),
            f"{block}attn.qkv.bias": random(3 * hidden),
            f"{block}attn.proj.weight": random(hidden, hidden),
            f"{block}attn.proj.bias": random(hidden),
            f"{block}norm2.weight": 1 + random(hidden),
            f"{block}norm2.bias": random(hidden),
            f"{block}mlp.fc1.weight": random(4 * hidden, hidden),
            f"{block}mlp.fc1.bias": random(4 * hidden),
            f"{block}mlp.fc2.weight": random(hidden, 4 * hidden),
            f"{block}mlp.fc2.bias": random(hidden),
        }
    weights |= {
        "v.norm.weight": 1 + random(hidden),
        "v.norm.bias": random(hidden),
        "v.head.weight": random(1000, hidden),
        "v.head.bias": random(1000),
        "v.head_dist.weight": random(1000, hidden),
        "v.head_dist.bias": random(1000),
        "mlp_head.0.weight": 1 + random(hidden),
        "mlp_head.0.bias": random(hidden),
        "mlp_head.1.weight": random(n_labels, hidden),
        "mlp_head.1.bias": random(n_labels),
    }
    return {prefix + name: tensor for name, tensor in weights.items()}


def authors_logits(weights: Weights, x: Tensor, stride: int) -> Tensor:
    """The authors' forward pass over timm's blocks, by the paper: (B, T, M) -> (B, N)."""
    w = {name.removeprefix("module."): tensor for name, tensor in weights.items()}
    hidden = w["v.cls_token"].shape[-1]

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(x: Tensor, name: str, eps: float = 1e-6) -> Tensor:
        return F.layer_norm(x, (hidden,), w[f"{name}.weight"], w[f"{name}.bias"], eps)

    image = x.unsqueeze(1).transpose(2, 3)
    x = F.conv2d(image, w["v.patch_embed.proj.weight"], w["v.patch_embed.proj.bias"], stride=stride)
    x = x.flatten(2).transpose(1, 2)
    heads = torch.cat((w["v.cls_token"], w["v.dist_token"]), dim=1).expand(len(x), -1, -1)
    x = torch.cat((heads, x), dim=1) + w["v.pos_embed"]
    i = 0
    while f"v.blocks.{i}.norm1.weight" in w:
        block = f"v.blocks.{i}"
        qkv = linear(norm(x, f"{block}.norm1"), f"{block}.attn.qkv").unflatten(-1, (3, hidden // 64, 64))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        attention = (q @ k.transpose(-2, -1) * 64**-0.5).softmax(dim=-1)
        x = x + linear((attention @ v).transpose(1, 2).flatten(2), f"{block}.attn.proj")
        x = x + linear(F.gelu(linear(norm(x, f"{block}.norm2"), f"{block}.mlp.fc1")), f"{block}.mlp.fc2")
        i += 1
    x = norm(x, "v.norm")
    return linear(norm((x[:, 0] + x[:, 1]) / 2, "mlp_head.0", eps=1e-5), "mlp_head.1")


def _saved(tmp_path: Path, weights: Any) -> Path:
    path = tmp_path / "audioset_10_10_0.4593.pth"
    torch.save(weights, path)
    return path


@pytest.mark.parametrize(
    ("n_labels", "n_patches", "stride", "max_length", "labels", "mean"),
    [
        (527, 1212, 10, 1024, AUDIOSET, -4.2677393),
        (527, 850, 12, 1024, AUDIOSET, -4.2677393),
        (527, 657, 14, 1024, AUDIOSET, -4.2677393),
        (527, 512, 16, 1024, AUDIOSET, -4.2677393),
        (35, 144, 10, 128, SPEECH_COMMANDS, -6.845978),
        (50, 600, 10, 512, ESC50, -6.6268077),
    ],
    ids=["10-10", "12-12", "14-14", "16-16", "Speech Commands", "ESC-50"],
)
def test_published_recipes(
    tmp_path: Path,
    n_labels: int,
    n_patches: int,
    stride: int,
    max_length: int,
    labels: tuple[str, ...],
    mean: float,
) -> None:
    """Each published checkpoint becomes a directory with the authors' logits, here and in `transformers`."""
    weights = authors_weights(n_labels, n_patches, hidden=128)

    convert(_saved(tmp_path, weights), tmp_path / "model")

    loaded = checkpoint.load(tmp_path / "model")
    theirs, notes = transformers.ASTForAudioClassification.from_pretrained(
        tmp_path / "model", output_loading_info=True
    )
    assert not any(notes.values()), notes
    assert loaded.labels == labels
    assert (loaded.fbank.mean, loaded.fbank.max_length) == (mean, max_length)
    assert loaded.network.config.time_stride == stride
    x = torch.randn(2, max_length, 128, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = authors_logits(weights, x, stride)
        torch.testing.assert_close(loaded.network(x)[0], expected, atol=1e-4, rtol=0)
        torch.testing.assert_close(theirs.eval()(x).logits, expected, atol=1e-4, rtol=0)


def test_the_published_shapes(tmp_path: Path) -> None:
    """A checkpoint of the published size has exactly the weights that AST-base has."""
    weights = authors_weights(hidden=768, depth=12)

    convert(_saved(tmp_path, weights), tmp_path / "model")

    network = checkpoint.load(tmp_path / "model").network
    assert sum(p.numel() for p in network.parameters()) == 86_594_063
    assert network.config.num_attention_heads == 12
    assert manifest.check(tmp_path / "model") == 3


def test_own_labels_and_shapes(tmp_path: Path) -> None:
    """A fine-tuned checkpoint says neither its labels nor its length; they are given."""
    labels = tmp_path / "labels.txt"
    labels.write_text("door\nwindow\nroof\n")
    source = _saved(tmp_path, authors_weights(3, 600, prefix=""))

    convert(source, tmp_path / "model", labels=labels, stride=10, max_length=512)

    assert checkpoint.load(tmp_path / "model").labels == ("door", "window", "roof")


class _Code:
    """What a hostile pickle holds: something to run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("ran"),))


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint that holds more than weights is refused, and nothing of it is run."""
    monkeypatch.chdir(tmp_path)
    source = _saved(tmp_path, {"module.v.cls_token": _Code()})

    with pytest.raises(ModelError, match="holds more than weights") as caught:
        convert(source, tmp_path / "model")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "model").exists()


def _without(name: str) -> Weights:
    weights = authors_weights()
    del weights[name]
    return weights


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1, 2], "something else than named weights"),
        ({"module.fc.weight": torch.zeros(1)}, "not a checkpoint of the authors' code"),
        ({**authors_weights(), "module.v.extra.weight": torch.zeros(1)}, "not known: v.extra.weight"),
        (_without("module.v.pos_embed"), "weights are missing: position"),
        (_without("module.v.blocks.1.mlp.fc2.bias"), "weights are missing: blocks.1.down.bias"),
        (authors_weights(n_labels=4), "has 4 outputs, which is no known set; give --labels"),
        (authors_weights(n_patches=100), "100 patches fit these strides and lengths: none"),
    ],
    ids=["a list", "another network", "unknown", "missing", "missing in a block", "labels", "patches"],
)
def test_what_cannot_be_converted(tmp_path: Path, weights: Any, message: str) -> None:
    """What is no checkpoint of theirs, or does not say enough, is refused with what to do."""
    with pytest.raises(ModelError, match=message):
        convert(_saved(tmp_path, weights), tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 and so on", pickle.dumps(1, protocol=2)[:-1], b"\x00" * 100]
)
def test_damaged_files(tmp_path: Path, content: bytes) -> None:
    """A truncated file is one clear line."""
    source = tmp_path / "broken.pth"
    source.write_bytes(content)

    with pytest.raises(ModelError, match=r"broken\.pth: ") as caught:
        convert(source, tmp_path / "model")
    assert "\n" not in str(caught.value)


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    """A directory that exists is left as it is."""
    (tmp_path / "model").mkdir()

    with pytest.raises(ModelError, match="is there already"):
        convert(_saved(tmp_path, authors_weights()), tmp_path / "model")


def test_no_such_file(tmp_path: Path) -> None:
    """A file that is not there is named."""
    with pytest.raises(ModelError, match="no such file"):
        convert(tmp_path / "nothing.pth", tmp_path / "model")
