"""Crops on disk between those who make them and the one who trains on them.

A shard is a folder of crops of one length: `features.npy` (n, n_frames, 128) float16 log-mel energies, not
normalised, and what is asked for: `crop.npy` (n, n_labels), `frames.npy` (n, steps, n_labels), `teacher.npy`
(n, n_features) the teacher's vector, all float16. Its name says its number and its length: `0000017-31`.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from streamer.data import clips, crops, paths
from streamer.data.clips import Entry, room_responses
from streamer.data.teacher import Teacher
from streamer.errors import InputError
from streamer.model.config import FbankConfig
from streamer.model.fbank import Fbank

SHARD = 256
"""crops a shard"""
LENGTHS = (13, 19, 25, 31)
"""time steps: 2 to 5 s"""
PLAN = "plan.json"
"""in the pool: the share of the crops that shall be whole windows"""
_PATIENCE_S = 1.0


@dataclass(frozen=True, slots=True)
class Making:
    """What makers of crops need to know."""

    data: Path
    pieces: Path
    pool: Path
    entries: Sequence[Entry]
    shares: dict[str, float]
    most: int
    """shards that may lie there at a time"""
    seed: int


def make(maker: int, n_makers: int, making: Making) -> None:
    """Fill the pool, and fill it again as shards are used up, until the process is ended."""
    torch.set_num_threads(1)
    teacher = Teacher(making.data / "teacher" / "mn04_as.onnx")
    stock = crops.Stock(clips.load(making.entries, making.pieces), making.shares)
    rooms = room_responses(making.data / "more-free" / "rir")
    fbank = Fbank(FbankConfig())
    for path in making.pool.glob(f"partial-{maker}-*"):
        shutil.rmtree(path)
    parent = os.getppid()
    while os.getppid() == parent:
        if len(shards(making.pool)) >= making.most:
            time.sleep(_PATIENCE_S)
            continue
        number = _next_number(making.pool, maker, n_makers)
        rng = np.random.default_rng((making.seed, number))
        steps = crops.WHOLE if rng.random() < _share_of_whole(making.pool) else int(rng.choice(LENGTHS))
        write_shard(making.pool, number, steps, crops.Mixer(stock, rooms, rng), teacher, fbank, maker)


def write_shard(
    pool: Path, number: int, steps: int, mixer: crops.Mixer, teacher: Teacher, fbank: Fbank, maker: int = 0
) -> None:
    partial = pool / f"partial-{maker}-{number}"
    partial.mkdir(parents=True, exist_ok=True)
    features, crop_targets, frame_targets, vectors = [], [], [], []
    for _ in range(SHARD):
        crop = mixer.draw(steps)
        scores, vector = teacher.listen(crop.samples)
        wanted, when = crops.targets(scores, crop.parts, steps)
        features.append(fbank.frames(torch.from_numpy(crop.heard)[None], paths.RATE)[0].numpy())
        crop_targets.append(wanted)
        frame_targets.append(when)
        vectors.append(vector)
    for name, values in (
        ("features", features),
        ("crop", crop_targets),
        ("frames", frame_targets),
        ("teacher", vectors),
    ):
        np.save(partial / f"{name}.npy", np.stack(values).astype(np.float16))
    partial.rename(pool / f"{number:07d}-{steps}")


def shards(pool: Path) -> list[Path]:
    return sorted(pool.glob("[0-9]*-*"))


def _next_number(pool: Path, maker: int, n_makers: int) -> int:
    """No number comes twice, also where a training goes on: it is the seed of what is drawn."""
    path = pool / f"maker-{maker}"
    number = int(path.read_text()) + n_makers if path.exists() else maker
    path.write_text(str(number))
    return number


def plan(pool: Path, share_of_whole: float) -> None:
    """Tell the makers what is wanted next."""
    partial = pool / f"{PLAN}.partial"
    partial.write_text(json.dumps({"whole": share_of_whole}))
    partial.replace(pool / PLAN)


def _share_of_whole(pool: Path) -> float:
    try:
        return float(json.loads((pool / PLAN).read_text())["whole"])
    except (OSError, ValueError, KeyError):
        return 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    features: Tensor
    """(n, n_frames, 128) log-mel energies"""
    crop: Tensor
    """(n, n_labels) targets"""
    frames: Tensor
    """(n, steps, n_labels) targets"""
    vectors: Tensor
    """(n, n_features) of the teacher"""
    steps: int


class Pool:
    """Batches from the shards that were used least.

    A shard that was used `passes` times makes room for the next where `fewest` others are there.
    """

    def __init__(self, folder: Path, passes: int, fewest: int) -> None:
        self._folder, self._passes, self._fewest = folder, passes, fewest
        self._used: Counter[str] = Counter()

    def batches(self, rng: np.random.Generator, n: int, *, whole: bool) -> Iterator[Batch]:
        """One pass over one shard; waits for the makers where there is none. Raises InputError."""
        path = self._choose(rng, whole=whole)
        steps = int(path.name.split("-")[1])
        arrays = [np.load(path / f"{name}.npy", mmap_mode="r") for name in _ARRAYS]
        order = rng.permutation(len(arrays[0]))
        for begin in range(0, len(order) - n + 1, n):
            rows = np.sort(order[begin : begin + n])
            x, crop, frames, vectors = (torch.from_numpy(a[rows].astype(np.float32)) for a in arrays)
            yield Batch(x, crop, frames, vectors, steps)
        self._used[path.name] += 1
        if self._used[path.name] >= self._passes and len(shards(self._folder)) > self._fewest:
            shutil.rmtree(path)
            del self._used[path.name]

    def _choose(self, rng: np.random.Generator, *, whole: bool) -> Path:
        deadline = time.monotonic() + 600
        while time.monotonic() < deadline:
            found = [path for path in shards(self._folder) if path.name.endswith(f"-{crops.WHOLE}") == whole]
            if len(found) > 0:
                fewest = min(self._used[path.name] for path in found)
                least = [path for path in found if self._used[path.name] == fewest]
                return least[int(rng.integers(len(least)))]
            time.sleep(_PATIENCE_S)
        raise InputError(f"{self._folder}: nothing came in ten minutes")


_ARRAYS = ("features", "crop", "frames", "teacher")
