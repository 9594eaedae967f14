"""What every engine keeps to: scores as `transformers` has them, in any batch, of any rate and length."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from streamer.config.schema import ModelSettings
from streamer.errors import InferenceError, ModelError
from streamer.inference.engines import ENGINES, open_engine
from streamer.inference.engines.speed import HOPS_S
from streamer.inference.worker import Engine
from streamer.model.config import MODEL_TYPE
from tests.inference import models
from tests.inference.models import window

Open = Callable[..., Engine]
OTHERS = sorted(ENGINES[MODEL_TYPE].keys() - {"torch"})


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.directory(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture(params=ENGINES[MODEL_TYPE])
def open_(request: pytest.FixtureRequest) -> Open:
    """Opens the engine of the test, in float32 with one thread unless told otherwise."""

    def opened(directory: Path, **settings: object) -> Engine:
        values: dict[str, object] = {"device": "cpu", "dtype": "float32", "threads": 1}
        engine: str = request.param
        return open_engine(ModelSettings(path=str(directory), engine=engine, **{**values, **settings}))  # type: ignore[arg-type]  # mixed values

    return opened


def test_scores_are_those_of_transformers(open_: Open, directory: Path) -> None:
    """From audio to posteriors: sigmoids of the published model's logits."""
    engine = open_(directory)
    theirs = transformers.ASTForAudioClassification.from_pretrained(directory).eval()
    extractor = transformers.ASTFeatureExtractor.from_pretrained(directory)

    scores = engine.score([window()])[0]

    x = extractor(window().samples, sampling_rate=models.RATE, return_tensors="pt")["input_values"]
    with torch.no_grad():
        expected = theirs(x).logits[0].sigmoid().numpy()
    assert scores.clip.dtype == np.float32
    np.testing.assert_allclose(scores.clip, expected, atol=1e-5)


def test_scores_carry_the_window(open_: Open, directory: Path) -> None:
    """Scores say which window they are of, and their frames how long they are."""
    scores = open_(directory).score([window(5, source_id="hall")])[0]

    assert (scores.source_id, scores.index, scores.start, scores.end) == ("hall", 5, 1000.0, 1001.0)
    assert scores.frame_s == 0.16
    assert scores.frames is not None
    assert scores.frames.shape == (7, 7)  # seven steps of 0.16 s begin within 1 s


def test_a_model_without_a_frame_head_has_no_frames(open_: Open, tmp_path: Path) -> None:
    """What the model cannot say is not made up."""
    engine = open_(models.directory(tmp_path / "plain", frame_head=False))

    scores = engine.score([window()])[0]

    assert (scores.frames, scores.frame_s) == (None, 0.0)


@pytest.mark.parametrize("max_batch", [1, 3, 16])
def test_batch_equals_loop(open_: Open, directory: Path, max_batch: int) -> None:
    """A window's scores do not depend on its company: rates, lengths and sources mix, order stays."""
    engine = open_(directory, max_batch=max_batch)
    windows = [
        window(0),
        window(1, sample_rate=48000, source_id="hall"),
        window(2, sample_rate=44100),
        window(3, seconds=0.4),
        window(4, sample_rate=48000),
        window(5, seconds=1.5),
        window(6, sample_rate=8000),
    ]

    together = engine.score(windows)

    assert [scores.index for scores in together] == list(range(7))
    for scores, alone in zip(together, windows, strict=True):
        expected = engine.score([alone])[0]
        np.testing.assert_allclose(scores.clip, expected.clip, atol=1e-5)
        assert scores.frames is not None
        assert expected.frames is not None
        np.testing.assert_allclose(scores.frames, expected.frames, atol=1e-5)


def test_frames_end_with_the_audio(open_: Open, directory: Path) -> None:
    """Time steps that hold nothing but padding are not reported."""
    frames = [open_(directory).score([window(seconds=s)])[0].frames for s in (0.32, 0.33, 1.0)]

    assert [f.shape[0] for f in frames if f is not None] == [2, 3, 7]


def test_no_windows(open_: Open, directory: Path) -> None:
    """Nothing to score is no error."""
    assert open_(directory).score([]) == []


def test_shorter_windows(open_: Open, directory: Path) -> None:
    """The configuration may ask for shorter windows, and the engine says so."""
    engine = open_(directory, window_s=0.5, position="interpolate")

    assert engine.window_s == 0.5
    frames = engine.score([window(seconds=0.5)])[0].frames
    assert frames is not None
    assert frames.shape == (3, 7)  # 48 frames are three patches


