"""The training of the shipped model: from crops in the pool to a model directory, in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from streamer.data.clips import entries, validating
from streamer.data.crops import WHOLE, Mixer, Stock, n_frames
from streamer.errors import InputError, StreamerError
from streamer.model import checkpoint
from streamer.model.config import FbankConfig
from streamer.model.fbank import Fbank
from streamer.model.labels import AUDIOSET
from streamer.training import pool as pools
from streamer.training.distill import N_VECTOR, SILENCE, Trainer, at, augment, rate, write_attribution
from streamer.training.pool import Pool, shards
from streamer.training.settings import DistillSettings, load_recipe
from tests.data.test_crops import piece
from tests.training.progress import NoProgress

pytestmark = pytest.mark.slow

SIREN = AUDIOSET.index("Siren")


def write_shard(pool: Path, number: int, steps: int, n: int = 8) -> None:
    """Crops of noise; in every second one, from the third time step on, something loud, which is a siren."""
    rng = np.random.default_rng(number)
    features = rng.normal(-8, 1, (n, n_frames(steps), 128)).astype(np.float16)
    features[::2, 48:, 40:60] += 8
    crop, frames = np.zeros((n, len(AUDIOSET)), np.float16), np.zeros((n, steps, len(AUDIOSET)), np.float16)
    crop[::2, SIREN] = frames[::2, 3:, SIREN] = 0.95
    folder = pool / f"{number:07d}-{steps}"
    folder.mkdir(parents=True)
    vectors = rng.normal(0, 1, (n, N_VECTOR)).astype(np.float16)
    for name, values in (("features", features), ("crop", crop), ("frames", frames), ("teacher", vectors)):
        np.save(folder / f"{name}.npy", values)


def recipe(out: Path, seconds: float, **changes: object) -> DistillSettings:
    """A tiny model."""
    return DistillSettings(
        task="distill",
        output=out,
        data=out / "data",
        hours=seconds / 3600,
        batch=4,
        hidden_size=12,
        depth=1,
        heads=1,
        whole=[[0.0, 0.0], [0.5, 1.0]],
        **changes,  # type: ignore[arg-type]
    )


def filled(folder: Path) -> Path:
    for number, steps in enumerate((13, 31, WHOLE)):
        write_shard(folder, number, steps)
    return folder


def test_augmentation_keeps_what_it_must() -> None:
    """The shape stays, digital silence stays digital silence, nothing is not finite."""
    x = torch.full((4, 208, 128), -8.0)
    x[:, :40] = SILENCE
    for seed in range(5):
        out = augment(x.clone(), np.random.default_rng(seed))
        assert out.shape == x.shape
        assert torch.isfinite(out).all()
        assert out.min() >= SILENCE - 1e-3


def test_a_model_comes_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Crops first, whole windows later; the directory loads, with a frame head, and the log has its rows."""
    monkeypatch.setattr("streamer.training.distill.REPORT_STEPS", 1)
    trainer = Trainer(recipe(tmp_path, seconds=6.0, adamw_lr=0.02))
    trainer.run(Pool(filled(tmp_path / "pool"), passes=1, fewest=9), tmp_path / "pool", NoProgress())
    loaded = checkpoint.load(tmp_path / "model")
    assert loaded.network.config.frame_head
    assert loaded.labels == AUDIOSET
    log = (tmp_path / "log.csv").read_text().splitlines()
    assert log[0].startswith("step,crops,hours,crop_loss")
    assert all(np.isfinite(float(row.split(",")[3])) for row in log[1:])


def test_it_learns_what_it_is_asked_for(tmp_path: Path) -> None:
    """The same crops again and again: the losses of crop, time steps and vector fall."""
    trainer = Trainer(recipe(tmp_path, seconds=600.0, adamw_lr=0.01))
    trainer.seconds = 200.0  # past the warm-up
    write_shard(tmp_path / "pool", 0, 13)
    (batch,) = Pool(tmp_path / "pool", passes=9, fewest=1).batches(np.random.default_rng(0), 8, whole=False)
    losses = [trainer.learn(batch, np.random.default_rng(i)) for i in range(20)]
    first, last = np.mean(losses[:4], axis=0), np.mean(losses[-4:], axis=0)
    assert (last < first).all()


class Ended:
    """A maker that is no more."""

    def is_alive(self) -> bool:
        return False


def test_a_maker_that_ended_ends_the_training(tmp_path: Path) -> None:
    """Else the same crops would come again and again; what was learned until then is kept."""
    trainer = Trainer(recipe(tmp_path, seconds=600.0))
    pool = Pool(filled(tmp_path / "pool"), passes=9, fewest=1)
    with pytest.raises(StreamerError, match="--resume"):
        trainer.run(pool, tmp_path / "pool", NoProgress(), [Ended()])  # type: ignore[list-item]
    assert (tmp_path / "checkpoint.pt").exists()


def test_a_resumed_training_goes_on_where_it_was(tmp_path: Path) -> None:
    """Step, hours, weights, their mean and the optimizers are those that were saved, to the bit."""
    settings = recipe(tmp_path, seconds=600.0)
    write_shard(tmp_path / "pool", 0, 13)
    pool = Pool(tmp_path / "pool", passes=9, fewest=1)
    first = Trainer(settings)
    for batch in pool.batches(np.random.default_rng(0), 4, whole=False):
        first.learn(batch, np.random.default_rng(1))
        first.step += 1
    first.seconds = 300.0
    first.save()
    second = Trainer(settings)
    assert (second.step, second.progress) == (first.step, 0.5)
    for trainer in (first, second):
        for batch in pool.batches(np.random.default_rng(2), 4, whole=False):
            trainer.learn(batch, np.random.default_rng(3))
    for one, other in zip(
        [*first.parameters, *first.average], [*second.parameters, *second.average], strict=True
    ):
        assert torch.equal(one, other)


