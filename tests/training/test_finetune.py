"""A training from clips to a model that detects, and what happens to it on the way."""

from __future__ import annotations

import csv
import json
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from streamer.config.schema import Config, ModelSettings
from streamer.data.synthesis import write_wav
from streamer.errors import ConfigError, InputError, StreamerError, UsageError
from streamer.inference.engines.torch import TorchEngine
from streamer.model import checkpoint
from streamer.run.offline import detect
from streamer.training.finetune import finetune
from streamer.training.folder import errors_for_people
from streamer.training.settings import FinetuneSettings
from streamer.types import Window
from tests.training.progress import NoProgress
from tests.training.sounds import RATE, noise, recipe, sound, write_folder, write_recipe, write_table

pytestmark = pytest.mark.slow

DEADLINE_S = 120.0


class Lines(NoProgress):
    """A bar that remembers what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def message(self, line: str) -> None:
        self.lines.append(line)


def train(values: dict[str, Any], *, resume: bool = False) -> tuple[Path, list[str]]:
    bar = Lines()
    return finetune(FinetuneSettings.model_validate(values), resume=resume, bar=bar), bar.lines


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return checkpoint.load(directory).network.state_dict()


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    """A tiny network gains nothing from threads, and a busy machine takes much for them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_from_clips_to_events(tmp_path: Path) -> None:
    """Train on synthesised sounds, go on after a stop, load in transformers, detect: the whole way."""
    table = write_table(tmp_path / "clips")
    train_on = {"path": str(table), "credit": ["licence"]}
    values = recipe(
        tmp_path / "run",
        table,
        data={"train": train_on, "held_out": {"value": 2}, "workers": 0},
        augment={"gain_db": 3, "shift_s": 0.5},
        epochs=10,
        batch=8,
        metric="loss",
        schedule={"kind": "cosine", "warm_up": 5},
    )
    values["architecture"] |= {"hidden_size": 64, "hidden_dropout_prob": 0.0}
    model, _ = train(values)

    with pytest.raises(UsageError, match=r"holds a run already.*--resume"):
        train(values)
    model, lines = train(values, resume=True)
    assert lines[-1].startswith("goes on after 10 epochs")

    kept = json.loads((model / "preprocessor_config.json").read_text())
    assert kept["mean"] == json.loads((tmp_path / "run" / "statistics.json").read_text())["mean"]
    card = (model / "README.md").read_text()
    assert "pipeline_tag: audio-classification" in card
    assert "| smoke_alarm | 12 | 4 |" in card
    assert "smoke_alarm-0.wav,CC0-1.0" in (model / "ATTRIBUTION.csv").read_text()
    rows = list(csv.DictReader((tmp_path / "run" / "log.csv").open()))
    assert float(rows[-1]["loss"]) < 0.5 * float(rows[0]["loss"])
    assert max(float(row["map"]) for row in rows) > 0.95
    assert (tmp_path / "run" / "curves.png").read_bytes().startswith(b"\x89PNG")

    engine = TorchEngine(ModelSettings(path=str(model), device="cpu", dtype="float32"))
    samples = sound("smoke_alarm", np.random.default_rng(7), 1.0)
    theirs = transformers.ASTForAudioClassification.from_pretrained(model)
    features = transformers.ASTFeatureExtractor.from_pretrained(model)(
        samples, sampling_rate=RATE, return_tensors="pt"
    )
    with torch.no_grad():
        expected = theirs(**features).logits.sigmoid()[0].numpy()
    ours = engine.score([Window("x", 0, samples, RATE, 0.0, 1.0)])[0].clip
    np.testing.assert_allclose(ours, expected, atol=1e-4)

    rng = np.random.default_rng(8)
    parts = [noise(rng, 4), sound("smoke_alarm", rng, 4), noise(rng, 4), sound("siren", rng, 4)]
    recording = tmp_path / "recording.wav"
    write_wav(recording, np.concatenate([*parts, noise(rng, 4)]), RATE)
    config = Config.model_validate(
        {
            "sources": {"a": {"stream": str(recording)}},
            "windows": {"hop_s": 0.5},
            "detection": {"merge_gap_s": 3.0},
            "sounds": {name: {"labels": [name]} for name in ("smoke_alarm", "siren")},
        }
    )
    ended = [e for e in detect(recording, config, engine, source_id="a") if e.phase == "end"]
    assert {e.sound for e in ended} == {"smoke_alarm", "siren"}
    for event in ended:
        begin = 4.0 if event.sound == "smoke_alarm" else 12.0
        assert begin - 1.5 < event.onset < event.offset < begin + 5.5  # type: ignore[operator]  # ended


