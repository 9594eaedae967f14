"""The model card: where the clips are from, how it was trained, how good it is."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from streamer import __version__
from streamer.data.examples import Example, count_labels
from streamer.data.settings import ClipsSettings
from streamer.errors import InputError
from streamer.training.folder import Epoch
from streamer.training.prepare import Data
from streamer.training.settings import FinetuneSettings

ATTRIBUTION = "ATTRIBUTION.csv"


def write(directory: Path, settings: FinetuneSettings, data: Data, history: Sequence[Epoch]) -> None:
    """README.md as the Hub reads it and, where clips ask for it, ATTRIBUTION.csv, into a model directory."""
    credited = [example for example in data.training + data.validation if example.credit]
    if credited:
        _write_attribution(directory / ATTRIBUTION, settings, credited)
    text = _card(settings, data, history, credited=bool(credited))
    (directory / "README.md").write_text(text, encoding="utf-8")


def _card(settings: FinetuneSettings, data: Data, history: Sequence[Epoch], *, credited: bool) -> str:
    name = settings.card.name or settings.output.resolve().name
    best = next(row for row in reversed(history) if row.best)
    figures = {
        "mAP": best.map,
        "mAUC": best.mean_auc,
        "d'": best.d_prime,
        "top-1": best.top1,
        "top-5": best.top5,
        "loss": best.validation_loss,
    }
    measured = {key: value for key, value in figures.items() if value is not None and math.isfinite(value)}
    sections = [
        f"---\n{yaml.safe_dump(_metadata(settings, name, measured), sort_keys=False)}---",
        f"# {name}",
        settings.card.description or "An Audio Spectrogram Transformer, trained on own clips.",
        _use(settings),
        "## Data",
        settings.card.data,
        _clips(data),
        _attributions(settings, credited=credited),
        "## Training",
        f"{best.epoch} of {settings.epochs} epochs, {best.steps} optimizer steps, streamer {__version__}. "
        + (f"Began with `{settings.model}`." if settings.model else "Began with random weights."),
        _table(("setting", "value"), _flat(_shown(settings))),
        "## Figures",
        f"On {len(data.validation)} validation clips, which also chose the epoch, so a little too good:"
        if measured
        else "Nothing was kept for validation, so nothing is known.",
        _table(("figure", "value"), [(key, f"{value:.4f}") for key, value in measured.items()])
        if measured
        else "",
        "## Labels",
        _table(("label", "training clips", "validation clips"), _label_rows(data)),
    ]
    return "\n\n".join(section.strip("\n") for section in sections if section) + "\n"


def _metadata(settings: FinetuneSettings, name: str, figures: Mapping[str, float]) -> dict[str, Any]:
    """What the Hub reads, https://huggingface.co/docs/hub/model-cards."""
    metrics = [{"type": key, "name": key, "value": round(value, 4)} for key, value in figures.items()]
    metadata: dict[str, Any] = {
        "license": settings.card.licence,
        "library_name": "transformers",
        "pipeline_tag": "audio-classification",
        "tags": ["audio", "sound-event-detection", "audio-spectrogram-transformer"],
    }
    if settings.model is not None and "/" in settings.model and not Path(settings.model).exists():
        metadata["base_model"] = settings.model
    if metrics:
        task = {"type": "audio-classification"}
        data = {"name": settings.data.train.path.name, "type": "audio", "split": "validation"}
        metadata["model-index"] = [
            {"name": name, "results": [{"task": task, "dataset": data, "metrics": metrics}]}
        ]
    return metadata


def _use(settings: FinetuneSettings) -> str:
    kind = "sigmoid of each logit: labels do not exclude each other"
    if settings.loss == "ce":
        kind = "softmax of the logits: exactly one label a clip; thresholds on sigmoids mean little"
    return f"Loads with `streamer` and with `transformers` (`ASTForAudioClassification`). Scores: {kind}."


def _clips(data: Data) -> str:
    skipped = len(data.statistics.skipped)
    left_out = f"; {skipped} more were unreadable or silent and left out" if skipped else ""
    return (
        f"{len(data.training)} clips trained, {len(data.validation)} validated{left_out}. Features: mean"
        f" {data.statistics.mean:.7f}, standard deviation {data.statistics.std:.7f}."
    )


def _attributions(settings: FinetuneSettings, *, credited: bool) -> str:
    parts = []
    if settings.card.attributions is not None:
        try:
            parts.append(settings.card.attributions.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"card.attributions: {settings.card.attributions}: cannot be read") from error
    if credited:
        parts.append(f"Licences and authors of the clips: `{ATTRIBUTION}`.")
    return "\n\n".join(parts)


def _write_attribution(path: Path, settings: FinetuneSettings, credited: Sequence[Example]) -> None:
    columns: ClipsSettings = settings.data.train
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["file", *columns.credit])
        rows.writerows(sorted({(example.path.name, *example.credit) for example in credited}))


def _shown(settings: FinetuneSettings) -> dict[str, Any]:
    """The hyper-parameters: what decides the result and is no path."""
    left_out = {"card", "output", "device", "checkpoint_s", "task", "data", "model"}
    return settings.model_dump(mode="json", exclude=left_out, exclude_none=True) | {
        "short clips": settings.data.short
    }


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{key}.")
        else:
            rows.append((prefix + key, str(value)))
    return rows


def _label_rows(data: Data) -> list[tuple[str, str, str]]:
    training, validation = count_labels(data.training), count_labels(data.validation)
    return [(label, str(training[label]), str(validation[label])) for label in data.labels]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
