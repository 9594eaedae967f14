"""Trains a model on labelled clips, epoch by epoch, and goes on after a kill as if there had been none.

Nothing random keeps a state: every draw is a function of the seed and of the epoch, step and place it is for.
So a checkpoint needs the weights, the optimizer and how many steps were done, and what follows is the same.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from streamer.errors import ConfigError, InputError, StreamerError, UsageError
from streamer.evaluation import plots
from streamer.evaluation.tagging import TaggingResult, evaluate
from streamer.inference.engines.torch import choose_device
from streamer.model import checkpoint
from streamer.model.ast import AST
from streamer.model.config import FbankConfig
from streamer.training import card
from streamer.training.augment import Augment
from streamer.training.dataset import Clips, Draw, balanced_chances, loader
from streamer.training.folder import (
    CHECKPOINT,
    CURVES,
    LOG,
    MODEL,
    Epoch,
    errors_for_people,
    load_checkpoint,
    save_checkpoint,
    write_log,
)
from streamer.training.optimize import Average, optimizer, rate
from streamer.training.prepare import Data, prepare
from streamer.training.progress import Progress
from streamer.training.settings import FinetuneSettings
from streamer.training.start import fit, starting_model

_MAY_CHANGE: dict[str, Any] = {
    "output": True,
    "device": True,
    "checkpoint_s": True,
    "card": True,
    "data": {"workers"},
}
"""settings that a resumed run may have otherwise than it began: they do not change what comes out"""

_DRAW_S = 60.0  # a picture takes half a second, short epochs less

Batches: TypeAlias = Iterator[tuple[Tensor, Tensor]]


def finetune(settings: FinetuneSettings, *, resume: bool, bar: Progress) -> Path:
    """Train as the recipe says; returns the directory of the model that came out.

    With `resume`, goes on from the checkpoint in the output folder where there is one.
    Raises ConfigError, InputError, ModelError, UsageError, and StreamerError where nothing can be written.
    """
    kept = load_checkpoint(settings.output / CHECKPOINT)
    if kept is not None and not resume:
        raise UsageError(
            f"{settings.output}: holds a run already ({kept['epoch']} of {settings.epochs} epochs are done);"
            " go on with --resume, or name another --output"
        )
    if why_not := plots.missing():
        bar.message(f"no {CURVES}: {why_not}")
    device = choose_device(settings.device)
    loaded = starting_model(settings)
    data = prepare(settings, loaded, bar)
    loaded = fit(loaded, data.labels, settings.max_length, settings.seed)
    fbank = loaded.fbank
    if settings.normalise == "data":
        fbank = replace(fbank, mean=data.statistics.mean, std=data.statistics.std)
    run = Run(settings, data, fbank, loaded.network.to(device), bar)
    if kept is not None:
        run.restore(kept)
    run.run()
    return settings.output / MODEL


class Run:
    """The epochs of a training, and where it is in them."""

    def __init__(
        self, settings: FinetuneSettings, data: Data, fbank: FbankConfig, network: AST, bar: Progress
    ) -> None:
        self._settings, self._data, self._fbank, self._bar = settings, data, fbank, bar
        self._network, self._device = network, network.position.device
        self._optimizer = optimizer(network, settings)
        self._average = Average(settings)
        self._epoch = 0
        self._step = 0
        """optimizer steps of this epoch that are done"""
        self._loss = 0.0
        """the sum of their losses"""
        self._history: list[Epoch] = []
        self._a_step = settings.batch * settings.accumulate
        """clips of an optimizer step"""
        self._n_steps = math.ceil(len(data.training) / self._a_step)
        """optimizer steps of an epoch"""
        short, augment = settings.data.short, Augment(settings.augment)
        self._clips = Clips(
            data.training, data.labels, fbank, short=short, seed=settings.seed, augment=augment
        )
        self._validation = Clips(data.validation, data.labels, fbank, short=short, seed=settings.seed)
        self._chances = balanced_chances(data.training) if settings.balanced else None
        self._saved = self._drawn = time.monotonic()

    def run(self) -> None:
        """All epochs that are left."""
        n, epochs = len(self._clips), self._settings.epochs
        done = self._epoch * n + min(self._step * self._a_step, n)
        self._bar.begin("training", epochs * n, done)
        while self._epoch < epochs and not self._is_over():
            self._train_epoch()
            self._end_epoch()
            self._save()
        self._draw()
        self._bar.end()

    def restore(self, kept: dict[str, Any]) -> None:
        """Go on where a checkpoint was written. Raises ConfigError where it is of another run."""
        output, now = self._settings.output, self._values()
        if changed := [key for key, value in now.items() if value != kept["settings"].get(key)]:
            raise ConfigError(
                f"{output}: was begun with other settings of {', '.join(changed)}; put them back,"
                " or begin a new run with another --output"
            )
        if kept["fingerprint"] != self._data.fingerprint:
            raise ConfigError(f"{output}: was begun with other clips; begin a new run with another --output")
        self._network.load_state_dict(kept["network"])
        self._optimizer.load_state_dict(kept["optimizer"])
        self._average.n = kept["averaged"]
        self._average.weights = {name: t.to(self._device) for name, t in kept["average"].items()}
        self._epoch, self._step, self._loss = kept["epoch"], kept["step"], kept["loss"]
        self._history = [Epoch(**row) for row in kept["history"]]
        self._bar.message(f"goes on after {self._epoch} epochs and {self._step} of {self._n_steps} steps")

    def _save(self) -> None:
        values = {
            "settings": self._values(),
            "fingerprint": self._data.fingerprint,
            "network": self._network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "average": self._average.weights,
            "averaged": self._average.n,
            "epoch": self._epoch,
            "step": self._step,
            "loss": self._loss,
            "history": [asdict(row) for row in self._history],
        }
        save_checkpoint(self._settings.output / CHECKPOINT, values)
        self._saved = time.monotonic()

    def _values(self) -> dict[str, Any]:
        return self._settings.model_dump(mode="json", exclude=_MAY_CHANGE)

    def _is_over(self) -> bool:
        patience = self._settings.patience
        values = [value for row in self._history if (value := self._metric(row)) is not None]
        if patience is None or not values or len(values) - 1 - values.index(max(values)) < patience:
            return False
        self._bar.message(f"stopped early: no better epoch for {patience}")
        return True

    def _metric(self, row: Epoch) -> float | None:
        """What is to be as high as possible."""
        if self._settings.best_by == "loss":
            return None if row.validation_loss is None else -row.validation_loss
        return row.map if self._settings.best_by == "map" else row.top1

    def _train_epoch(self) -> None:
        """The steps of this epoch that are left."""
        batch, workers = self._settings.batch, self._settings.data.workers
        draws: list[Draw] = [(int(i), self._epoch, place) for place, i in enumerate(self._order())]
        steps = [draws[at : at + self._a_step] for at in range(0, len(draws), self._a_step)][self._step :]
        batches = [step[at : at + batch] for step in steps for at in range(0, len(step), batch)]
        read = iter(loader(self._clips, workers, batch_sampler=batches))
        self._network.train()
        for step in steps:
            self._loss += self._optimize(read, len(step))
            self._average.step(self._network)
            self._step += 1
            loss = self._loss / self._step
            self._bar.advance(len(step), f"epoch {self._epoch + 1}/{self._settings.epochs}  loss {loss:.4f}")
            if self._step < self._n_steps and time.monotonic() - self._saved >= self._settings.checkpoint_s:
                self._save()

    def _order(self) -> npt.NDArray[np.int64]:
        """Which clips, in which order, this epoch."""
        rng, n = np.random.default_rng([self._settings.seed, 2, self._epoch]), len(self._clips)
        if self._chances is not None:
            return rng.choice(n, size=n, p=self._chances)
        return rng.permutation(n)

    def _optimize(self, read: Batches, n: int) -> float:
        """One optimizer step over n clips; their mean loss."""
        settings, at = self._settings, self._epoch * self._n_steps + self._step
        # Dropout is all that draws from torch's own generator.
        torch.manual_seed(int(np.random.SeedSequence([settings.seed, 3, at]).generate_state(1)[0]))
        factor = rate(at, self._n_steps, settings.epochs, settings.schedule)
        for group in self._optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        self._optimizer.zero_grad()
        total, done = 0.0, 0
        while done < n:
            features, targets = _next(read)
            share = len(features) / n
            loss = share * self._criterion(self._logits(self._network, features), targets.to(self._device))
            loss.backward()  # type: ignore[no-untyped-call]  # torch has no types for it
            total, done = total + loss.item(), done + len(features)
        if not math.isfinite(total):
            raise StreamerError(
                f"the loss is not finite in epoch {self._epoch + 1}, step {self._step + 1}: lower lr,"
                " set clip_gradient, or use precision: float32"
            )
        if settings.clip_gradient is not None:
            torch.nn.utils.clip_grad_norm_(self._network.parameters(), settings.clip_gradient)
        self._optimizer.step()
        return total

    def _logits(self, network: AST, features: Tensor) -> Tensor:
        """(B, T, M) -> (B, n_labels) float32."""
        bfloat16 = self._settings.precision == "bfloat16"
        with torch.autocast(self._device.type, torch.bfloat16, enabled=bfloat16):
            logits: Tensor = network(features.to(self._device))[0]
        return logits.float()

    def _criterion(self, logits: Tensor, targets: Tensor) -> Tensor:
        if self._settings.loss == "ce":
            return F.cross_entropy(logits, targets)
        return F.binary_cross_entropy_with_logits(logits, targets)

    def _end_epoch(self) -> None:
        """Average, validate, keep the model if it is the best, write the log."""
        self._average.epoch(self._network, self._epoch + 1)
        candidate = copy.deepcopy(self._network)
        if self._average.n:
            candidate.load_state_dict(self._average.weights)
        row = Epoch(
            epoch=self._epoch + 1,
            steps=(self._epoch + 1) * self._n_steps,
            lr=max(group["lr"] for group in self._optimizer.param_groups),
            loss=self._loss / self._n_steps,
        )
        if len(self._validation):
            row.validation_loss, result = self._validate(candidate)
            row.map, row.mean_auc, row.d_prime = _numbers(
                result.mean_average_precision, result.mean_auc, result.d_prime
            )
            row.top1, row.top5 = _numbers(result.top1, result.top5)
        # The latest of equals has learned longer; where nothing validates, the last is the result.
        value = self._metric(row)
        before = [other for earlier in self._history if (other := self._metric(earlier)) is not None]
        row.best = value is None or value >= max(before, default=value)
        self._history.append(row)
        self._epoch, self._step, self._loss = self._epoch + 1, 0, 0.0
        if row.best:
            self._save_model(candidate)
        log = self._settings.output / LOG
        with errors_for_people(log):
            write_log(log, self._history)
        if time.monotonic() - self._drawn >= _DRAW_S:
            self._draw()
        self._bar.message(_summary(row))

    def _draw(self) -> None:
        path = self._settings.output / CURVES
        if not plots.missing():
            with errors_for_people(path):
                plots.training_curves(path, [asdict(row) for row in self._history])
        self._drawn = time.monotonic()

    @torch.no_grad()
    def _validate(self, network: AST) -> tuple[float, TaggingResult]:
        batch, workers = self._settings.batch, self._settings.data.workers
        draws: list[Draw] = [(i, None, i) for i in range(len(self._validation))]
        batches = [draws[at : at + batch] for at in range(0, len(draws), batch)]
        read: Batches = iter(loader(self._validation, workers, batch_sampler=batches))
        network.eval()
        logits, targets = [], []
        for _ in batches:
            features, own = _next(read)
            logits.append(self._logits(network, features).cpu())
            targets.append(own)
        all_logits, truth = torch.cat(logits), torch.cat(targets)
        result = evaluate(all_logits.sigmoid().numpy(), truth.bool().numpy(), self._data.labels)
        return float(self._criterion(all_logits, truth)), result

    def _save_model(self, network: AST) -> None:
        directory = self._settings.output / MODEL
        with errors_for_people(directory):
            checkpoint.save(directory, network, self._fbank, dtype=getattr(torch, self._settings.weights))
            card.write(directory, self._settings, self._data, self._history)


def _next(read: Batches) -> tuple[Tensor, Tensor]:
    try:
        return next(read)
    except InputError as error:  # from another process it comes with that one's whole traceback
        raise InputError(
            str(error).strip().splitlines()[-1].partition("InputError: ")[2] or str(error)
        ) from None


def _numbers(*values: float) -> list[float | None]:
    """Those that are no numbers, where nothing could be measured, become None."""
    return [None if math.isnan(value) else value for value in values]


def _summary(row: Epoch) -> str:
    line = f"epoch {row.epoch}: loss {row.loss:.4f}"
    if row.map is not None and row.top1 is not None:
        line += f", validation {row.validation_loss:.4f}, mAP {row.map:.3f}, top-1 {row.top1:.3f}"
    return line + (", the best so far" if row.best else "")
