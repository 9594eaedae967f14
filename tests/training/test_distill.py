"""The training of the shipped model: from mixed windows to a model directory, in seconds instead of hours."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp

from streamer.errors import InputError
from streamer.model import checkpoint
from streamer.model.ast import AST
from streamer.model.labels import AUDIOSET
from streamer.training.distill import SILENCE, _Meeting, _Trainer, augment, distill, model_config
from streamer.training.pool import Pool, make_pool
from streamer.training.progress import Nobody
from streamer.training.settings import DistillSettings, load_recipe

pytestmark = pytest.mark.slow

SIREN = AUDIOSET.index("Siren")
STEPS, STEP_S = 64, 0.16


def write_shard(pool: Path, name: str, n: int = 12) -> None:
    """Windows of noise; in every second one something loud from 3.2 to 6.4 s, which is a siren."""
    rng = np.random.default_rng(0)
    features = rng.normal(-8, 1, (n, 998, 128)).astype(np.float16)
    features[::2, 320:640, 40:60] += 8
    target = np.zeros(len(AUDIOSET), np.float16)
    target[SIREN] = 0.95
    folder = pool / name
    folder.mkdir(parents=True)
    np.save(folder / "features.npy", features)
    np.save(folder / "window.npy", np.arange(0, n, 2, dtype=np.int32))
    np.save(folder / "times.npy", np.tile(np.float32([3.2, 6.4]), (n // 2, 1)))
    np.save(folder / "targets.npy", np.tile(target, (n // 2, 1)))


def write_indices(data: Path) -> None:
    """What names the clips, for the credits."""
    (data / "esc50-free").mkdir(parents=True)
    (data / "more-free").mkdir()
    (data / "esc50-free" / "labels.csv").write_text(
        "file,fold,clip_licence,author,title\n1-a.opus,1,CC0-1.0,Ann,barks\n4-b.opus,4,CC0-1.0,Bob,unused\n"
    )
    (data / "more-free" / "index.csv").write_text(
        "file,licence,author,link,source_repo,source_path\naudio/c.opus,CC-BY-4.0,Cy,,cy/sounds,c.wav\n"
    )


def test_targets_are_where_the_sound_is(tmp_path: Path) -> None:
    """A batch asks for a label in the window, and in just those time steps in which it sounds."""
    write_shard(tmp_path, "shard-000")
    features, clip, frames = Pool(tmp_path).batch(np.random.default_rng(1), 8, STEPS, STEP_S)
    assert features.shape == (8, 998, 128)
    loud = features[:, 320:640, 40:60].mean(dim=(1, 2)) > -4
    assert torch.equal(clip[:, SIREN] > 0.9, loud)
    assert torch.equal(frames[loud][0, :, SIREN] > 0.9, (torch.arange(64) >= 20) & (torch.arange(64) < 40))
    assert frames[~loud].max() == 0


def test_augmentation_keeps_what_it_must() -> None:
    """Shapes stay, targets stay within 0..1, digital silence stays digital silence, nothing is not finite."""
    x = torch.full((4, 998, 128), -8.0)
    x[:, :200] = SILENCE
    clip, frames = torch.rand(4, 527), torch.rand(4, STEPS, 527)
    for seed in range(5):
        out, clip_out, frames_out = augment(
            x.clone(), clip.clone(), frames.clone(), np.random.default_rng(seed), mixup=0.0
        )
        assert out.shape == x.shape
        assert torch.isfinite(out).all()
        assert out.min() >= SILENCE - 1e-3
        assert clip_out.max() <= 1
        assert frames_out.max() <= 1


def recipe(tmp_path: Path, name: str, steps: int) -> DistillSettings:
    """A tiny model on one shard, in a folder of its own."""
    out, data = tmp_path / name, tmp_path / "data"
    if not data.exists():
        write_indices(data)
    if not (out / "pool").exists():
        write_shard(out / "pool", "shard-000")
    return DistillSettings(
        task="distill",
        output=out,
        data=data,
        shards=1,
        steps=steps,
        batch=2,
        hidden_size=12,
        depth=1,
        heads=1,
    )


def test_a_model_comes_out(tmp_path: Path) -> None:
    """Two processes train, and the directory loads with a frame head and the credits of its clips."""
    model = distill(recipe(tmp_path, "run", steps=60), resume=False, watch=Nobody())
    loaded = checkpoint.load(model)
    assert loaded.network.config.frame_head
    assert loaded.labels == AUDIOSET
    credits = (model / "ATTRIBUTION.csv").read_text().splitlines()
    assert credits[1:] == ["1-a.opus,CC0-1.0,Ann,barks", "c.opus,CC-BY-4.0,Cy,cy/sounds: c.wav"]
    log = (tmp_path / "run" / "log.csv").read_text().splitlines()
    assert log[0].startswith("step,") and log[1].startswith("50,")


class Killed:
    """A count of steps that ends the training at the third."""

    def __setattr__(self, name: str, value: int) -> None:
        if value == 3:
            raise KeyboardInterrupt


def test_it_goes_on_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training that was ended in the middle and goes on has the weights of an unbroken one, to the bit."""
    monkeypatch.setattr("streamer.training.distill.SAVE_S", 0.0)
    averages = []
    for name, broken in (("whole", False), ("broken", True)):
        settings = recipe(tmp_path, name, steps=6)
        meeting = _Meeting(1, sum(p.numel() for p in AST(model_config(settings)).parameters()))
        new = partial(_Trainer, 0, meeting, settings.output / "pool", settings.output, settings)
        if broken:
            with pytest.raises(KeyboardInterrupt):
                new().run(Killed())
            assert new().step == 2
        new().run(mp.get_context("spawn").Value("i", 0))
        state = torch.load(settings.output / "checkpoint.pt", weights_only=True)
        assert state["step"] == 6
        averages.append(state["average"])
    for one, other in zip(*averages, strict=True):
        assert torch.equal(one, other)


def test_without_the_data_it_says_what_is_missing(tmp_path: Path) -> None:
    """The folders are named."""
    with pytest.raises(InputError, match="esc50-free, more-free, teacher"):
        make_pool(tmp_path, tmp_path / "pool", shards=1, folds={1}, processes=1)


def test_the_recipe_of_the_shipped_model_is_right() -> None:
    """Its keys are known, and it holds fold 4 back."""
    recipe = load_recipe(Path("configs/train/ast-tiny.yaml"))
    assert isinstance(recipe, DistillSettings)
    assert recipe.folds == [1, 2, 3]
