"""How well models hear the sounds of a configuration on recordings of a kind that they never saw.

    python -m tools.held_out configs/train/ast-tiny.yaml configs/home.yaml --model ast-tiny

The clips are those that the recipe holds out: a fold of ESC-50 and whole sources. A clip has a sound where a
person named one of its labels or, in the sources, where the teacher gives one at least 0.5; it has not where
the teacher gives none 0.1; of the rest it is not known. For each sound: clips, sources (of ESC-50, authors),
and the average precision of the window's score and of the highest of the time steps.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from streamer.config.schema import Config, load_config
from streamer.data import clips
from streamer.data.clips import Piece
from streamer.data.teacher import Teacher
from streamer.errors import StreamerError, UsageError
from streamer.evaluation.tagging import average_precision
from streamer.model import checkpoint, hub
from streamer.model.labels import AUDIOSET
from streamer.training.settings import DistillSettings, load_recipe
from streamer.training.sharpen import score

_HAS, _HAS_NOT = 0.5, 0.1
"""scores of the teacher"""
_FEWEST = 5
"""clips of a sound, below which nothing is said of it"""

Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    has: npt.NDArray[np.bool_]
    """(n,) of those clips of which it is known"""
    known: npt.NDArray[np.bool_]
    """(n_clips,)"""
    sources: int
    """of the clips that have it"""


def truth(pieces: Sequence[Piece], labels: Sequence[str]) -> Truth:
    """Which clips have one of the labels."""
    own = [AUDIOSET.index(label) for label in labels]
    teacher = np.array([piece.scores[own].max() for piece in pieces])
    named = np.array([bool(set(labels) & set(piece.entry.labels)) for piece in pieces])
    exact = np.array([piece.entry.exact for piece in pieces])
    is_esc50 = np.array([piece.entry.folder == clips.ESC50 for piece in pieces])
    has = (named & exact) | (~is_esc50 & (teacher >= _HAS))
    known = has | (~named & ((teacher < _HAS_NOT) | (is_esc50 & exact)))
    origins = [
        piece.entry.credit[1] if esc50 else piece.entry.source
        for piece, esc50 in zip(pieces, is_esc50, strict=True)
    ]
    return Truth(has[known], known, len(set(np.array(origins)[has])))


def precisions(
    pieces: Sequence[Piece], sounds: dict[str, list[str]], scores: Matrix
) -> Iterator[tuple[str, int, int, float]]:
    """(sound, clips, sources, average precision) of (n, n_labels) scores, for sounds with enough clips."""
    for name, labels in sounds.items():
        known = truth(pieces, labels)
        if known.has.sum() >= _FEWEST:
            of_sound = scores[known.known][:, [AUDIOSET.index(label) for label in labels]].max(axis=1)
            yield name, int(known.has.sum()), known.sources, average_precision(known.has, of_sound)


def read(recipe: DistillSettings, folder: Path) -> list[Piece]:
    """The clips that the recipe holds out, decoded into `folder` where they are not there yet."""
    folders = [name for name in recipe.shares if name != clips.ESC50]
    found = clips.validating(recipe.data, recipe.validation_folds, folders, recipe.held_out)
    clips.prepare(found, folder, Teacher(recipe.data / "teacher" / "mn04_as.onnx"))
    return clips.load(found, folder)


def _sounds(config: Config) -> dict[str, list[str]]:
    return {name: list(sound.labels) for name, sound in config.sounds.items() if sound.labels}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Average precision of sounds on clips that were held out.")
    parser.add_argument("recipe", type=Path, help="a recipe with task: distill")
    parser.add_argument("config", type=Path, help="a configuration, for its sounds")
    parser.add_argument("--model", nargs="+", default=["ast-tiny"], help="directories or names (%(default)s)")
    parser.add_argument("--clips", type=Path, help="where to keep the decoded clips (OUTPUT/held-out)")
    options = parser.parse_args(arguments)
    try:
        recipe = load_recipe(options.recipe)
        if not isinstance(recipe, DistillSettings):
            raise UsageError(f"{options.recipe}: holds nothing out; a recipe with task: distill does")
        pieces = read(recipe, options.clips or recipe.output / "held-out")
        sounds = _sounds(load_config(options.config))
        torch.set_num_threads(1)
        columns: dict[str, Matrix] = {"teacher": np.stack([piece.scores for piece in pieces])}
        for name in options.model:
            loaded = checkpoint.load(hub.resolve(name))
            columns[f"{name}, window"], columns[f"{name}, steps"] = score(
                loaded.network, loaded.fbank, pieces
            )
    except StreamerError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(f"{len(pieces)} clips\n\n| sound | clips | sources | " + " | ".join(columns) + " |")
    print("|---" * (3 + len(columns)) + "|")
    tables = [list(precisions(pieces, sounds, scores)) for scores in columns.values()]
    for rows in zip(*tables, strict=True):
        name, n, n_sources, _ = rows[0]
        print(f"| {name} | {n} | {n_sources} | " + " | ".join(f"{row[3]:.2f}" for row in rows) + " |")
    means = [np.mean([row[3] for row in table]) for table in tables]
    print("| mean | | | " + " | ".join(f"{mean:.3f}" for mean in means) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
