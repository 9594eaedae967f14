"""Trains a small AST with a frame head on crops that makers, processes of their own, mix and have scored."""

from __future__ import annotations

import csv
import math
import shutil
import time
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import torch
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import Tensor, nn

from streamer.data import clips, crops
from streamer.data.clips import Entry
from streamer.data.teacher import Teacher
from streamer.errors import StreamerError
from streamer.model import checkpoint, hub
from streamer.model.ast import AST
from streamer.model.checkpoint import save
from streamer.model.config import ASTConfig, FbankConfig
from streamer.model.labels import AUDIOSET
from streamer.training.card import ATTRIBUTION
from streamer.training.folder import CHECKPOINT, LOG, MODEL, load_checkpoint, save_checkpoint
from streamer.training.pool import PLAN, Batch, Making, Pool, make, plan
from streamer.training.progress import Progress
from streamer.training.settings import DistillSettings
from streamer.training.sharpen import sharpen

DB = math.log(10) / 10
"""one decibel, in the natural logarithm of power"""
SILENCE = math.log(torch.finfo(torch.float32).eps)
"""what fbank gives for digital silence"""
GRADIENT_NORM = 5.0
SAVE_S = 240.0
"""seconds between checkpoints"""
REPORT_STEPS = 50
"""steps between rows of the log"""
N_VECTOR = 384
"""length of the teacher's vector"""
_WHOLE_BATCH = 4
"""a batch of whole windows is smaller by this: they have as many more patches"""


def augment(x: Tensor, rng: np.random.Generator) -> Tensor:
    """(n, n_frames, n_mels) log-mel energies at other levels, in other colours, with a hole now and then."""
    n, n_frames, n_mels = x.shape
    knots = torch.from_numpy(rng.normal(0, 2.0, (n, 1, 6))).float() * DB
    colour = F.interpolate(knots, n_mels, mode="linear", align_corners=True)
    level = torch.from_numpy(rng.uniform(-6, 6, (n, 1, 1))).float() * DB
    x = torch.where(x <= SILENCE + 0.01, SILENCE, (x + colour + level).clamp_min(SILENCE))
    for i in range(n):
        if rng.random() < 0.3:
            width, at = int(rng.integers(4, 20)), int(rng.integers(0, n_mels - 4))
            x[i, :, at : at + width] = x[i].mean()
        if rng.random() < 0.2:
            width, at = int(rng.integers(3, 30)), int(rng.integers(0, n_frames - 5))
            x[i, at : at + width] = x[i].mean()
    return x


def starting_model(recipe: DistillSettings) -> AST:
    """The recipe's, or one with random weights. Raises ModelError."""
    if recipe.model is not None:
        return checkpoint.load(hub.resolve(recipe.model)).network.requires_grad_(True)
    torch.manual_seed(recipe.seed)
    network = AST(
        ASTConfig(
            hidden_size=recipe.hidden_size,
            num_hidden_layers=recipe.depth,
            num_attention_heads=recipe.heads,
            intermediate_size=4 * recipe.hidden_size,
            frequency_stride=crops.STRIDE,
            time_stride=crops.STRIDE,
            id2label=dict(enumerate(AUDIOSET)),
            frame_head=True,
        )
    )
    network.start_from_scratch()
    return network


def optimizers(network: AST, vector: nn.Linear, recipe: DistillSettings) -> list[torch.optim.Optimizer]:
    matrices = [p for p in network.blocks.parameters() if p.ndim == 2 and recipe.optimizer == "muon"]
    chosen = {id(p) for p in matrices}
    rest = [p for p in [*network.parameters(), *vector.parameters()] if id(p) not in chosen]
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
    muon = torch.optim.Muon(
        matrices, lr=recipe.muon_lr, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw"
    )
    return [muon, adamw]


def rate(progress: float, recipe: DistillSettings) -> float:
    """The share of the full learning rate: up in a line, level, down along a cosine."""
    if progress < recipe.warm_up:
        return progress / recipe.warm_up
    if progress < recipe.decay_from:
        return 1.0
    return 0.5 + 0.5 * math.cos(math.pi * min(1.0, (progress - recipe.decay_from) / (1 - recipe.decay_from)))


def at(stages: Sequence[Sequence[float]], progress: float) -> float:
    """The value of the last stage that has begun."""
    return next(value for begin, value in reversed(stages) if progress >= begin or begin == stages[0][0])


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """The sum over all of them."""
    return F.binary_cross_entropy_with_logits(logits.float(), targets.to(logits.device), reduction="sum")


