"""Trains a small AST with a frame head from random weights on a pool of windows.

One process a core, each with one thread, so that no core waits at OpenMP's barriers: they are on one machine,
and their gradients meet in shared memory.
"""

from __future__ import annotations

import csv
import math
import time
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

import numpy as np
import torch
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import Tensor
from torch.multiprocessing.spawn import ProcessRaisedException, start_processes

from streamer.data import clips
from streamer.errors import StreamerError
from streamer.model.ast import AST, ASTConfig
from streamer.model.checkpoint import save
from streamer.model.fbank import FRAME_S, FbankConfig
from streamer.model.labels import AUDIOSET
from streamer.training.card import ATTRIBUTION
from streamer.training.folder import CHECKPOINT, LOG, MODEL, load_checkpoint, save_checkpoint
from streamer.training.pool import Pool, make_pool
from streamer.training.progress import Watch
from streamer.training.settings import DistillSettings

DB = math.log(10) / 10
"""one decibel, in the natural logarithm of power"""
SILENCE = math.log(torch.finfo(torch.float32).eps)
"""what fbank gives for digital silence"""
GRADIENT_NORM = 5.0
SAVE_S = 240.0
"""seconds between checkpoints"""
REPORT_STEPS = 50
"""steps between rows of the log"""


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


def model_config(recipe: DistillSettings) -> ASTConfig:
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


def optimizers(model: AST, recipe: DistillSettings) -> list[torch.optim.Optimizer]:
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


class _Meeting:
    """Where the processes of a training meet. Each must come to each meeting, or the others wait.

    Not torch.distributed: what the threads of its gloo backend still hold when a process ends now and then
    aborts the process.
    """

    def __init__(self, world: int, n: int) -> None:
        self._rows = torch.zeros(world, n).share_memory_()  # type: ignore[no-untyped-call]  # torch does not say
        self._barrier = mp.get_context("spawn").Barrier(world)

    def mean(self, rank: int, row: Tensor) -> Tensor:
        """The mean of the rows (n,) that the processes bring; the same to the bit for all."""
        self._rows[rank] = row
        self._barrier.wait()
        mean: Tensor = self._rows.mean(dim=0)
        self._barrier.wait()  # nobody writes the next row while another still reads
        return mean


