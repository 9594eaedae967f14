"""Mean and standard deviation of the features of a data set, and which of its clips cannot be used.

The published way: over the log-mel energies of whole windows before normalisation, padding included.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeAlias

import torch
from torch.utils.data import Dataset

from streamer.core.files import write_text
from streamer.data.examples import Example
from streamer.errors import InputError, UsageError
from streamer.model import manifest
from streamer.model.config import PREPROCESSOR, FbankConfig
from streamer.training.dataset import Clips, loader
from streamer.training.progress import Progress

Measure: TypeAlias = tuple[float, float, int] | str
"""sum, sum of squares and number of a clip's energies, or why it cannot be used"""


@dataclass(frozen=True)
class Statistics:
    n_clips: int
    mean: float
    std: float
    skipped: dict[int, str]
    """by the example's number: why it cannot be used"""


def measure(
    examples: Sequence[Example], config: FbankConfig, *, short: str, workers: int, bar: Progress
) -> Statistics:
    """Read every clip once. Raises InputError where not one of them can be used."""
    measures = _Measures(Clips(examples, (), replace(config, do_normalize=False), short=short, seed=0))
    total, squares, n, skipped = 0.0, 0.0, 0, {}
    bar.begin("reading clips", len(examples))
    for i, found in enumerate(loader(measures, min(workers, len(examples)), batch_size=None)):
        if isinstance(found, str):
            skipped[i] = found
        else:
            total, squares, n = total + found[0], squares + found[1], n + found[2]
        bar.advance(1)
    bar.end()
    if not n:
        raise InputError(f"not one of {len(examples)} clips can be used: {next(iter(skipped.values()))}")
    mean = total / n
    return Statistics(len(examples), mean, max(squares / n - mean * mean, 0.0) ** 0.5, skipped)


class _Measures(Dataset[Measure]):
    def __init__(self, clips: Clips) -> None:
        self._clips = clips

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, i: int) -> Measure:
        try:
            energies = self._clips.features(self._clips.window(i, None)).to(torch.float64)
        except InputError as error:
            return str(error)
        return float(energies.sum()), float(energies.square().sum()), energies.numel()


def save_statistics(path: Path, statistics: Statistics, of: str) -> None:
    """Keep what was measured on the clips with the fingerprint `of`."""
    write_text(path, json.dumps({"of": of, **asdict(statistics)}, indent=2) + "\n")


def load_statistics(path: Path, of: str) -> Statistics | None:
    """What was measured on these very clips, if it was kept."""
    try:
        values = json.loads(path.read_bytes())
        skipped = {int(i): str(reason) for i, reason in values["skipped"].items()}
        kept = Statistics(int(values["n_clips"]), float(values["mean"]), float(values["std"]), skipped)
    except (OSError, ValueError, KeyError):
        return None
    return kept if values["of"] == of else None


def write_preprocessor(directory: Path, statistics: Statistics) -> Path:
    """Put mean and std into a model directory's preprocessor_config.json; the rest of it stays.

    Raises UsageError for a model that was pulled or added: its files are held to what they were.
    """
    if manifest.read(directory) is not None:
        raise UsageError(f"{directory}: was pulled or added and stays as it came; write into a copy of it")
    path = directory / PREPROCESSOR
    values = json.loads(path.read_bytes()) | {"mean": statistics.mean, "std": statistics.std}
    write_text(path, json.dumps(values, indent=2) + "\n")
    return path
