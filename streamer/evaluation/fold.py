"""The clips of one fold of ESC-50: `labels.csv` and `audio/` in a folder."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path

from streamer.capture.windows import cut
from streamer.data.audio import decode
from streamer.errors import InputError
from streamer.inference.worker import Engine
from streamer.types import Samples, Scores

FOLD = 4
"""folds 1 to 3 train, and the fifth is kept for a final test"""


def read_rows(folder: Path) -> list[dict[str, str]]:
    """The table of the clips: file, fold, esc50_label, audioset_labels, audioset_exact. Raises InputError."""
    path = folder / "labels.csv"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error


def read_clips(
    folder: Path, rows: Iterable[dict[str, str]], rate: int
) -> Iterator[tuple[dict[str, str], Samples]]:
    """Rows of the table with their samples at `rate` Hertz, without those that cannot be decoded."""
    for row in rows:
        try:
            yield row, decode(folder / "audio" / row["file"], rate)
        except InputError:
            continue


def score_clip(engine: Engine, samples: Samples, rate: int) -> Scores:
    """The scores of the window that ends with a clip."""
    return engine.score(cut(samples, rate, engine.window_s, "clip")[-1:])[0]
