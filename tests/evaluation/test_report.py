"""`streamer eval`, `streamer train` and `streamer train stats` as commands."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from streamer.cli import evaluation, training
from streamer.data.synthesis import write_wav
from streamer.errors import InputError, ModelError, UsageError
from streamer.model import checkpoint
from streamer.model.ast import AST
from streamer.model.config import ASTConfig, FbankConfig
from tests.training.sounds import RATE, recipe, sound, write_folder, write_recipe

TORCH = ("--engine", "torch", "--plain")
"""`auto` would measure every engine for every model of a test"""

app = typer.Typer()
app.add_typer(training.app, name="train")
app.add_typer(evaluation.app, name="eval")


def run(*arguments: object, fails: bool = False) -> str:
    """What a command prints."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert (result.exit_code != 0) == fails, result.output
    return result.stdout


def tiny(directory: Path, seed: int, labels: tuple[str, ...] = ("siren", "smoke_alarm")) -> Path:
    """A model directory with random weights."""
    torch.manual_seed(seed)
    config = ASTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        frequency_stride=16,
        time_stride=16,
        max_length=98,
        initializer_range=0.2,
        id2label=dict(enumerate(labels)),
    )
    checkpoint.save(directory, AST(config), FbankConfig(max_length=98), dtype=torch.float32)
    return directory


def report(*arguments: object) -> dict[str, object]:
    values = json.loads(run("eval", *arguments, "--json", "--dtype", "float32", *TORCH))
    assert isinstance(values, dict)
    return values


def test_eval_prints_tables_and_writes_pictures(tmp_path: Path) -> None:
    """Figures and each label's on the output; JSON and two pictures in the folder; bad clips are left out."""
    clips = write_folder(tmp_path / "clips")
    (clips / "siren" / "torn.wav").write_bytes(b"RIFF")
    out = tmp_path / "out"
    text = run("eval", tiny(tmp_path / "a", 1), clips, "--out", out, *TORCH)
    assert "mAP " in text
    assert text.count("smoke_alarm") == 1
    kept = json.loads((out / "report.json").read_text())
    assert kept["n_clips"] == 6
    assert kept["n_skipped"] == 1
    for name in ("confusion.png", "precision-recall.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")


def test_several_models_are_an_ensemble_or_an_average(tmp_path: Path) -> None:
    """An ensemble of one model twice is that model, and so is their average; others are refused."""
    clips = write_folder(tmp_path / "clips")
    write_wav(clips / "siren" / "long.wav", sound("siren", np.random.default_rng(0), 3.5), RATE)
    first, second = tiny(tmp_path / "a", 1), tiny(tmp_path / "b", 2)
    alone = report(first, clips)["average_precisions"]
    assert report(first, first, clips)["average_precisions"] == alone
    assert report(first, first, clips, "--average", tmp_path / "same")["average_precisions"] == alone

    report(first, second, clips, "--average", tmp_path / "mean")
    weights = [checkpoint.load(tmp_path / name).network.head.weight for name in ("a", "b", "mean")]
    torch.testing.assert_close((weights[0] + weights[1]) / 2, weights[2])
    with pytest.raises(UsageError, match="is there already"):
        run("eval", first, second, clips, "--average", tmp_path / "mean", "--plain")
    with pytest.raises(ModelError, match="has other labels"):
        run("eval", first, tiny(tmp_path / "c", 3, ("siren", "horn", "smoke_alarm")), clips, *TORCH)
    with pytest.raises(InputError, match="unknown label 'smoke_alarm'"):
        run("eval", tiny(tmp_path / "d", 3, ("siren", "horn")), clips, *TORCH)
    with pytest.raises(UsageError, match="name at least one model"):
        run("eval", clips)


def test_train_and_its_statistics_are_commands(tmp_path: Path) -> None:
    """`train RECIPE` trains, `train stats` measures the same and writes it; `--resume` is no recipe."""
    clips = write_folder(tmp_path / "clips")
    path = write_recipe(tmp_path / "r.yaml", recipe(tmp_path / "run", clips, epochs=1))
    assert run("train", path, "--plain").strip() == str(tmp_path / "run" / "model")
    assert run("train", "--resume", path, "--plain").strip() == str(tmp_path / "run" / "model")
    trained = json.loads((tmp_path / "run/model/preprocessor_config.json").read_text())

    model = tiny(tmp_path / "a", 1)
    text = run("train", "stats", clips, "--model", model, "--write", "--workers", 0, "--plain")
    assert f"mean  {trained['mean']:.7f}" in text
    assert f"std   {trained['std']:.7f}" in text
    measured = json.loads((model / "preprocessor_config.json").read_text())
    assert (measured["mean"], measured["std"]) == (trained["mean"], trained["std"])
    assert checkpoint.load(model).fbank.mean == trained["mean"]
    assert run("train", "stats", path, "--workers", 0, "--plain") in text
    with pytest.raises(UsageError, match="needs --model"):
        run("train", "stats", clips, "--write")
    # A recipe stands for its validation or test clips where it names them.
    with pytest.raises(InputError, match=r"neither data.test nor data.validation"):
        run("eval", model, path, "--plain")


def test_statistics_are_the_published_ones(tmp_path: Path) -> None:
    """Mean and standard deviation over all energies of all padded windows, not a mean of means."""
    from streamer.data.audio import read_audio  # noqa: PLC0415
    from streamer.data.examples import read_examples  # noqa: PLC0415
    from streamer.data.settings import ClipsSettings  # noqa: PLC0415
    from streamer.model.fbank import Fbank  # noqa: PLC0415
    from streamer.training.statistics import measure  # noqa: PLC0415
    from tests.training.progress import NoProgress  # noqa: PLC0415

    examples = read_examples(ClipsSettings(path=write_folder(tmp_path / "clips")))
    config = FbankConfig(max_length=98)
    found = measure(examples, config, short="pad", workers=1, bar=NoProgress())
    fbank = Fbank(FbankConfig(max_length=98, do_normalize=False))
    windows = torch.cat([fbank(torch.from_numpy(read_audio(e, RATE))[None]) for e in examples])
    assert windows.shape == (6, 98, 128)
    assert found.mean == pytest.approx(windows.double().mean().item(), rel=1e-6)
    assert found.std == pytest.approx(windows.double().std(correction=0).item(), rel=1e-6)


def test_eval_scores_a_clip_as_tag_does(tmp_path: Path) -> None:
    """One decoder, one cut of windows: a clip that is shorter than a window has the same score in both."""
    from streamer.config.schema import ModelSettings  # noqa: PLC0415
    from streamer.data.examples import Example  # noqa: PLC0415
    from streamer.evaluation.report import score_clips  # noqa: PLC0415
    from streamer.inference.engines import open_engine  # noqa: PLC0415
    from streamer.run.offline import tag  # noqa: PLC0415

    clip = tmp_path / "clip.wav"
    write_wav(clip, sound("siren", np.random.default_rng(3), 0.4), RATE)
    model = str(tiny(tmp_path / "model", 3))
    settings = ModelSettings(path=model, device="cpu", dtype="float32", engine="torch")
    scored = score_clips([model], [Example(clip, ("siren",))], settings, lambda: None)
    tagged = tag(clip, open_engine(settings))
    for label, score in zip(scored.labels, scored.scores[0], strict=True):
        assert tagged[label] == pytest.approx(float(score), abs=1e-6)
