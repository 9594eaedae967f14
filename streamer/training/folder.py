"""The folder of a run: what lies where, the checkpoint, the log."""

from __future__ import annotations

import csv
import io
import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from streamer.core import files
from streamer.errors import StreamerError

CHECKPOINT = "checkpoint.pt"
STATISTICS = "statistics.json"
LOG = "log.csv"
CURVES = "curves.png"
MODEL = "model"


@dataclass(slots=True)
class Epoch:
    """A row of the log."""

    epoch: int
    steps: int
    lr: float
    loss: float
    validation_loss: float | None = None
    map: float | None = None
    mean_auc: float | None = None
    d_prime: float | None = None
    top1: float | None = None
    top5: float | None = None
    best: bool = False
    """the model was kept, over those before"""


@contextmanager
def errors_for_people(path: Path) -> Iterator[None]:
    """Errors of writing become one line. Raises StreamerError."""
    try:
        yield
    except (
        OSError,
        RuntimeError,
        SafetensorError,
    ) as error:  # torch and safetensors raise errors of their own
        first = error.__context__ if isinstance(error.__context__, OSError) else error
        cause = getattr(first, "strerror", None) or first
        raise StreamerError(
            f"{path}: cannot be written: {cause}; what was written before is whole: mend it and use --resume"
        ) from error


def save_checkpoint(path: Path, values: dict[str, Any]) -> None:
    """All of it, or the one before stays. Raises StreamerError."""
    with errors_for_people(path), files.writing(path) as file:
        torch.save(values, file)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """None where there is none yet. Raises StreamerError."""
    if not path.exists():
        return None
    try:
        values: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise StreamerError(f"{path}: cannot be read; remove it to begin again") from error
    return values


def write_log(path: Path, history: Sequence[Epoch]) -> None:
    """A row an epoch; the whole file anew, so that a resumed run has no row twice."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(asdict(history[0]))
    for row in history:
        rows.writerow([f"{x:.6g}" if isinstance(x, float) else x for x in asdict(row).values()])
    files.write_text(path, text.getvalue())
