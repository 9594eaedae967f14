"""Model directories: what is written is read, by both sides, and what is wrong is refused in a line."""

from __future__ import annotations

import json
import os
import pickle
import random
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from streamer.errors import ModelError
from streamer.model import checkpoint
from streamer.model.ast import AST
from streamer.model.config import ASTConfig, FbankConfig
from tests.model.reference import SMALL, features, logits, reference, save


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A published model."""
    return save(reference(), tmp_path / "published")


def _ours(frame_head: bool) -> AST:
    torch.manual_seed(0)
    network = AST(ASTConfig(**SMALL, frame_head=frame_head)).eval()  # type: ignore[arg-type]  # mixed values
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0.0, 0.1)
    return network


@pytest.mark.parametrize("frame_head", [False, True])
def test_what_we_save_transformers_loads(tmp_path: Path, frame_head: bool) -> None:
    """A directory of ours is one of theirs: no key too few or too many, the same logits and features."""
    network, fbank = _ours(frame_head), FbankConfig(num_mel_bins=32, max_length=64, mean=-3.0, std=2.0)
    checkpoint.save(tmp_path / "model", network, fbank, dtype=torch.float32)

    theirs, notes = transformers.ASTForAudioClassification.from_pretrained(
        tmp_path / "model", output_loading_info=True
    )
    extractor = transformers.ASTFeatureExtractor.from_pretrained(tmp_path / "model")
    loaded = checkpoint.load(tmp_path / "model")

    assert not any(notes.values()), notes
    assert (extractor.mean, extractor.std, extractor.max_length) == (-3.0, 2.0, 64)
    assert theirs.config.id2label == network.config.id2label
    assert loaded.fbank == fbank
    assert loaded.labels == tuple(f"sound {i}" for i in range(5))
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[name], tensor), name
    x = features(theirs)
    with torch.no_grad():
        clip, frames = loaded.network(x)
        expected, expected_frames = network(x)
    # Not to the bit: on some CPUs the alignment of a tensor in memory changes the last digit (3e-8 was seen).
    torch.testing.assert_close(clip, expected, atol=1e-7, rtol=0)
    torch.testing.assert_close(frames, expected_frames, atol=1e-7, rtol=0) if frame_head else None
    torch.testing.assert_close(logits(theirs.eval(), x), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_weights_of_any_width(tmp_path: Path, dtype: torch.dtype) -> None:
    """Half-width weights are read as what they are and computed with in float32."""
    theirs = reference().to(dtype)
    loaded = checkpoint.load(save(theirs, tmp_path / "model"))

    theirs = theirs.float()
    x = features(theirs)
    with torch.no_grad():
        torch.testing.assert_close(loaded.network(x)[0], logits(theirs, x), atol=1e-5, rtol=0)


def test_shards(tmp_path: Path) -> None:
    """A model in several files is one model."""
    theirs = reference()
    directory = save(theirs, tmp_path / "model", max_shard_size="20KB")
    assert len(list(directory.glob("*.safetensors"))) > 2

    x = features(theirs)
    with torch.no_grad():
        assert (checkpoint.load(directory).network(x)[0] - logits(theirs, x)).abs().max() < 1e-5


def test_names_of_newer_transformers(tmp_path: Path) -> None:
    """The names that newer versions use in memory are known too, wherever a file has them."""
    theirs = reference()
    directory = save(theirs, tmp_path / "model")
    save_file(theirs.state_dict(), directory / "model.safetensors", {"format": "pt"})

    x = features(theirs)
    with torch.no_grad():
        assert (checkpoint.load(directory).network(x)[0] - logits(theirs, x)).abs().max() < 1e-5


def test_save_replaces_whole_directories(tmp_path: Path) -> None:
    """Saving over a model leaves nothing of the one before, and no half-written folder beside it."""
    checkpoint.save(tmp_path / "model", _ours(True), FbankConfig(num_mel_bins=32, max_length=64))
    checkpoint.save(tmp_path / "model", _ours(False), FbankConfig(num_mel_bins=32, max_length=64))

    assert not (tmp_path / "model" / "frame_head.safetensors").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_weights_that_do_not_fit_the_dtype_are_not_saved(tmp_path: Path) -> None:
    """A weight too large for float16 is an error, and nothing is written."""
    network = _ours(False)
    with torch.no_grad():
        network.head.bias[0] = 1e6

    with pytest.raises(ModelError, match=r"head\.bias"):
        checkpoint.save(tmp_path / "model", network, FbankConfig(num_mel_bins=32, max_length=64))
    assert not list(tmp_path.iterdir())


def _edit(name: str, change: Callable[[dict[str, object]], object]) -> Callable[[Path], None]:
    def damage(directory: Path) -> None:
        values = json.loads((directory / name).read_text())
        change(values)
        (directory / name).write_text(json.dumps(values))

    return damage


def _edit_weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def damage(directory: Path) -> None:
        weights = load_file(directory / "model.safetensors")
        change(weights)
        save_file(weights, directory / "model.safetensors")

    return damage


def _edit_header(**lies: object) -> Callable[[Path], None]:
    """Say something else of the first tensor."""

    def damage(directory: Path) -> None:
        path = directory / "model.safetensors"
        content = path.read_bytes()
        end = 8 + int.from_bytes(content[:8], "little")
        header = json.loads(content[8:end])
        next(value for key, value in header.items() if key != "__metadata__").update(lies)
        written = json.dumps(header).encode()
        path.write_bytes(len(written).to_bytes(8, "little") + written + content[end:])

    return damage


def _header_of(size: int) -> Callable[[Path], None]:
    def damage(directory: Path) -> None:
        path = directory / "model.safetensors"
        path.write_bytes(size.to_bytes(8, "little") + path.read_bytes()[8:])

    return damage


def _flip(name: str, seed: int) -> Callable[[Path], None]:
    """Change four bits in the first half of a file: of the weights that is the header."""

    def damage(directory: Path) -> None:
        content, rng = bytearray((directory / name).read_bytes()), random.Random(seed)
        size = int.from_bytes(content[:8], "little") if name.endswith(".safetensors") else len(content) // 2
        for _ in range(4):
            content[rng.randrange(size)] ^= 1 << rng.randrange(8)
        (directory / name).write_bytes(content)

    return damage


def _instead(name: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    def damage(directory: Path) -> None:
        (directory / name).unlink()
        make(directory / name)

    return damage


def _truncate(directory: Path) -> None:
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def _pickled(directory: Path) -> None:
    (directory / "model.safetensors").unlink()
    torch.save({"weight": torch.zeros(1)}, directory / "pytorch_model.bin")


def _pickle_in_disguise(directory: Path) -> None:
    (directory / "model.safetensors").write_bytes(pickle.dumps({"weight": 1}))


def _index_that_points_out(directory: Path) -> None:
    index = {"weight_map": {"classifier.dense.weight": "../elsewhere.safetensors"}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda d: (d / "config.json").unlink(), "config.json: no such file"),
    "no preprocessor": (
        lambda d: (d / "preprocessor_config.json").unlink(),
        "preprocessor_config.json: no such",
    ),
    "no weights": (lambda d: (d / "model.safetensors").unlink(), "model.safetensors: no such file"),
    "not JSON": (lambda d: (d / "config.json").write_text("{"), "config.json: is not JSON"),
    "not text": (lambda d: (d / "config.json").write_bytes(b"\xff\xfe\x00"), "config.json: is not JSON"),
    "no object": (lambda d: (d / "config.json").write_text("[]"), "no JSON object"),
    "another model": (
        _edit("config.json", lambda c: c.update(model_type="wav2vec2")),
        "model_type is 'wav2vec2'",
    ),
    "wrong type": (_edit("config.json", lambda c: c.update(hidden_size="big")), "config.json: hidden_size"),
    "zero": (_edit("config.json", lambda c: c.update(time_stride=0)), "time_stride is 0"),
    "heads": (_edit("config.json", lambda c: c.update(num_attention_heads=5)), "num_attention_heads 5"),
    "activation": (_edit("config.json", lambda c: c.update(hidden_act="prelu")), "hidden_act 'prelu'"),
    "patch too large": (_edit("config.json", lambda c: c.update(patch_size=40)), "patch of 40"),
    "holes in labels": (_edit("config.json", lambda c: c.update(id2label={"0": "a", "2": "b"})), "id2label"),
    "lengths differ": (
        _edit("preprocessor_config.json", lambda c: c.update(max_length=65)),
        "max_length is 65 in preprocessor_config.json but 64 in config.json",
    ),
    "label count": (
        _edit("config.json", lambda c: c.update(id2label={str(i): str(i) for i in range(4)})),
        "5 outputs but config.json names 4 labels",
    ),
    "layers missing": (
        _edit("config.json", lambda c: c.update(num_hidden_layers=3)),
        "12 weights are missing",
    ),
    "layers by the billion": (
        _edit("config.json", lambda c: c.update(num_hidden_layers=10**9)),
        "cannot make",
    ),
    "wrong shape": (_edit("config.json", lambda c: c.update(intermediate_size=50)), "do not fit config.json"),
    "huge": (_edit("config.json", lambda c: c.update(hidden_size=2**30)), "do not fit config.json"),
    "missing weight": (
        _edit_weights(lambda w: w.pop("audio_spectrogram_transformer.layernorm.bias")),
        "1 weights are missing: norm.bias",
    ),
    "missing key": (
        _edit_weights(
            lambda w: w.pop("audio_spectrogram_transformer.encoder.layer.1.attention.attention.key.weight")
        ),
        "encoder.layer.1.attention.attention.key.weight",
    ),
    "unknown weight": (_edit_weights(lambda w: w.update(extra=torch.zeros(1))), "not known: extra"),
    "NaN": (
        _edit_weights(lambda w: w["classifier.dense.bias"].__setitem__(0, float("nan"))),
        "1 weights are not finite: head.bias",
    ),
    "truncated": (_truncate, "model.safetensors: is truncated"),
    "empty": (lambda d: (d / "model.safetensors").write_bytes(b""), "is truncated or no safetensors"),
    "noise": (
        lambda d: (d / "model.safetensors").write_bytes(np.random.default_rng(0).bytes(1000)),
        "is truncated or no safetensors",
    ),
    "pickle": (_pickled, "the weights are a pickle"),
    "pickle in disguise": (_pickle_in_disguise, "is a pickle"),
    "index that points out": (_index_that_points_out, "must lie beside it"),
    **{
        f"a header of {size} bytes": (_header_of(size), "is truncated or no safetensors")
        for size in (0, 10, 10**9, 2**64 - 1)
    },
    **{
        f"a tensor of {lie}": (_edit_header(**lie), "is truncated or no safetensors")
        for lie in (
            {"dtype": "X99"},
            {"dtype": "I64"},
            {"shape": None},
            {"shape": [-1]},
            {"shape": [2**40, 2**40]},
            {"data_offsets": [0, 4]},
            {"data_offsets": [100, 0]},
            {"data_offsets": [0, 10**12]},
        )
    },
    "a web page": (
        lambda d: (d / "model.safetensors").write_text("<html>404</html>"),
        "is truncated or no safetensors",
    ),
    "a pointer to it": (
        lambda d: (d / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n"),
        "is truncated or no safetensors",
    ),
    "a directory": (_instead("model.safetensors", Path.mkdir), "cannot be read: Is a directory"),
    "a dangling link": (
        _instead("model.safetensors", lambda path: path.symlink_to("nowhere")),
        "model.safetensors: no such file",
    ),
    "a link to itself": (
        _instead("model.safetensors", lambda path: path.symlink_to(path.name)),
        "cannot be read: Too many levels of symbolic links",
    ),
    "infinity": (
        _edit_weights(lambda w: w["classifier.dense.bias"].__setitem__(0, float("inf"))),
        "1 weights are not finite: head.bias",
    ),
    "no size": (_edit("config.json", lambda c: c.update(hidden_size=None)), "config.json: hidden_size"),
    "no number": (
        _edit("config.json", lambda c: c.update(hidden_size=float("nan"))),
        "config.json: hidden_size",
    ),
    "too many digits": (
        lambda d: (d / "config.json").write_text('{"hidden_size": ' + "9" * 5000 + "}"),
        "config.json: is not JSON",
    ),
    "labels that are numbers": (
        _edit("config.json", lambda c: c.update(id2label={str(i): i for i in range(5)})),
        "config.json: id2label",
    ),
    "labels by name": (
        _edit("config.json", lambda c: c.update(id2label={name: name for name in "abcde"})),
        "config.json: id2label",
    ),
    "an index of nothing": (
        lambda d: (d / "model.safetensors.index.json").write_text('{"weight_map": []}'),
        "has no weight_map",
    ),
    "an index of what is not there": (
        lambda d: (d / "model.safetensors.index.json").write_text('{"weight_map": {"a": "b.safetensors"}}'),
        "b.safetensors: no such file",
    ),
    "a pipe": (_instead("model.safetensors", os.mkfifo), "model.safetensors: is a pipe, not a file"),
    "settings from a pipe": (_instead("config.json", os.mkfifo), "config.json: is a pipe, not a file"),
    "nested without end": (
        lambda d: (d / "config.json").write_text('{"a": ' + "[" * 100_000),
        "config.json: is not JSON",
    ),
    "more dropped than there is": (
        _edit("config.json", lambda c: c.update(hidden_dropout_prob=2)),
        "hidden_dropout_prob is 2.0; it must lie between 0 and 1",
    ),
    "a norm of nothing": (
        _edit("config.json", lambda c: c.update(layer_norm_eps=float("nan"))),
        "layer_norm_eps",
    ),
    "no deviation": (
        _edit("preprocessor_config.json", lambda c: c.update(std=0)),
        "mean -4.2677393 and std 0.0 cannot normalise anything",
    ),
    "an infinite mean": (
        _edit("preprocessor_config.json", lambda c: c.update(mean=float("inf"))),
        "preprocessor_config.json: mean",
    ),
    "whole numbers": (
        _edit_weights(
            lambda w: w.update({"classifier.dense.bias": torch.ones_like(w["classifier.dense.bias"]).long()})
        ),
        "1 weights are of a kind that is not known: head.bias is I64",
    ),
    "eight bits": (
        _edit_weights(
            lambda w: w.update({"classifier.dense.bias": w["classifier.dense.bias"].to(torch.float8_e4m3fn)})
        ),
        "head.bias is F8_E4M3",
    ),
    "no frame head": (
        _edit("config.json", lambda c: c.update(frame_head=True)),
        "frame_head.safetensors: no such",
    ),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES.keys())
def test_damage_is_one_clear_line(directory: Path, damage: Callable[[Path], object], message: str) -> None:
    """Whatever is wrong with a directory, one line names the file and the cause."""
    damage(directory)

    with pytest.raises(ModelError, match=re.escape(message)) as caught:
        checkpoint.load(directory)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("seed", range(10))
def test_flipped_bits_are_one_clear_line(directory: Path, name: str, seed: int) -> None:
    """A disk that changes a few bits makes no crash; a letter in the name of a label is all that may pass."""
    _flip(name, seed)(directory)

    try:
        loaded = checkpoint.load(directory)
    except ModelError as error:
        assert str(error).startswith(str(directory))
        assert "\n" not in str(error)
    else:
        assert len(loaded.labels) == 5


def test_no_directory(tmp_path: Path) -> None:
    """A directory that is not there is named."""
    with pytest.raises(ModelError, match="no such model directory"):
        checkpoint.load(tmp_path / "nowhere")


@pytest.mark.parametrize("position", ["cut", "interpolate"])
def test_shorter_windows(tmp_path: Path, position: str) -> None:
    """The positional embedding is cut from the middle, or interpolated, as the authors do."""
    theirs = reference(max_length=200)  # windows of 2 s, 2 rows of 19 time steps
    loaded = checkpoint.load(save(theirs, tmp_path / "model"))

    short = checkpoint.shorten(loaded, 1.0, position)  # type: ignore[arg-type]  # parametrised text

    # 98 frames: ten steps of stride 10 reach to 106.
    assert (short.fbank.max_length, short.fbank.window_s, short.network.config.grid) == (106, 1.0, (2, 10))
    before = theirs.audio_spectrogram_transformer.embeddings.position_embeddings.detach()
    grid = before[:, 2:].reshape(1, 38, 32).transpose(1, 2).reshape(1, 32, 2, 19)
    if position == "cut":
        grid = grid[:, :, :, 19 // 2 - 10 // 2 : 19 // 2 - 10 // 2 + 10]
    else:
        grid = torch.nn.functional.interpolate(grid, size=(2, 10), mode="bilinear")
    expected = torch.cat((before[:, :2], grid.reshape(1, 32, 20).transpose(1, 2)), dim=1)
    torch.testing.assert_close(short.network.position, expected)


def test_the_own_window_changes_nothing(tmp_path: Path) -> None:
    """Asking for the window that the model was made for leaves it as published, padding and all."""
    loaded = checkpoint.load(save(reference(max_length=128), tmp_path / "model"))

    assert checkpoint.shorten(loaded, 1.0, "cut") is loaded


@pytest.mark.parametrize(("window_s", "message"), [(3.0, "made for 1 s"), (0.05, "shorter than a patch")])
def test_windows_that_cannot_be(tmp_path: Path, window_s: float, message: str) -> None:
    """Longer windows than the model was made for, and those too short for a patch, are refused."""
    loaded = checkpoint.load(save(reference(max_length=128), tmp_path / "model"))

    with pytest.raises(ModelError, match=message):
        checkpoint.shorten(loaded, window_s, "cut")
