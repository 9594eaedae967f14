"""From a recipe to the clips that a run learns from: read, checked, measured, divided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from streamer.data import examples as clips
from streamer.data.examples import Example
from streamer.errors import InputError
from streamer.model.checkpoint import Loaded
from streamer.model.config import FbankConfig
from streamer.model.labels import AUDIOSET
from streamer.training.folder import STATISTICS, errors_for_people
from streamer.training.progress import Progress
from streamer.training.settings import FinetuneSettings
from streamer.training.statistics import Statistics, load_statistics, measure, save_statistics

_SHOWN = 10  # clips that are named where many are skipped


@dataclass(frozen=True)
class Data:
    """What a run learns from."""

    labels: list[str]
    training: list[Example]
    validation: list[Example]
    statistics: Statistics
    fingerprint: str


def prepare(settings: FinetuneSettings, loaded: Loaded, bar: Progress) -> Data:
    """Read and check the clips, leave out what cannot be used, and divide them.

    Raises InputError for labels that are not known and classes with nothing to learn from.
    """
    data = settings.data
    training, validation = clips.read_split(data)
    labels = _labels(settings, loaded, training)
    clips.check_labels(training + validation, labels, exactly_one=settings.loss == "ce")
    if not labels or (len(labels) == 1 and settings.loss == "ce"):
        raise InputError(f"{data.train.path}: {len(labels)} classes are too few to train on")
    length = settings.max_length or loaded.fbank.max_length
    fbank = replace(loaded.fbank, max_length=length)
    statistics = measured(settings, training, validation, fbank, bar)
    n_training, skipped = len(training), statistics.skipped
    training = [example for i, example in enumerate(training) if i not in skipped]
    validation = [example for i, example in enumerate(validation) if n_training + i not in skipped]
    if data.validation is None and data.held_out is None and data.validation_share:
        training, validation, small = clips.draw_share(training, data.validation_share, settings.seed)
        for label in small:
            bar.message(f"class {label!r} has one file: it trains, and nothing of it validates")
    _check_classes(data.train.path, labels, training, bar, must_occur=data.labels == "data")
    bar.message(f"{len(training)} clips train, {len(validation)} validate, {len(labels)} labels")
    return Data(labels, training, validation, statistics, clips.fingerprint(training + validation))


def measured(
    settings: FinetuneSettings,
    training: list[Example],
    validation: list[Example],
    fbank: FbankConfig,
    bar: Progress,
) -> Statistics:
    """Statistics over the training clips, from the run's folder if they lie there, and all clips to skip.

    The validation clips, numbered after the others, are only asked whether they can be used.
    """
    path = settings.output / STATISTICS
    of = f"{clips.fingerprint(training + validation)} {fbank} {settings.data.short}"
    statistics = load_statistics(path, of)
    if statistics is None:
        short, workers = settings.data.short, settings.data.workers
        statistics = measure(training, fbank, short=short, workers=workers, bar=bar)
        if validation:
            other = measure(validation, fbank, short=short, workers=workers, bar=bar)
            skipped = {len(training) + i: reason for i, reason in other.skipped.items()}
            n_clips = statistics.n_clips + other.n_clips
            statistics = replace(statistics, n_clips=n_clips, skipped=statistics.skipped | skipped)
        with errors_for_people(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            save_statistics(path, statistics, of)
    bar.message(f"features: mean {statistics.mean:.7f}, standard deviation {statistics.std:.7f}")
    for reason in list(statistics.skipped.values())[:_SHOWN]:
        bar.message(f"skipped: {reason}")
    if statistics.skipped:
        bar.message(f"{len(statistics.skipped)} of {statistics.n_clips} clips are skipped; {path} has all")
    return statistics


def _labels(settings: FinetuneSettings, loaded: Loaded, training: Sequence[Example]) -> list[str]:
    match settings.data.labels:
        case "data":
            return clips.occurring(training)
        case "model":
            return list(loaded.labels)
        case "audioset":
            return list(AUDIOSET)
        case list() as labels:
            return labels


def _check_classes(
    path: Path, labels: list[str], training: list[Example], bar: Progress, *, must_occur: bool
) -> None:
    counts = clips.count_labels(training)
    empty = [label for label in labels if not counts[label]]
    if empty and must_occur:
        raise InputError(f"{path}: class {empty[0]!r} has not one clip to train on that can be used")
    if empty:
        named = ", ".join(empty[:5])
        bar.message(f"{len(empty)} of {len(labels)} labels have no clip to train on, {named} among them")
    for label in labels:
        if counts[label] == 1:
            bar.message(f"class {label!r} has one clip to train on: expect little of it")
