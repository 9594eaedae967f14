"""Scores of labelled clips by one or more models: figures, tables, pictures."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from streamer.capture.windows import cut
from streamer.config.schema import ModelSettings
from streamer.core.files import write_text
from streamer.data.audio import read_audio
from streamer.data.examples import Example, check_labels
from streamer.errors import InputError, ModelError, UsageError
from streamer.evaluation import plots
from streamer.evaluation.tagging import Matrix, TaggingResult, Truth, confusion
from streamer.inference.engines import open_engine
from streamer.inference.worker import Engine
from streamer.model import checkpoint, hub
from streamer.types import Window


def average_models(models: Sequence[str], directory: Path) -> None:
    """Write a model whose weights are the mean of those of the models. Raises ModelError, UsageError."""
    if directory.exists():
        raise UsageError(f"{directory}: is there already; name a new directory for the averaged model")
    loaded = [checkpoint.load(hub.resolve(name)) for name in models]
    first = loaded[0]
    for other, name in zip(loaded[1:], models[1:], strict=True):
        if other.network.config != first.network.config or other.fbank != first.fbank:
            raise ModelError(f"{name}: cannot be averaged with {models[0]}: config or preprocessor differ")
    states = [model.network.state_dict() for model in loaded]
    mean = {key: torch.stack([state[key] for state in states]).mean(dim=0) for key in states[0]}
    first.network.load_state_dict(mean)
    checkpoint.save(directory, first.network, first.fbank, dtype=torch.float32)


@dataclass(frozen=True, eq=False)
class Scored:
    """Scores of clips, and their true labels."""

    scores: Matrix
    """(n_clips, n_labels)"""
    truth: Truth
    """(n_clips, n_labels)"""
    labels: Sequence[str]
    skipped: list[str]
    """why clips could not be used"""


def score_clips(
    models: Sequence[str], examples: Sequence[Example], settings: ModelSettings, advance: Callable[[], None]
) -> Scored:
    """Several models are an ensemble: the mean of their scores.

    Of a clip longer than the window it is, label by label, the highest over windows that overlap by half.
    `advance` is called once a clip and model. Raises InputError for labels that the models do not have,
    ModelError, InferenceError.
    """
    skipped: dict[int, str] = {}
    total: dict[int, Matrix] = {}
    labels: Sequence[str] = ()
    for name in models:
        engine = open_engine(settings.model_copy(update={"path": name}))
        labels = labels or engine.labels
        if sorted(engine.labels) != sorted(labels):
            raise ModelError(f"{name}: has other labels than {models[0]}; they cannot vote together")
        check_labels(examples, labels)
        columns = [engine.labels.index(label) for label in labels]
        highest: dict[int, Matrix] = {}
        for window, clip in _scored_windows(engine, examples, skipped, advance):
            highest[window] = np.maximum(highest.get(window, clip), clip)
        for i, clip in highest.items():
            total.setdefault(i, np.zeros(len(labels), np.float32))
            total[i] += clip[columns] / len(models)
    used = [i for i in total if i not in skipped]
    if not used:
        raise InputError(f"not one of {len(examples)} clips can be used: {next(iter(skipped.values()))}")
    truth = np.array([[label in examples[i].labels for label in labels] for i in used])
    return Scored(np.stack([total[i] for i in used]), truth, labels, list(skipped.values()))


def _scored_windows(
    engine: Engine, examples: Sequence[Example], skipped: dict[int, str], advance: Callable[[], None]
) -> Iterator[tuple[int, Matrix]]:
    """The number of an example and the (n_labels,) scores of a window of it, in batches over all examples."""
    waiting: list[tuple[int, Window]] = []
    for i, example in enumerate(examples):
        try:
            samples = read_audio(example, engine.sample_rate)
            windows = cut(samples, engine.sample_rate, engine.window_s, str(example.path))
            waiting += [(i, window) for window in windows]
        except InputError as error:
            skipped[i] = str(error)
        advance()
        if len(waiting) >= engine.max_batch or i == len(examples) - 1:
            scores = engine.score([window for _, window in waiting])
            yield from ((owner, own.clip) for (owner, _), own in zip(waiting, scores, strict=True))
            waiting.clear()


def as_json(result: TaggingResult, about: dict[str, Any]) -> str:
    """The figures for programs; what is infinite or could not be measured is null."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(plain(about | asdict(result)), indent=2, ensure_ascii=False)


def as_table(result: TaggingResult, scored: Scored) -> str:
    """The figures and, label by label from the best, average precision, ROC area, number of clips."""
    lines = [
        f"clips  {result.n_clips}",
        f"mAP    {result.mean_average_precision:.4f}",
        f"mAUC   {result.mean_auc:.4f}",
        f"d'     {result.d_prime:.3f}",
        f"top-1  {result.top1:.4f}",
        f"top-5  {result.top5:.4f}",
        "",
    ]
    counts = dict(zip(scored.labels, scored.truth.sum(axis=0), strict=True))
    width = max(len(label) for label in ("label", *result.average_precisions))
    lines.append(f"{'label':{width}}  {'AP':>6}  {'AUC':>6}  {'clips':>5}")
    for label, value in sorted(result.average_precisions.items(), key=lambda item: -item[1]):
        auc = result.aucs.get(label, math.nan)
        lines.append(f"{label:{width}}  {value:6.4f}  {auc:6.4f}  {counts[label]:5d}")
    return "\n".join(lines)


def write(folder: Path, figures: str, scored: Scored) -> list[Path]:
    """report.json, the precision-recall curves and, where clips have one label, the confusion matrix."""
    report, curves, matrix = (folder / f for f in ("report.json", "precision-recall.png", "confusion.png"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(report, figures + "\n")
        plots.precision_recall_curves(curves, scored.truth, scored.scores, scored.labels)
        counts = confusion(scored.truth, scored.scores)
        if counts.any():
            plots.confusion_matrix(matrix, counts, scored.labels)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written: {error.strerror}") from error
    return [report, curves, *([matrix] if counts.any() else [])]