def test_a_training_begins_with_the_weights_of_its_recipe(tmp_path: Path) -> None:
    """`model` names them, and no size is asked for."""
    trainer = Trainer(recipe(tmp_path, seconds=1.0, model="ast-tiny"))
    shipped = checkpoint.load(Path("streamer/model/assets/ast-tiny")).network.state_dict()
    for name, value in trainer.network.state_dict().items():
        assert torch.equal(value, shipped[name])


def test_the_rate_rises_stays_and_falls() -> None:
    """From 0 to 1 while it warms up, 1 until it decays, 0 at the end."""
    settings = recipe(Path("run"), seconds=1.0, warm_up=0.1, decay_from=0.6)
    assert [round(rate(x, settings), 3) for x in (0, 0.05, 0.1, 0.5, 0.6, 0.8, 1)] == [
        0,
        0.5,
        1,
        1,
        1,
        0.5,
        0,
    ]


def test_a_stage_holds_until_the_next_begins() -> None:
    """The value of the last stage that has begun."""
    assert [at([[0.0, 4], [0.8, 8]], x) for x in (0, 0.79, 0.8, 2)] == [4, 4, 8, 8]


def test_a_crop_anywhere_in_the_window_is_the_window_there() -> None:
    """Tokens of a crop have the positions at which it begins: the same as those of a window cut there."""
    trainer = Trainer(recipe(Path("run"), seconds=1.0))
    network = trainer.network.eval()
    x = torch.randn(2, 13 * 16, 128)
    start = torch.tensor([0, 51])
    tokens = network.tokens(x, None, start)
    assert tokens.shape == (2, 2 + 8 * 13, 12)
    grid = network.position[0, 2:].view(8, 64, 12)
    assert torch.equal(network._positions(13, start)[1], grid[:, 51:].flatten(0, 1))


class Silent:
    """A teacher that hears nothing."""

    def listen(self, _: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros(len(AUDIOSET), np.float32), np.zeros(N_VECTOR, np.float32)


def test_what_makers_write_comes_back_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each crop of a shard once a pass; a shard makes room after its passes, unless too few would be left."""
    monkeypatch.setattr(pools, "SHARD", 6)
    stock = Stock([piece()], {"more-free": 1.0})
    for number in (0, 1):
        mixer = Mixer(stock, [], np.random.default_rng(number))
        pools.write_shard(tmp_path, number, 13, mixer, Silent(), Fbank(FbankConfig()))  # type: ignore[arg-type]
    pool = Pool(tmp_path, passes=2, fewest=1)
    rng = np.random.default_rng(0)
    for _ in range(3):
        batches = list(pool.batches(rng, 3, whole=False))
        assert [batch.features.shape for batch in batches] == [(3, 208, 128)] * 2
        assert batches[0].frames.shape == (3, 13, len(AUDIOSET))
    assert len(shards(tmp_path)) == 1
    for _ in range(5):
        list(pool.batches(rng, 3, whole=False))
    assert len(shards(tmp_path)) == 1


def write_indices(data: Path) -> None:
    (data / "esc50-free").mkdir(parents=True)
    (data / "more-free").mkdir()
    (data / "esc50-free" / "labels.csv").write_text(
        "file,esc50_label,audioset_labels,audioset_exact,fold,clip_licence,author,title\n"
        "1-a.opus,dog,Dog|Bark,1,1,CC0-1.0,Ann,barks\n4-b.opus,dog,Dog,1,4,CC0-1.0,Bob,unused\n"
    )
    (data / "more-free" / "index.csv").write_text(
        "file,licence,author,link,source_repo,source_path,labels\n"
        "audio/c.opus,CC-BY-4.0,Cy,,cy/sounds,c.wav,Music|Piano\n"
        "audio/d.opus,CC-BY-4.0,Di,,di/sounds,d.wav,\n"
    )


def test_every_clip_that_is_trained_on_is_credited(tmp_path: Path) -> None:
    """Other folds and held-out sources are neither trained on nor credited."""
    write_indices(tmp_path)
    found = entries(tmp_path, [1, 2, 3], ["more-free"], held_out=["di/sounds"])
    assert [(entry.labels, entry.exact) for entry in found] == [
        (("Dog", "Bark"), True),
        (("Music", "Piano"), True),
    ]
    apart = validating(tmp_path, [4], ["more-free"], held_out=["di/sounds"])
    assert [entry.path.name for entry in apart] == ["4-b.opus", "d.opus"]
    write_attribution(tmp_path / "ATTRIBUTION.csv", found)
    rows = (tmp_path / "ATTRIBUTION.csv").read_text().splitlines()
    assert rows[1:] == ["1-a.opus,CC0-1.0,Ann,barks", "c.opus,CC-BY-4.0,Cy,cy/sounds: c.wav"]


def test_without_the_data_it_says_what_is_missing(tmp_path: Path) -> None:
    """The file is named, and where to read what it must hold."""
    with pytest.raises(InputError, match=r"esc50-free/labels\.csv.*docs/training\.md"):
        entries(tmp_path, [1], [])


def test_the_recipe_of_the_shipped_model_is_right() -> None:
    """Its keys are known, it holds fold 4 back, and a tenth of the sources."""
    settings = load_recipe(Path("configs/train/ast-tiny.yaml"))
    assert isinstance(settings, DistillSettings)
    assert settings.folds == [1, 2, 3]
    assert len(settings.held_out) >= 12