def test_resume_after_a_kill_gives_the_same(tmp_path: Path) -> None:
    """A run that was killed in the middle of an epoch and resumed ends with the very same weights."""
    clips = write_folder(tmp_path / "clips", n=4)
    straight = recipe(tmp_path / "straight", clips, epochs=2, average="ema", accumulate=2, balanced=True)
    whole, _ = train(straight)

    killed = straight | {"output": str(tmp_path / "killed"), "checkpoint_s": 0}
    path = write_recipe(tmp_path / "recipe.yaml", killed)
    program = (
        "import sys, torch\n"
        "from pathlib import Path\n"
        "from streamer.training.finetune import finetune\n"
        "from streamer.training.settings import load_recipe\n"
        "from tests.training.progress import NoProgress\n"
        "class Slow(NoProgress):\n"
        "    def advance(self, n, note=''):\n"
        "        if 'loss' in note:\n"
        "            print(note, flush=True)\n"
        "            sys.stdin.readline()\n"
        "torch.set_num_threads(1)\n"
        "finetune(load_recipe(Path(sys.argv[1])), resume=False, bar=Slow())\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        for _ in range(3):  # the second step of the second epoch: the step before has its checkpoint
            note = child.stdout.readline()
            child.stdin.write("\n")
            child.stdin.flush()
        assert note.startswith("epoch 2/2")
        deadline = time.monotonic() + DEADLINE_S
        note = child.stdout.readline()
        assert time.monotonic() < deadline
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    kept = torch.load(tmp_path / "killed" / "checkpoint.pt", weights_only=True)
    assert (kept["epoch"], kept["step"]) == (1, 1)

    resumed, lines = train(killed, resume=True)

    assert any(line.startswith("goes on after 1 epochs and 1 of") for line in lines)
    ours, theirs = weights(resumed), weights(whole)
    for name, tensor in theirs.items():
        assert torch.equal(ours[name], tensor), name
    assert (tmp_path / "killed/log.csv").read_text() == (tmp_path / "straight/log.csv").read_text()


def test_a_resume_with_other_settings_or_clips_is_refused(tmp_path: Path) -> None:
    """What changes the result cannot change between a run and its resume; what does not, may."""
    clips = write_folder(tmp_path / "clips")
    values = recipe(tmp_path / "run", clips, epochs=1)
    train(values)

    with pytest.raises(ConfigError, match="begun with other settings of lr"):
        train(values | {"lr": 1e-4}, resume=True)
    write_wav(clips / "siren" / "new.wav", sound("siren", np.random.default_rng(5), 0.5), RATE)
    with pytest.raises(ConfigError, match="begun with other clips"):
        train(values | {"checkpoint_s": 1}, resume=True)


def test_fine_tuning_a_model_replaces_head_and_window(tmp_path: Path) -> None:
    """Other labels get a new head, another length other positions; the other weights begin as they were."""
    clips = write_folder(tmp_path / "clips")
    first, _ = train(recipe(tmp_path / "first", clips, epochs=1))
    (clips / "siren").rename(clips / "horn")
    changes: dict[str, Any] = {"model": str(first), "architecture": None, "max_length": 50, "epochs": 1}

    second, _ = train(recipe(tmp_path / "second", clips, lr=1e-12, weight_decay=0, **changes))

    before, after = checkpoint.load(first), checkpoint.load(second)
    assert before.labels == ("siren", "smoke_alarm")
    assert after.labels == ("horn", "smoke_alarm")
    assert after.network.config.grid == (8, 3)
    torch.testing.assert_close(before.network.patch.weight, after.network.patch.weight)
    assert not torch.equal(before.network.head.weight, after.network.head.weight)


def test_cross_entropy_bfloat16_and_a_mean_over_epochs(tmp_path: Path) -> None:
    """The other half of the choices trains too: one label a clip, bfloat16, steps, no validation, float16."""
    values = recipe(tmp_path / "run", write_folder(tmp_path / "clips"), loss="ce", precision="bfloat16")
    values |= {"average": "epochs", "average_from": 2, "weights": "float16", "layer_decay": 0.75}
    values |= {"schedule": {"kind": "step", "first": 1, "factor": 0.5}, "clip_gradient": 1.0}
    values["data"] |= {"validation_share": 0, "short": "place", "workers": 1}

    model, lines = train(values)

    rows = list(csv.DictReader((tmp_path / "run" / "log.csv").open()))
    assert [float(row["lr"]) for row in rows] == [3e-3, 1.5e-3]
    assert rows[0]["map"] == ""
    assert "6 clips train, 0 validate, 2 labels" in lines
    assert "softmax" in (model / "README.md").read_text()
    kept = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    torch.testing.assert_close(weights(model)["position"], kept["average"]["position"], atol=1e-3, rtol=1e-3)


def test_clips_that_cannot_be_used_are_listed_and_skipped(tmp_path: Path) -> None:
    """Unreadable and silent clips are named and counted; the training goes on without them."""
    clips = write_folder(tmp_path / "clips")
    (clips / "siren" / "torn.wav").write_bytes(b"RIFF")
    write_wav(clips / "siren" / "silent.wav", np.zeros(8000, np.float32), RATE)

    model, lines = train(recipe(tmp_path / "run", clips, epochs=1))

    assert any("torn.wav: this is not audio, or it is damaged" in line for line in lines)
    assert any("silent.wav: silent" in line for line in lines)
    assert any(line.startswith("2 of 8 clips are skipped") for line in lines)
    assert "2 more were unreadable or silent" in (model / "README.md").read_text()


def test_classes_that_are_too_small_are_said(tmp_path: Path) -> None:
    """A class with one clip trains with a warning; one whose clips are all unusable stops the run."""
    clips = write_folder(tmp_path / "clips")
    (clips / "bell").mkdir()
    write_wav(clips / "bell" / "only.wav", sound("smoke_alarm", np.random.default_rng(3), 0.5), RATE)
    _, lines = train(recipe(tmp_path / "run", clips, epochs=1))
    assert "class 'bell' has one file: it trains, and nothing of it validates" in lines
    assert "class 'bell' has one clip to train on: expect little of it" in lines

    (clips / "bell" / "only.wav").write_bytes(b"no sound")
    with pytest.raises(InputError, match="class 'bell' has not one clip to train on"):
        train(recipe(tmp_path / "other", clips, epochs=1))


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    """Where nothing more can be written, one line says so, and the checkpoint and model before stay whole."""
    values = recipe(tmp_path / "run", write_folder(tmp_path / "clips"), epochs=1)
    model, _ = train(values)
    before = (tmp_path / "run" / "checkpoint.pt").read_bytes()
    kept = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    kept["settings"]["epochs"] = 2  # as if it had been planned longer
    torch.save(kept, tmp_path / "run" / "checkpoint.pt")
    before = (tmp_path / "run" / "checkpoint.pt").read_bytes()

    # A limit on the size of files fails as a full disk does: write() raises in the middle of a file.
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(StreamerError, match=r"cannot be written: .*--resume"):
            train(values | {"epochs": 2}, resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)

    assert (tmp_path / "run" / "checkpoint.pt").read_bytes() == before
    assert checkpoint.load(model).labels == ("siren", "smoke_alarm")
    names = [path.name for path in (tmp_path / "run").iterdir()]
    assert not [name for name in names if "partial" in name or name.startswith(".")]


def test_what_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    """The system's own reason is told, also where torch wraps it."""
    with pytest.raises(StreamerError, match="No space left on device"), errors_for_people(tmp_path):
        Path("/dev/full").write_text("x")
    with (
        Path("/dev/full").open("wb", buffering=0) as full,
        pytest.raises(StreamerError) as told,
        errors_for_people(tmp_path),
    ):
        torch.save({"x": torch.zeros(10_000)}, full)
    assert "\n" not in str(told.value)


def test_a_loss_that_explodes_stops_the_run(tmp_path: Path) -> None:
    """Logits beyond all numbers end the run with advice, not with weights that are no numbers."""
    clips = write_folder(tmp_path / "clips")
    model, _ = train(recipe(tmp_path / "run", clips, epochs=1))
    loaded = checkpoint.load(model)
    loaded.network.head.weight.fill_(3e38)
    checkpoint.save(model, loaded.network, loaded.fbank, dtype=torch.float32)

    with pytest.raises(StreamerError, match=r"the loss is not finite in epoch 1, step 1: lower lr"):
        train(recipe(tmp_path / "next", clips, model=str(model), architecture=None))
