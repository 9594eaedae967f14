"""Training windows on disk: features, what sounds in them, and when.

A shard is a folder: `features.npy` (n, 998, 128) float16 log-mel energies, not normalised, and the events of
all its windows: `window.npy` (which window), `times.npy` (onset, offset), `targets.npy` (n_events, n_labels)
float16.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from streamer.core.files import put_directory
from streamer.data import clips
from streamer.data.mixtures import Ingredient, Mixer, sharpen
from streamer.data.teacher import Teacher
from streamer.errors import InputError
from streamer.model.fbank import Fbank, FbankConfig
from streamer.model.labels import AUDIOSET

SHARD = 1000
"""windows a shard"""
_EXACT, _NEAR = 0.95, 0.5

log = logging.getLogger(__name__)


def ingredients(found: Iterable[clips.Clip], teacher: Teacher) -> Iterator[Ingredient]:
    """Clips with their targets: what the teacher says of the clip alone, and what a person said."""
    index = {label: i for i, label in enumerate(AUDIOSET)}
    for clip in found:
        # The teacher was trained on ten seconds; a clip of a fraction of one says more when it comes again.
        repeats = max(1, 3 * clips.RATE // len(clip.samples))
        pause = np.zeros(clips.RATE // 5, np.float32)
        target = sharpen(teacher.score(np.tile(np.concatenate((0.5 * clip.samples, pause)), min(repeats, 6))))
        for label in clip.labels:
            target[index[label]] = max(target[index[label]], _EXACT if clip.exact else _NEAR)
        yield Ingredient(clip.samples, target)


def _write_shards(args: tuple[Path, Path, set[int], list[int]]) -> None:
    """One process's share."""
    data, out, folds, shards = args
    torch.set_num_threads(1)
    if 0 not in shards:  # every process reads all clips; one is enough to say which cannot be used
        logging.disable(logging.WARNING)
    teacher = Teacher(data / "teacher" / "mn04_as.onnx")
    labelled = list(ingredients(clips.esc50(data / "esc50-free", folds), teacher))
    unlabelled = list(ingredients(clips.unlabelled(data / "more-free"), teacher))
    rooms = clips.room_responses(data / "more-free" / "rir")
    index = {label: i for i, label in enumerate(AUDIOSET)}
    fbank = Fbank(FbankConfig())
    for shard in shards:
        final = out / f"shard-{shard:03d}"
        if final.exists():
            continue
        mixer = Mixer(labelled, unlabelled, rooms, index, np.random.default_rng(shard))
        features = np.empty((SHARD, 998, 128), np.float16)
        window: list[int] = []
        times: list[tuple[float, float]] = []
        targets: list[npt.NDArray[np.float16]] = []
        for i in range(SHARD):
            mixture = mixer.draw()
            features[i] = fbank.frames(torch.from_numpy(mixture.samples)[None], clips.RATE)[0].numpy()
            for event in mixture.events:
                window.append(i)
                times.append((event.onset, event.offset))
                targets.append(event.target.astype(np.float16))
        partial = out / f"partial-{os.getpid()}"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        np.save(partial / "features.npy", features)
        np.save(partial / "window.npy", np.asarray(window, np.int32))
        np.save(partial / "times.npy", np.asarray(times, np.float32).reshape(-1, 2))
        np.save(partial / "targets.npy", np.asarray(targets, np.float16).reshape(-1, len(AUDIOSET)))
        put_directory(partial, final)
        log.info("%s: %d windows, %d events", final, SHARD, len(window))


def make_pool(data: Path, out: Path, *, shards: int, folds: set[int], processes: int) -> None:
    """Write `shards` shards of 1000 windows under `out`; what is there already is kept.

    `data` holds `esc50-free`, `more-free` and `teacher`. Raises InputError where one is missing.
    """
    out.mkdir(parents=True, exist_ok=True)
    if all((out / f"shard-{k:03d}").exists() for k in range(shards)):
        return
    missing = [name for name in ("esc50-free", "more-free", "teacher") if not (data / name).is_dir()]
    if missing:
        raise InputError(f"{data}: no {', '.join(missing)} in it: see docs/training.md for what is needed")
    shares = [(data, out, folds, list(range(shards))[k::processes]) for k in range(processes)]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        pool.map(_write_shards, shares)


class Pool:
    """Random batches of windows. Raises FileNotFoundError where there are no shards."""

    def __init__(self, folder: Path) -> None:
        self.shards: list[tuple[npt.NDArray[Any], ...]] = []
        for path in sorted(folder.glob("shard-*")):
            window = np.load(path / "window.npy")
            features = np.load(path / "features.npy", mmap_mode="r")
            bounds = np.searchsorted(window, np.arange(len(features) + 1))
            times = np.load(path / "times.npy")
            targets = np.load(path / "targets.npy", mmap_mode="r")
            self.shards.append((features, bounds, times, targets))
        if not self.shards:
            raise FileNotFoundError(f"{folder}: no shards; make the pool first")

    def batch(
        self, rng: np.random.Generator, n: int, steps: int, step_s: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(n, 998, 128) log-mel, (n, n_labels) of the window, (n, steps, n_labels) of its time steps."""
        features, clip, frames = [], torch.zeros(n, len(AUDIOSET)), torch.zeros(n, steps, len(AUDIOSET))
        begin = torch.arange(steps) * step_s
        for i in range(n):
            x, bounds, times, targets = self.shards[int(rng.integers(len(self.shards)))]
            k = int(rng.integers(len(x)))
            features.append(torch.from_numpy(x[k].astype(np.float32)))
            for e in range(bounds[k], bounds[k + 1]):
                onset, offset = float(times[e, 0]), float(times[e, 1])
                target = torch.from_numpy(targets[e].astype(np.float32))
                # Half a step is enough to count in full: short barks would else never be asked for.
                overlap = torch.clamp_min(
                    torch.clamp_max(begin + step_s, offset) - torch.clamp_min(begin, onset), 0
                )
                share = (2 * overlap / step_s).clamp_max(1)
                frames[i] = torch.maximum(frames[i], share[:, None] * target)
                clip[i] = torch.maximum(clip[i], min(1.0, (offset - onset) / 0.2) * target)
        return torch.stack(features), clip, frames
