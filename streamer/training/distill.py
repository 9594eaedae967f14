"""Trains a small AST with a frame head from random weights on a pool of windows.

One process a core, each with one thread: gradients meet by all-reduce, so that no core waits at OpenMP's
barriers.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.multiprocessing.spawn import start_processes

from streamer.model.ast import AST, ASTConfig
from streamer.model.fbank import FRAME_S, FbankConfig
from streamer.model.labels import AUDIOSET

log = logging.getLogger(__name__)

DB = math.log(10) / 10
"""one decibel, in the natural logarithm of power"""
SILENCE = math.log(torch.finfo(torch.float32).eps)
"""what fbank gives for digital silence"""
GRADIENT_NORM = 5.0
SAVE_S = 240.0
"""seconds between checkpoints"""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what comes out."""

    hidden_size: int = 192
    depth: int = 6
    heads: int = 3
    stride: int = 16
    batch: int = 16
    """windows a step and process"""
    minutes: float = 100.0
    """when to be done: rate and patch drop follow the share of it that is over"""
    optimizer: str = "muon"
    """muon (Jordan et al. 2024; matrices of the trunk) or adamw, for all"""
    muon_lr: float = 2e-3
    adamw_lr: float = 8e-4
    weight_decay: float = 0.05
    warm_up: float = 0.02
    """share of the time"""
    ema: float = 0.999
    keep_rows: tuple[tuple[float, int], ...] = ((0.0, 3), (0.45, 4), (0.88, 8))
    """from which share of the time on, how many of the eight frequency rows are kept at each time step"""
    mixup: float = 0.4
    frame_weight: float = 1.0
    seed: int = 1


class Pool:
    """Random batches of windows; shards that are written meanwhile join in."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.rng = folder, np.random.default_rng(seed)
        self.shards: dict[str, tuple[np.ndarray, ...]] = {}

    def refresh(self) -> None:
        for path in sorted(self.folder.glob("shard-*")):
            if path.name not in self.shards:
                window = np.load(path / "window.npy")
                features = np.load(path / "features.npy", mmap_mode="r")
                bounds = np.searchsorted(window, np.arange(len(features) + 1))
                times = np.load(path / "times.npy")
                targets = np.load(path / "targets.npy", mmap_mode="r")
                self.shards[path.name] = (features, bounds, times, targets)
        if not self.shards:
            raise FileNotFoundError(f"{self.folder}: no shards; make the pool first")

    def batch(self, n: int, steps: int, step_s: float) -> tuple[Tensor, Tensor, Tensor]:
        """(n, 998, 128) log-mel, (n, n_labels) of the window, (n, steps, n_labels) of its time steps."""
        names = sorted(self.shards)
        features, clip, frames = [], torch.zeros(n, len(AUDIOSET)), torch.zeros(n, steps, len(AUDIOSET))
        begin = torch.arange(steps) * step_s
        for i in range(n):
            x, bounds, times, targets = self.shards[names[int(self.rng.integers(len(names)))]]
            k = int(self.rng.integers(len(x)))
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


def augment(
    x: Tensor, clip: Tensor, frames: Tensor, rng: np.random.Generator, mixup: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Changes of level, colour, pitch and completeness, in the domain of the features."""
    n, n_frames, n_mels = x.shape
    if rng.random() < mixup:  # the sum of two windows: energies add
        other = torch.from_numpy(rng.permutation(n))
        gain = torch.from_numpy(rng.uniform(-10, 5, (n, 1, 1))).float() * DB
        x = torch.logaddexp(x, x[other] + gain)
        clip, frames = torch.maximum(clip, clip[other]), torch.maximum(frames, frames[other])
    knots = torch.from_numpy(rng.normal(0, 3.0, (n, 1, 6))).float() * DB
    colour = F.interpolate(knots, n_mels, mode="linear", align_corners=True)
    level = torch.from_numpy(rng.uniform(-10, 7, (n, 1, 1))).float() * DB
    silent = x <= SILENCE + 0.01
    x = torch.where(silent, SILENCE, (x + colour + level).clamp_min(SILENCE))
    for i in range(n):
        shift = int(rng.integers(-4, 5))
        if shift:
            x[i] = torch.roll(x[i], shift, dims=1)
            edge = x[i, :, shift : shift + 1] if shift > 0 else x[i, :, shift - 1 : shift]
            x[i, :, :shift] = edge if shift > 0 else x[i, :, :shift]
            if shift < 0:
                x[i, :, shift:] = edge
        if rng.random() < 0.5:
            width, at = int(rng.integers(4, 25)), int(rng.integers(0, n_mels - 4))
            x[i, :, at : at + width] = x[i].mean()
        if rng.random() < 0.3:
            width, at = int(rng.integers(5, 60)), int(rng.integers(0, n_frames - 5))
            x[i, at : at + width] = x[i].mean()
        if rng.random() < 0.04:  # a clip shorter than the window, padded as feature extractors pad
            x[i, int(rng.integers(200, 900)) :] = 0
            # what stands in the padded part cannot be asked for; the frames say where the rest is
            last = int((x[i].abs().sum(dim=1) > 0).sum().item() / n_frames * frames.shape[1])
            frames[i, last:] = 0
            clip[i] = frames[i].amax(dim=0)
    return x, clip, frames


