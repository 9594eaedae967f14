"""Scores over time: how exact they are, and the table that other programs read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from streamer.config.schema import Config
from streamer.data.synthesis import write_wav
from streamer.evaluation.events import SavedScores, Span, every_window, write_truth
from streamer.evaluation.frames import FRAMES, NEWEST, judge, write_scores
from streamer.run.offline import detect
from streamer.types import Scores, Window

RATE = 16000
CONFIG = Config.model_validate(
    {"sources": {"here": {"microphone": "default"}}, "sounds": {"tone": {"labels": ["Sine wave"]}}}
)


class Loudness:
    """A `Scorer` with one label, whose frames of 0.1 s score how loud they are."""

    labels = ("Sine wave",)
    window_s = 10.0

    def score(self, windows: Sequence[Window]) -> list[Scores]:
        found = []
        for w in windows:
            frames = np.abs(w.samples.reshape(100, -1)).max(axis=1, keepdims=True)
            found.append(Scores(w.source_id, w.index, w.start, w.end, frames.max(axis=0), frames, 0.1))
        return found


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Thirty seconds with a tone from 12 to 16 s."""
    samples = np.zeros(30 * RATE, np.float32)
    samples[12 * RATE : 16 * RATE] = 0.8 * np.sin(np.arange(4 * RATE) * 0.5)
    write_wav(tmp_path / "evening.wav", samples, RATE)
    write_truth(tmp_path / "evening.tsv", [Span("tone", 12.0, 16.0)])
    return tmp_path / "evening.wav"


def test_frames_say_when_and_windows_do_not(recording: Path) -> None:
    """Frames that follow the sound have average precision 1; the score of a window stays high after it."""
    found = judge([recording], CONFIG, Loudness())
    assert found[FRAMES]["tone"] == pytest.approx(1.0)
    assert found[NEWEST]["tone"] < 0.7


def test_scores_are_written_as_sed_scores_eval_reads_them(recording: Path, tmp_path: Path) -> None:
    """Rows of onset, offset and a column a sound, without a hole, smoothed as the detection has them."""
    (path,) = write_scores(tmp_path / "scores", [recording], CONFIG, Loudness())
    assert path.name == "evening-scores.tsv"
    header, *rows = [line.split("\t") for line in path.read_text().splitlines()]
    assert header == ["onset", "offset", "tone"]
    assert [row[0] for row in rows[1:]] == [row[1] for row in rows[:-1]]
    assert float(rows[-1][1]) == pytest.approx(30.0)
    loud = [float(onset) for onset, _, score in rows if float(score) > 0.4]
    assert (loud[0], loud[-1]) == pytest.approx((12.0, 15.96), abs=0.05)


def test_saved_scores_give_the_events_of_the_recording(recording: Path, tmp_path: Path) -> None:
    """A replay without audio has the same events at the same times, also from the file that was kept."""
    saved = SavedScores(Loudness(), CONFIG, tmp_path / "kept", "loudness")
    name = saved.keep(recording, CONFIG)
    detected = list(detect(recording, every_window(CONFIG), Loudness(), source_id=name))
    for scores in (saved, SavedScores(Loudness(), CONFIG, tmp_path / "kept", "loudness")):
        replayed = scores.replay(scores.keep(recording, CONFIG), CONFIG)
        assert [(e.phase, e.onset, e.offset, e.emitted_at) for e in replayed] == [
            (e.phase, e.onset, e.offset, e.emitted_at) for e in detected
        ]
        assert replayed[0].phase == "start"
