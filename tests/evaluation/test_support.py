"""What a model hears: operating points, the file in its directory, and the sounds that it names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from streamer.config.schema import load_config
from streamer.errors import ModelError
from streamer.evaluation.support import PRECISION, highest, operating_point
from streamer.model import hub, support
from streamer.model.support import OperatingPoint, Support
from streamer.types import Scores

pytestmark = pytest.mark.slow

QUICKSTART = Path("configs/quickstart.yaml")


def test_the_lowest_threshold_with_the_precision_is_taken() -> None:
    """Ten true clips, of which the weakest two lie among others: eight are found, none is wrong."""
    scores = np.float32([0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.3, 0.2, 0.4, 0.35, 0.25, 0.1])
    truth = np.arange(14) < 10
    point = operating_point(truth, scores)
    assert point == OperatingPoint(threshold=0.475, precision=1.0, recall=0.8, clips=10)
    above = scores >= point.threshold
    assert truth[above].mean() >= PRECISION


@pytest.mark.parametrize(
    ("truth", "scores"),
    [
        ([1, 1, 1, 1], [0.9, 0.8, 0.7, 0.6]),  # too few to say anything
        ([1, 1, 1, 1, 1, 0], [0.2, 0.1, 0.1, 0.1, 0.1, 0.9]),  # others come first
        ([1] * 10 + [0, 0], [0.9, 0.9] + [0.1] * 8 + [0.5, 0.4]),  # nobody is wrong, and two of ten are found
    ],
)
def test_a_label_that_is_not_heard_has_no_operating_point(truth: list[int], scores: list[float]) -> None:
    """Precision 0.9 with recall 0.3, on five clips or more: else nothing is promised."""
    assert operating_point(np.array(truth, bool), np.array(scores, np.float32)) is None


def test_a_clip_counts_with_what_the_detection_would_see() -> None:
    """A single high frame is smoothed away; three in a row count; without frames it is the clip's score."""
    frames = np.zeros((60, 2), np.float32)
    frames[10, 0] = 0.9
    frames[20:23, 1] = 0.8
    scores = Scores("clip", 0, 0.0, 9.6, frames.max(axis=0), frames, 0.16)
    assert highest(scores).tolist() == pytest.approx([0.0, 0.8])
    assert highest(Scores("clip", 0, 0.0, 9.6, np.float32([0.3, 0.4]))).tolist() == pytest.approx([0.3, 0.4])


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    """A directory without the file was not measured; a damaged file is refused by name."""
    assert support.read(tmp_path) is None
    measured = Support("ten clips", {"Siren": OperatingPoint(0.4, 0.95, 0.8, 10)})
    path = support.write(tmp_path, measured)
    assert support.read(tmp_path) == measured
    assert measured.lacks({"siren": ["Siren", "Alarm"], "cat": ["Cat"], "loud": []}) == ["cat"]
    path.write_text("{")
    with pytest.raises(ModelError, match=r"sounds\.json: is damaged"):
        support.read(tmp_path)


def test_the_quick_start_asks_for_what_the_shipped_model_hears() -> None:
    """Every label of the first configuration that people see is one that the shipped model hears."""
    measured = support.read(hub.resolve("ast-tiny"))
    assert measured is not None
    sounds = load_config(QUICKSTART).sounds
    assert [
        label for sound in sounds.values() for label in sound.labels if label not in measured.labels
    ] == []


def test_sounds_that_the_model_does_not_hear_are_named(tmp_path: Path) -> None:
    """`streamer check` says which sounds of a configuration the model is not known to hear."""
    path = tmp_path / "config.yaml"
    path.write_text(
        "sources: {here: {command: [cat, /dev/zero]}}\n"
        "sounds:\n  siren: {labels: [Siren]}\n  squeezebox: {labels: [Accordion]}\n"
        "mqtt: {enabled: false}\n"
    )
    command = [sys.executable, "-m", "streamer", "check", "--config", str(path)]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    assert "not known to hear these sounds well: squeezebox;" in said.stdout