def batches(
    pool: Path, recipe: Recipe, rank: int, steps: int, step_s: float
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    source = Pool(pool, recipe.seed * 1000 + rank)
    rng = np.random.default_rng(recipe.seed * 1000 + 500 + rank)
    fbank = FbankConfig()
    n = 0
    while True:
        if n % 200 == 0:
            source.refresh()
        n += 1
        x, clip, frames = augment(*source.batch(recipe.batch, steps, step_s), rng, recipe.mixup)
        x = F.pad(x, (0, 0, 0, fbank.max_length - x.shape[1]))
        yield (x - fbank.mean) / (2 * fbank.std), clip, frames


def model_config(recipe: Recipe) -> ASTConfig:
    return ASTConfig(
        hidden_size=recipe.hidden_size,
        num_hidden_layers=recipe.depth,
        num_attention_heads=recipe.heads,
        intermediate_size=4 * recipe.hidden_size,
        frequency_stride=recipe.stride,
        time_stride=recipe.stride,
        id2label=dict(enumerate(AUDIOSET)),
        frame_head=True,
    )


def optimizers(model: AST, recipe: Recipe) -> list[torch.optim.Optimizer]:
    matrices = [p for p in model.blocks.parameters() if p.ndim == 2 and recipe.optimizer == "muon"]
    chosen = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    adamw = torch.optim.AdamW(
        [
            {"params": [p for p in rest if p.ndim >= 2], "weight_decay": recipe.weight_decay},
            {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=recipe.adamw_lr,
        betas=(0.9, 0.98),
    )
    if not matrices:
        return [adamw]
    return [
        torch.optim.Muon(
            matrices, lr=recipe.muon_lr, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw"
        ),
        adamw,
    ]


def _rate(progress: float, warm_up: float) -> float:
    """The share of the full learning rate: up in a line, down along a cosine."""
    if progress < warm_up:
        return progress / warm_up
    return max(0.0, 0.5 + 0.5 * math.cos(math.pi * (progress - warm_up) / (1 - warm_up)))


class _Trainer:
    """One process's share of the training: its copy of the model, its windows, its half of each gradient."""

    def __init__(self, rank: int, world: int, pool: Path, out: Path, recipe: Recipe) -> None:
        torch.manual_seed(recipe.seed)
        self.rank, self.world, self.recipe = rank, world, recipe
        self.checkpoint = out / "checkpoint.pt"
        self.model = AST(model_config(recipe))
        self.model.start_from_scratch()
        self.parameters = list(self.model.parameters())
        self.average = [p.detach().clone() for p in self.parameters]
        self.optimizers = optimizers(self.model, recipe)
        self.rates = [[g["lr"] for g in opt.param_groups] for opt in self.optimizers]
        self.step, self.spent_s = 0, 0.0
        if self.checkpoint.exists():
            self._resume()
        self.rows, self.steps = self.model.config.grid
        self.generator = torch.Generator().manual_seed(recipe.seed * 7919 + rank + self.step)
        step_s = recipe.stride * FRAME_S
        self.feed = batches(pool, recipe, rank + 10 * self.step, self.steps, step_s)
        self.losses: list[tuple[float, float]] = []

    def run(self) -> None:
        started, saved = time.monotonic() - self.spent_s, time.monotonic()
        while True:
            # All processes must agree on the time, or one would stop while another waits for it.
            now = torch.tensor([time.monotonic() - started])
            dist.broadcast(now, 0)
            self.spent_s = now.item()
            progress = self.spent_s / 60 / self.recipe.minutes
            if progress >= 1:
                break
            self._set_rates(progress)
            self.losses.append(self._one_step(progress))
            if self.rank == 0 and self.step % 50 == 0:
                self._report(progress)
            if self.rank == 0 and time.monotonic() - saved > SAVE_S:
                saved = time.monotonic()
                self._save()
        if self.rank == 0:
            self._save()

    def _set_rates(self, progress: float) -> None:
        for opt, rates in zip(self.optimizers, self.rates, strict=True):
            for group, rate in zip(opt.param_groups, rates, strict=True):
                group["lr"] = rate * _rate(progress, self.recipe.warm_up)

    def _one_step(self, progress: float) -> tuple[float, float]:
        """Losses of the window and of its time steps, a window's sum over the labels."""
        x, clip, frames = next(self.feed)
        k = next(n for share, n in reversed(self.recipe.keep_rows) if progress >= share)
        keep = None
        if k < self.rows:
            order = torch.rand(len(x), self.rows, self.steps, generator=self.generator).argsort(dim=1)
            keep = order[:, :k]
        with torch.autocast("cpu", torch.bfloat16):
            logits, frame_logits = self.model(x, keep)
        clip_loss = F.binary_cross_entropy_with_logits(logits.float(), clip, reduction="sum") / len(x)
        frame_loss = F.binary_cross_entropy_with_logits(frame_logits.float(), frames, reduction="sum")
        frame_loss = frame_loss / (len(x) * self.steps)
        torch.autograd.backward(clip_loss + self.recipe.frame_weight * frame_loss)
        self._share_gradients()
        for opt in self.optimizers:
            opt.step()
            opt.zero_grad()
        self.step += 1
        decay = min(self.recipe.ema, self.step / (self.step + 20))
        torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], 1 - decay)
        return clip_loss.item(), frame_loss.item()

    def _share_gradients(self) -> None:
        """The mean over the processes, no longer than GRADIENT_NORM."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        flat /= self.world
        flat *= min(1.0, GRADIENT_NORM / (flat.norm().item() + 1e-6))
        for gradient, part in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def _report(self, progress: float) -> None:
        clip, frames = np.mean(self.losses, axis=0)
        self.losses.clear()
        rate = self.step * self.recipe.batch * self.world / self.spent_s
        log.info(
            "step %d  %.1f %%  clip %.3f  frames %.3f  %.0f windows/s",
            *(self.step, 100 * progress, clip, frames, rate),
        )

    def _resume(self) -> None:
        state = torch.load(self.checkpoint, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average = state["average"]
        for opt, opt_state in zip(self.optimizers, state["optimizers"], strict=True):
            opt.load_state_dict(opt_state)
        self.step, self.spent_s = state["step"], state["spent_s"]

    def _save(self) -> None:
        partial = self.checkpoint.with_suffix(".partial")
        state = {
            "model": self.model.state_dict(),
            "average": self.average,
            "optimizers": [opt.state_dict() for opt in self.optimizers],
            "step": self.step,
            "spent_s": self.spent_s,
        }
        torch.save(state, partial)
        partial.replace(self.checkpoint)  # at once: a kill in the middle leaves the checkpoint before


def _train(rank: int, world: int, pool: Path, out: Path, recipe: Recipe, port: int) -> None:
    logging.basicConfig(
        level=logging.INFO if rank == 0 else logging.WARNING, format="%(asctime)s %(message)s"
    )
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=world)
    try:
        _Trainer(rank, world, pool, out, recipe).run()
    finally:
        dist.destroy_process_group()


def averaged(checkpoint: Path, recipe: Recipe) -> AST:
    """The model with the averaged weights of a checkpoint."""
    state = torch.load(checkpoint, weights_only=True)
    model = AST(model_config(recipe))
    with torch.no_grad():
        for p, value in zip(model.parameters(), state["average"], strict=True):
            p.copy_(value)
    return model.eval()


def train(pool: Path, out: Path, recipe: Recipe, *, processes: int, port: int = 29500) -> None:
    """Train until the recipe's time is over; goes on from `out/checkpoint.pt` where there is one."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "recipe.json").write_text(json.dumps(asdict(recipe), indent=2) + "\n")
    start_processes(  # type: ignore[no-untyped-call]  # torch does not say
        _train, (processes, pool, out, recipe, port), nprocs=processes, start_method="spawn"
    )
