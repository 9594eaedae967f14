"""A fold of labelled clips is named by a tagger, and judged."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from streamer.data.synthesis import write_wav
from streamer.model.labels import AUDIOSET
from tools.esc50 import evaluate_fold

RATE = 16000


def test_a_tagger_that_knows_is_right(tmp_path: Path) -> None:
    """Loud clips are dogs, faint ones cats: the tagger says so for the asked fold alone."""
    (tmp_path / "audio").mkdir()
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "esc50_label", "audioset_labels", "audioset_exact", "fold"])
        for i, (label, name, level) in enumerate([("dog", "Bark", 0.5), ("cat", "Meow", 0.1)] * 2):
            write_wav(tmp_path / "audio" / f"{i}.wav", np.full(RATE, level, np.float32), RATE)
            rows.writerow([f"{i}.wav", label, name, 1, 4 if i < 2 else 1])
    seen: list[float] = []

    def tagger(samples: np.ndarray) -> np.ndarray:
        seen.append(float(samples.max()))
        scores = np.zeros(len(AUDIOSET), np.float32)
        scores[AUDIOSET.index("Bark" if samples.max() > 0.3 else "Meow")] = 0.9
        return scores

    result = evaluate_fold(tmp_path, 4, tagger, RATE, AUDIOSET)

    assert len(seen) == result.n_clips == 2
    assert (result.mean_average_precision, result.top1, result.group_accuracy) == (1.0, 1.0, 1.0)