class Trainer:
    """The training's state, one step after the other."""

    def __init__(self, recipe: DistillSettings) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.out = recipe, recipe.output
        auto = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(auto if recipe.device == "auto" else recipe.device)
        self.network = starting_model(recipe).train().to(self.device)
        self.vector = nn.Linear(self.network.config.hidden_size, N_VECTOR).to(self.device)
        self.vector_mean = torch.zeros(N_VECTOR, device=self.device)
        self.vector_std = torch.ones(N_VECTOR, device=self.device)
        self.parameters = list(self.network.parameters())
        self.average = [p.detach().clone() for p in self.parameters]
        self.optimizers = optimizers(self.network, self.vector, recipe)
        self.rates = [[g["lr"] for g in opt.param_groups] for opt in self.optimizers]
        self.step, self.n_crops, self.seconds = 0, 0, 0.0
        self._resume()
        self.rows, self.steps = self.network.config.grid
        self.fbank = FbankConfig()
        self.losses: list[tuple[float, float, float]] = []

    @property
    def progress(self) -> float:
        return self.seconds / (3600 * self.recipe.hours)

    def run(self, pool: Pool, folder: Path, bar: Progress, makers: Sequence[BaseProcess] = ()) -> None:
        """Train until the hours are over; the checkpoint is never older than SAVE_S.

        Raises StreamerError where a maker has ended: the pool would come again and again.
        """
        saved = before = time.monotonic()
        reported, crops_reported = self.seconds, self.n_crops
        while self.progress < 1:
            if not all(maker.is_alive() for maker in makers):
                self.save()
                raise StreamerError("a process that mixes crops has ended; go on with --resume")
            rng = np.random.default_rng((self.recipe.seed, self.step))
            share = at(self.recipe.whole, self.progress)
            # Makers are told ahead of time: what they make lies in the pool for a while.
            plan(folder, max(share, at(self.recipe.whole, self.progress + 0.02)))
            whole = rng.random() < share
            n = max(1, self.recipe.batch // (_WHOLE_BATCH if whole else 1))
            for batch in pool.batches(rng, n, whole=whole):
                self.losses.append(self.learn(batch, rng))
                self.step += 1
                self.n_crops += len(batch.features)
                now = time.monotonic()
                bar.advance(round(now - before))
                self.seconds, before = self.seconds + now - before, now
                if self.step % REPORT_STEPS == 0:
                    speed = (self.n_crops - crops_reported) / max(1e-9, self.seconds - reported)
                    reported, crops_reported = self.seconds, self.n_crops
                    self._report(speed)
                if now - saved > SAVE_S:
                    saved = now
                    self.save()
        self.save()

    def learn(self, batch: Batch, rng: np.random.Generator) -> tuple[float, float, float]:
        """One step. Losses of the crop and of its time steps, sums over the labels, and of the vector."""
        x, n = augment(batch.features, rng), len(batch.features)
        # Frames past the end of a window are 0 before normalisation, as the published models have it.
        x = F.pad(x, (0, 0, 0, batch.steps * crops.STRIDE - x.shape[1]))
        x = (x - self.fbank.mean) / (2 * self.fbank.std)
        k, keep = int(at(self.recipe.keep_rows, self.progress)), None
        if k < self.rows:
            order = rng.random((n, self.rows, batch.steps)).argsort(axis=1)
            keep = torch.from_numpy(order[:, :k])
        start = torch.from_numpy(rng.integers(0, self.steps - batch.steps + 1, n)).to(self.device)
        x, keep = x.to(self.device), None if keep is None else keep.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16):
            tokens = self.network.tokens(x, keep, start)
            logits, frame_logits = self.network.classify(tokens, batch.steps)
            assert frame_logits is not None  # noqa: S101  # the model has a frame head
            vector = self.vector((tokens[:, 0] + tokens[:, 1]) / 2)
        crop_loss = _cross_entropy(logits, batch.crop) / n
        frame_loss = _cross_entropy(frame_logits, batch.frames)
        frame_loss = frame_loss / (n * batch.steps)
        vector_loss = F.mse_loss(vector.float(), self._standardised(batch.vectors.to(self.device)))
        recipe = self.recipe
        torch.autograd.backward(
            crop_loss + recipe.frame_weight * frame_loss + recipe.vector_weight * vector_loss
        )
        self._move()
        return crop_loss.item(), frame_loss.item(), vector_loss.item()

    def _standardised(self, vectors: Tensor) -> Tensor:
        """By the mean and deviation over the batches so far."""
        share = max(0.002, 1 / (self.step + 1))
        self.vector_mean.lerp_(vectors.mean(dim=0), share)
        self.vector_std.lerp_(vectors.std(dim=0, correction=0) + 1e-3, share)
        return ((vectors - self.vector_mean) / self.vector_std).clamp(-4, 4)

    def _move(self) -> None:
        nn.utils.clip_grad_norm_([*self.parameters, *self.vector.parameters()], GRADIENT_NORM)
        share = rate(self.progress, self.recipe)
        for opt, full in zip(self.optimizers, self.rates, strict=True):
            for group, full_rate in zip(opt.param_groups, full, strict=True):
                group["lr"] = share * full_rate
            opt.step()
            opt.zero_grad()
        decay = min(self.recipe.ema, (self.step + 1) / (self.step + 21))
        torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], 1 - decay)

    def _report(self, crops_s: float) -> None:
        crop, frames, vector = np.mean(self.losses, axis=0)
        self.losses.clear()
        log = self.out / LOG
        if not log.exists():
            log.write_text("step,crops,hours,crop_loss,frame_loss,vector_loss,crops_s\n")
        with log.open("a") as file:
            file.write(
                f"{self.step},{self.n_crops},{self.seconds / 3600:.4f},{crop:.4f},{frames:.4f},{vector:.4f}"
                f",{crops_s:.1f}\n"
            )

    def _resume(self) -> None:
        state = load_checkpoint(self.out / CHECKPOINT)
        if state is None:
            return
        self.network.load_state_dict(state["network"])
        self.vector.load_state_dict(state["vector"])
        self.vector_mean.copy_(state["vector_mean"])
        self.vector_std.copy_(state["vector_std"])
        self.average = [mean.to(self.device) for mean in state["average"]]
        for opt, opt_state in zip(self.optimizers, state["optimizers"], strict=True):
            opt.load_state_dict(opt_state)
        self.step, self.n_crops, self.seconds = state["step"], state["n_crops"], state["seconds"]

    def save(self) -> None:
        """The checkpoint, and the model as it is now."""
        state = {
            "network": self.network.state_dict(),
            "vector": self.vector.state_dict(),
            "vector_mean": self.vector_mean,
            "vector_std": self.vector_std,
            "average": self.average,
            "optimizers": [opt.state_dict() for opt in self.optimizers],
            "step": self.step,
            "n_crops": self.n_crops,
            "seconds": self.seconds,
        }
        save_checkpoint(self.out / CHECKPOINT, state)
        save(self.out / MODEL, self.averaged(), self.fbank)

    def averaged(self) -> AST:
        """The network with the averaged weights: what comes out."""
        network = AST(self.network.config)
        with torch.no_grad():
            for p, value in zip(network.parameters(), self.average, strict=True):
                p.copy_(value)
        return network.eval()


