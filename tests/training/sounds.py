"""Clips to train on, synthesised, and the recipe of a model that learns them in seconds."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from streamer.data.synthesis import coloured_noise, siren, temporal_three, write_wav
from streamer.types import Samples

RATE = 16000
CLASSES = {"smoke_alarm": temporal_three, "siren": siren}


def noise(rng: np.random.Generator, seconds: float) -> Samples:
    return np.float32(0.003) * coloured_noise(rng, RATE, seconds, 1.0)


def sound(label: str, rng: np.random.Generator, seconds: float) -> Samples:
    """A sound of a class, one and the same device at varied levels, over noise."""
    clean = CLASSES[label](np.random.default_rng(5), RATE, seconds).samples
    return np.float32(rng.uniform(0.2, 0.6)) * clean + noise(rng, seconds)


def write_folder(root: Path, n: int = 3, seconds: float = 0.5) -> Path:
    """A folder for each class, with n clips."""
    rng = np.random.default_rng(0)
    for label in CLASSES:
        (root / label).mkdir(parents=True)
        for i in range(n):
            write_wav(root / label / f"{i}.wav", sound(label, rng, seconds), RATE)
    return root


def write_table(root: Path, n: int = 16) -> Path:
    """A CSV file: n clips of each class, n of noise without a label; every fourth is of fold 2."""
    rng = np.random.default_rng(1)
    root.mkdir(parents=True)
    table = root / "clips.csv"
    with table.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "labels", "fold", "licence"])
        for label in (*CLASSES, ""):
            for i in range(n):
                name = f"{label or 'noise'}-{i}.wav"
                samples = sound(label, rng, 1.0) if label else noise(rng, 1.0)
                write_wav(root / name, samples, RATE)
                rows.writerow([name, label, 2 if i % 4 == 0 else 1, "CC0-1.0"])
    return table


def recipe(output: Path, clips: Path, **changes: Any) -> dict[str, Any]:
    """A tiny AST with random weights and windows of one second, with all that draws random numbers."""
    values: dict[str, Any] = {
        "output": str(output),
        "data": {"train": {"path": str(clips)}, "validation_share": 0.3, "workers": 0},
        "architecture": {
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "frequency_stride": 16,
            "time_stride": 16,
            "initializer_range": 0.1,
            "hidden_dropout_prob": 0.1,
        },
        "max_length": 98,
        "epochs": 2,
        "batch": 2,
        "lr": 3e-3,
        "betas": [0.9, 0.98],
        "augment": {
            "gain_db": 6,
            "shift_s": 0.1,
            "mixup": 0.3,
            "time_mask": 10,
            "frequency_mask": 10,
            "noise_snr_db": [20, 50],
            "feature_noise": 0.1,
        },
    }
    return values | changes


def write_recipe(path: Path, values: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(values))
    return path
