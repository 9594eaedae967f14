"""How well models name the clips of one fold of ESC-50 that they never saw.

    python -m tools.esc50 data/esc50-free --teacher data/teacher --yamnet data/yamnet

A clip's truth are its AudioSet labels. mAP, top-1 and top-5 are taken over the clips whose class AudioSet has
exactly; so is the accuracy, which asks which of those classes is meant. A clip that is shorter than a model's
window comes after silence.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from streamer.config.schema import ModelSettings
from streamer.data import teacher
from streamer.errors import StreamerError
from streamer.evaluation.fold import FOLD, read_clips, read_rows, score_clip
from streamer.evaluation.tagging import TaggingResult, evaluate
from streamer.inference.engines import open_engine
from streamer.model.labels import AUDIOSET
from streamer.types import Samples
from tools import yamnet

Tagger = Callable[[Samples], npt.NDArray[np.float32]]
"""(n,) samples to (n_labels,) scores"""


def evaluate_fold(folder: Path, fold: int, tagger: Tagger, rate: int, labels: Sequence[str]) -> TaggingResult:
    """`tagger` gets each clip at `rate` Hertz. Clips that cannot be decoded are left out."""
    index = {label: i for i, label in enumerate(labels)}
    groups: dict[str, tuple[str, ...]] = {}
    scores, truth, group_of = [], [], []
    exact = [row for row in read_rows(folder) if row["audioset_exact"] == "1"]
    for row in exact:
        groups[row["esc50_label"]] = tuple(row["audioset_labels"].split("|"))
    for row, samples in read_clips(folder, [row for row in exact if int(row["fold"]) == fold], rate):
        scores.append(tagger(samples))
        truth.append(np.isin(np.arange(len(labels)), [index[x] for x in groups[row["esc50_label"]]]))
        group_of.append(row["esc50_label"])
    return evaluate(np.stack(scores), np.stack(truth), labels, groups, group_of)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Name the clips of a fold of ESC-50: a row a model.")
    parser.add_argument("clips", type=Path, help="a folder with labels.csv and audio/")
    parser.add_argument("--fold", type=int, default=FOLD, help="which no model saw (%(default)s)")
    parser.add_argument("--model", nargs="*", default=["ast-tiny"], help="directories or names (%(default)s)")
    parser.add_argument("--dtype", choices=["auto", "float32", "bfloat16"], default="auto")
    parser.add_argument("--teacher", type=Path, help="a folder with mn04_as.onnx, for a row of its own")
    parser.add_argument("--yamnet", type=Path, help="a folder with yamnet.tflite, for a row of its own")
    options = parser.parse_args(arguments)
    print("| model | clips | mAP | top-1 | top-5 | accuracy |\n|---|---|---|---|---|---|")

    def row(name: str, tagger: Tagger, rate: int, labels: Sequence[str]) -> TaggingResult:
        result = evaluate_fold(options.clips, options.fold, tagger, rate, labels)
        figures = (result.mean_average_precision, result.top1, result.top5, result.group_accuracy)
        cells = " | ".join(f"{x:.3f}" for x in figures)
        print(f"| {name} | {result.n_clips} | {cells} |", flush=True)
        return result

    try:
        if options.yamnet is not None:
            row("YAMNet", yamnet.Yamnet(options.yamnet).score, yamnet.RATE, AUDIOSET)
        if options.teacher is not None:
            row("teacher", teacher.Teacher(options.teacher / "mn04_as.onnx").score, teacher.RATE, AUDIOSET)
        results = []
        for name in options.model:
            engine = open_engine(ModelSettings(path=name, dtype=options.dtype))
            rate = engine.sample_rate
            results.append(
                row(name, lambda x, e=engine, r=rate: score_clip(e, x, r).clip, rate, engine.labels)  # type: ignore[misc]  # bound now
            )
        for name, result in zip(options.model, results, strict=True):
            precisions = sorted(result.average_precisions.items(), key=lambda item: -item[1])
            print(f"\nAverage precision, {name}: " + ", ".join(f"{label} {x:.2f}" for label, x in precisions))
    except StreamerError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