class _Trainer:
    """One process's share of the training: its copy of the model, its windows, its part of each gradient."""

    def __init__(self, rank: int, meeting: _Meeting, pool: Path, out: Path, recipe: DistillSettings) -> None:
        torch.manual_seed(recipe.seed)
        self.rank, self.meeting, self.recipe = rank, meeting, recipe
        self.checkpoint, self.log = out / CHECKPOINT, out / LOG
        self.model = AST(model_config(recipe))
        self.model.start_from_scratch()
        self.parameters = list(self.model.parameters())
        self.average = [p.detach().clone() for p in self.parameters]
        self.optimizers = optimizers(self.model, recipe)
        self.rates = [[g["lr"] for g in opt.param_groups] for opt in self.optimizers]
        self.step = 0
        self._resume()
        self.rows, self.steps = self.model.config.grid
        self.fbank, self.pool = FbankConfig(), Pool(pool)
        self.losses: list[tuple[float, float]] = []

    def run(self, steps_done: Synchronized[int]) -> None:
        started = saved = time.monotonic()
        first = self.step
        while self.step < self.recipe.steps:
            self.losses.append(self._one_step(self.step / self.recipe.steps))
            self.step += 1
            if self.rank:
                continue
            steps_done.value = self.step
            if self.step % REPORT_STEPS == 0:
                self._report((self.step - first) / (time.monotonic() - started))
            if time.monotonic() - saved > SAVE_S:
                saved = time.monotonic()
                self._save()
        if self.rank == 0:
            self._save()

    def _batch(self, k: int) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Features, targets of the windows and their time steps, and the k rows of patches to keep.

        Drawn from the step's number alone: a training that goes on draws what it would have drawn.
        """
        recipe = self.recipe
        rng = np.random.default_rng((recipe.seed, self.rank, self.step))
        drawn = self.pool.batch(rng, recipe.batch, self.steps, recipe.stride * FRAME_S)
        x, clip, frames = augment(*drawn, rng, recipe.mixup)
        x = F.pad(x, (0, 0, 0, self.fbank.max_length - x.shape[1]))
        x = (x - self.fbank.mean) / (2 * self.fbank.std)
        if k >= self.rows:
            return x, clip, frames, None
        order = rng.random((len(x), self.rows, self.steps)).argsort(axis=1)
        return x, clip, frames, torch.from_numpy(order[:, :k])

    def _one_step(self, progress: float) -> tuple[float, float]:
        """Losses of the window and of its time steps, a window's sum over the labels."""
        k = next(int(n) for share, n in reversed(self.recipe.keep_rows) if progress >= share)
        x, clip, frames, keep = self._batch(k)
        with torch.autocast("cpu", torch.bfloat16):
            logits, frame_logits = self.model(x, keep)
        clip_loss = F.binary_cross_entropy_with_logits(logits.float(), clip, reduction="sum") / len(x)
        frame_loss = F.binary_cross_entropy_with_logits(frame_logits.float(), frames, reduction="sum")
        frame_loss = frame_loss / (len(x) * self.steps)
        torch.autograd.backward(clip_loss + self.recipe.frame_weight * frame_loss)
        self._share_gradients()
        rate = _rate(progress, self.recipe.warm_up)
        for opt, full in zip(self.optimizers, self.rates, strict=True):
            for group, full_rate in zip(opt.param_groups, full, strict=True):
                group["lr"] = rate * full_rate
            opt.step()
            opt.zero_grad()
        decay = min(self.recipe.ema, (self.step + 1) / (self.step + 21))
        torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], 1 - decay)
        return clip_loss.item(), frame_loss.item()

    def _share_gradients(self) -> None:
        """Each becomes the mean over the processes, all together no longer than GRADIENT_NORM."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        flat = self.meeting.mean(self.rank, torch.cat([gradient.flatten() for gradient in gradients]))
        flat *= min(1.0, GRADIENT_NORM / (flat.norm().item() + 1e-6))
        for gradient, part in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def _report(self, steps_s: float) -> None:
        clip, frames = np.mean(self.losses, axis=0)
        self.losses.clear()
        if not self.log.exists():
            self.log.write_text("step,clip_loss,frame_loss,windows_s\n")
        windows_s = steps_s * self.recipe.batch * self.recipe.processes
        with self.log.open("a") as file:
            file.write(f"{self.step},{clip:.4f},{frames:.4f},{windows_s:.1f}\n")

    def _resume(self) -> None:
        state = load_checkpoint(self.checkpoint)
        if state is None:
            return
        self.model.load_state_dict(state["model"])
        self.average = state["average"]
        for opt, opt_state in zip(self.optimizers, state["optimizers"], strict=True):
            opt.load_state_dict(opt_state)
        self.step = state["step"]

    def _save(self) -> None:
        state = {
            "model": self.model.state_dict(),
            "average": self.average,
            "optimizers": [opt.state_dict() for opt in self.optimizers],
            "step": self.step,
        }
        save_checkpoint(self.checkpoint, state)


def _train(
    rank: int,
    meeting: _Meeting,
    steps_done: Synchronized[int],
    pool: Path,
    out: Path,
    recipe: DistillSettings,
) -> None:
    torch.set_num_threads(1)
    _Trainer(rank, meeting, pool, out, recipe).run(steps_done)


def distill(recipe: DistillSettings, *, resume: bool, watch: Watch) -> Path:
    """Mix the pool, train for the recipe's steps, and write the model directory.

    What is in OUTPUT/pool already is used. Without `resume`, a training begins anew. Raises StreamerError.
    """
    out = recipe.output
    pool, checkpoint = out / "pool", out / CHECKPOINT
    watch.say(f"mixing {recipe.shards} thousand windows into {pool}")
    make_pool(recipe.data, pool, shards=recipe.shards, folds=set(recipe.folds), processes=recipe.processes)
    if not resume:
        checkpoint.unlink(missing_ok=True)
        (out / LOG).unlink(missing_ok=True)
    watch.say(f"training for {recipe.steps} steps; the loss is in {out / LOG}")
    _run_processes(pool, recipe, watch)
    model = out / MODEL
    save(model, averaged(checkpoint, recipe), FbankConfig())
    with (model / ATTRIBUTION).open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["file", "licence", "author", "title or link"])
        rows.writerows(clips.credits(recipe.data, set(recipe.folds)))
    return model


def _run_processes(pool: Path, recipe: DistillSettings, watch: Watch) -> None:
    """Train in processes of their own, and tell the watch how far they are. Raises StreamerError."""
    steps_done = mp.get_context("spawn").Value("i", 0)
    n_parameters = sum(p.numel() for p in AST(model_config(recipe)).parameters())
    meeting = _Meeting(recipe.processes, n_parameters)
    processes = start_processes(  # type: ignore[no-untyped-call]  # torch does not say
        _train,
        (meeting, steps_done, pool, recipe.output, recipe),
        nprocs=recipe.processes,
        start_method="spawn",
        join=False,
    )
    batch = recipe.batch * recipe.processes
    watch.begin("training", recipe.steps * batch)
    seen = 0
    try:
        while not processes.join(timeout=1.0):
            now = steps_done.value
            watch.advance((now - seen) * batch)
            seen = now
    except ProcessRaisedException as error:
        raise StreamerError(f"the training ended: {str(error).strip().splitlines()[-1]}") from error
    finally:
        watch.end()


def averaged(checkpoint: Path, recipe: DistillSettings) -> AST:
    """The model with the averaged weights of a checkpoint."""
    state = torch.load(checkpoint, weights_only=True)
    model = AST(model_config(recipe))
    with torch.no_grad():
        for p, value in zip(model.parameters(), state["average"], strict=True):
            p.copy_(value)
    return model.eval()
