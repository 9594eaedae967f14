"""Which labels a clip has that nobody labelled for the purpose."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from streamer.data.synthesis import write_wav
from streamer.errors import InputError
from streamer.model.labels import AUDIOSET
from tools.truth import labels_of, rows


class Sure:
    """Scores a dog 0.8, a cow 0.2 and all else nothing."""

    def __init__(self) -> None:
        self.n_samples: list[int] = []

    def score(self, samples: np.ndarray) -> np.ndarray:
        self.n_samples.append(len(samples))
        scores = np.zeros(len(AUDIOSET), np.float32)
        scores[AUDIOSET.index("Dog")], scores[AUDIOSET.index("Moo")] = 0.8, 0.2
        return scores


def test_a_clip_has_what_is_certain_and_what_the_teacher_is_sure_of() -> None:
    """At 0.1 the teacher may be right; what is above a certain label may be true, too."""
    own, unsure = labels_of(Sure().score(np.zeros(1)), frozenset({"Piano"}))
    assert set(own) == {"Dog", "Piano"}
    assert {"Moo", "Keyboard (musical)", "Music"} <= set(unsure)
    assert not {"Dog", "Piano", "Siren"} & set(unsure)


def test_clips_of_named_sources(tmp_path: Path) -> None:
    """Only these, those that cannot be decoded left out, short ones repeated to three seconds."""
    write_wav(tmp_path / "a.wav", np.ones(32000, np.float32), 32000)
    with (tmp_path / "index.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "source_repo"])
        table.writerows([["a.wav", "one"], ["none.wav", "one"], ["a.wav", "two"]])
    teacher = Sure()
    found = list(rows(tmp_path / "index.csv", frozenset({"one"}), teacher))  # type: ignore[arg-type]
    assert [(row["labels"], row["source"]) for row in found] == [("Dog", "one")]
    assert found[0]["file"] == str(tmp_path / "a.wav")
    assert teacher.n_samples == [96000]
    with pytest.raises(InputError, match=r"other\.csv"):
        list(rows(tmp_path / "other.csv", frozenset(), teacher))  # type: ignore[arg-type]