def write_attribution(path: Path, used: Sequence[Entry]) -> None:
    """A row for every clip that is trained on, as the licences ask."""
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["file", "licence", "author", "title or link"])
        rows.writerows((entry.path.name, *entry.credit) for entry in used)


def distill(recipe: DistillSettings, *, resume: bool, bar: Progress) -> Path:
    """Read the clips, start the makers, train for the recipe's hours, sharpen, and write the model directory.

    What is in OUTPUT/pieces and OUTPUT/pool already is used. Without `resume`, a training begins anew. Raises
    StreamerError.
    """
    torch.set_num_threads(1)
    out = recipe.output
    folder = out / "pool"
    folder.mkdir(parents=True, exist_ok=True)
    folders = [name for name in recipe.shares if name != clips.ESC50]
    used = clips.entries(recipe.data, recipe.folds, folders, recipe.held_out)
    validating = clips.validating(recipe.data, recipe.validation_folds, folders, recipe.held_out)
    bar.message(f"reading {len(used) + len(validating)} clips into {out / 'pieces'}")
    clips.prepare([*used, *validating], out / "pieces", Teacher(recipe.data / "teacher" / "mn04_as.onnx"))
    if not resume:
        (out / CHECKPOINT).unlink(missing_ok=True)
        (out / LOG).unlink(missing_ok=True)
        shutil.rmtree(folder / PLAN, ignore_errors=True)
    trainer = Trainer(recipe)
    making = Making(recipe.data, out / "pieces", folder, used, dict(recipe.shares), recipe.pool, recipe.seed)
    spawn = mp.get_context("spawn")
    makers = [
        spawn.Process(target=make, args=(i, recipe.makers, making), daemon=True) for i in range(recipe.makers)
    ]
    for maker in makers:
        maker.start()
    bar.message(f"training for {recipe.hours:g} hours; the loss is in {out / LOG}")
    bar.begin("training", round(3600 * recipe.hours), round(trainer.seconds))
    try:
        trainer.run(Pool(folder, recipe.passes, recipe.pool // 2), folder, bar, makers)
    finally:
        bar.end()
        for maker in makers:
            maker.terminate()
    network = trainer.averaged()
    sharpen(network, trainer.fbank, clips.load(validating, out / "pieces"))
    save(out / MODEL, network, trainer.fbank)
    rooms = clips.indexed(recipe.data / "more-free" / "rir")
    write_attribution(out / MODEL / ATTRIBUTION, [*used, *rooms])
    return out / MODEL
