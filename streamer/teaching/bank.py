"""Other sounds, as embeddings: those that a model ships with, and those that the program makes."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from streamer.errors import ModelError
from streamer.types import Samples

FILE = "bank.npz"


def shipped(directory: Path, size: int) -> Samples | None:
    """(clips, 3, size) time steps of recordings, from a model's directory; None where it has none.

    Raises ModelError where the file is damaged.
    """
    path = directory / FILE
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            embeddings: Samples = file["embeddings"].astype(np.float32)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        raise ModelError(f"{path}: is damaged; add or pull the model again, or remove the file") from None
    if embeddings.ndim != 3 or embeddings.shape[-1] != size:
        raise ModelError(f"{path}: is of another model; remove the file")
    return embeddings


def write(directory: Path, embeddings: Samples) -> Path:
    path = directory / FILE
    np.savez_compressed(path, embeddings=embeddings.astype(np.float16))
    return path