def test_scores_that_are_not_finite(open_: Open, directory: Path) -> None:
    """A window that makes the network overflow is an error that names its source, not a score."""
    engine = open_(directory)
    broken = window(source_id="attic")
    broken.samples[:] = np.nan

    with pytest.raises(InferenceError, match=r"attic: .*not finite"):
        engine.score([broken])
    assert np.isfinite(engine.score([window()])[0].clip).all(), "the next window is scored"


def test_fastest_hop_grows_with_the_sources(open_: Open, directory: Path) -> None:
    """More sources never get a shorter hop than one, and every hop is one of the list."""
    engine = open_(directory)

    hops = [engine.fastest_hop(n) for n in (1, 64)]

    assert set(hops) <= set(HOPS_S)
    assert hops[0] <= hops[1]


def test_a_device_that_it_does_not_have(open_: Open, directory: Path) -> None:
    """Asking for CUDA where there is none is an error, never a silent CPU."""
    with pytest.raises(ModelError, match="device cuda:9"):
        open_(directory, device="cuda:9")


def test_a_model_for_one_label(open_: Open, tmp_path: Path) -> None:
    """Where labels exclude each other, scores are a softmax, as `transformers` has it; frames, too."""
    model = models.directory(tmp_path / "model", problem_type="single_label_classification")
    theirs = transformers.ASTForAudioClassification.from_pretrained(model).eval()
    x = transformers.ASTFeatureExtractor.from_pretrained(model)(
        window().samples, sampling_rate=models.RATE, return_tensors="pt"
    )

    (scores,) = open_(model).score([window()])

    with torch.no_grad():
        expected = theirs(x["input_values"]).logits[0].softmax(dim=-1).numpy()
    assert theirs.config.problem_type == "single_label_classification"
    np.testing.assert_allclose(scores.clip, expected, atol=1e-5)
    assert scores.frames is not None
    np.testing.assert_allclose(scores.frames.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("has_frames", [True, False])
def test_the_engines_agree(tmp_path: Path, name: str, dtype: torch.dtype, has_frames: bool) -> None:
    """From audio of any rate to scores of windows and frames, whatever dtype the weights are kept in."""
    model = models.directory(tmp_path / "model", dtype=dtype, frame_head=has_frames, num_hidden_layers=4)
    settings = ModelSettings(path=str(model), device="cpu", dtype="float32", threads=1)
    windows = [
        window(i, sample_rate=rate) for i, rate in enumerate((8000, 16000, 22050, 44100, 48000, 96000))
    ]

    theirs = open_engine(settings.model_copy(update={"engine": "torch"})).score(windows)

    ours = open_engine(settings.model_copy(update={"engine": name})).score(windows)

    for a, b in zip(ours, theirs, strict=True):
        assert b.clip.std() > 0.01, "a test of scores that are all alike would prove nothing"
        np.testing.assert_allclose(a.clip, b.clip, atol=1e-4)
        assert (a.frames is None) is (b.frames is None) is not has_frames
        if a.frames is not None and b.frames is not None:
            np.testing.assert_allclose(a.frames, b.frames, atol=1e-4)


@pytest.mark.parametrize("name", OTHERS)
def test_the_shipped_model(name: str) -> None:
    """All engines give the same scores with the model that ships."""
    settings = ModelSettings(device="cpu", dtype="float32", threads=1)
    windows = [window(i, seconds=10.0, sample_rate=rate) for i, rate in enumerate((16000, 48000))]

    theirs = open_engine(settings.model_copy(update={"engine": "torch"})).score(windows)

    ours = open_engine(settings.model_copy(update={"engine": name})).score(windows)

    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.clip, b.clip, atol=1e-4)
        np.testing.assert_allclose(a.frames, b.frames, atol=1e-4)  # type: ignore[arg-type]  # it has a head


@pytest.mark.parametrize(("frame_head", "shape"), [(True, (7, 64)), (False, (1, 64))])
def test_every_engine_gives_the_same_embeddings(
    frame_head: bool, shape: tuple[int, int], tmp_path: Path
) -> None:
    """Of each time step, or of the window where there are none; what one engine taught another can use."""
    directory = models.directory(tmp_path / "model", frame_head=frame_head)
    found = []
    for name in ("torch", "onnx"):
        settings = ModelSettings(path=str(directory), engine=name, device="cpu", dtype="float32", threads=1)  # type: ignore[arg-type]  # one of its names
        (scores,) = open_engine(settings, embeds=True).score([window()])
        assert scores.embeddings is not None
        found.append(scores.embeddings)

    assert found[0].shape == shape
    np.testing.assert_allclose(found[0], found[1], atol=1e-4)


def test_embeddings_are_given_where_asked(open_: Open, directory: Path) -> None:
    """Without a taught sound nothing more is computed or copied than the scores."""
    assert open_(directory).score([window()])[0].embeddings is None
