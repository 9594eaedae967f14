"""What is known of clips that nobody labelled for the purpose."""

from dataclasses import replace

import numpy as np

from streamer.data.clips import ESC50, Piece
from tests.data.test_crops import DOG, piece, scores
from tools.held_out import precisions, truth


def clip(folder: str, source: str, named: bool, teacher: float) -> Piece:
    one = piece(source)
    labels = ("Dog",) if named else ()
    entry = replace(one.entry, folder=folder, labels=labels, exact=named, credit=("CC0-1.0", source, ""))
    return Piece(entry, one.samples, one.active, one.rms, scores(Dog=teacher))


CLIPS = [
    clip("more", "a", named=True, teacher=0.05),
    clip("more", "b", named=False, teacher=0.8),
    clip("more", "b", named=False, teacher=0.3),
    clip("more", "c", named=False, teacher=0.02),
    clip(ESC50, "d", named=False, teacher=0.02),
    clip(ESC50, "e", named=True, teacher=0.4),
]


def test_a_clip_counts_where_it_is_known_what_it_holds() -> None:
    """Named, or the teacher is sure; what the teacher is not sure of is left out."""
    known = truth(CLIPS, ["Dog", "Bark"])
    assert known.known.tolist() == [True, True, False, True, True, True]
    assert known.has.tolist() == [True, True, False, False, True]
    assert known.sources == 3


def test_sounds_that_few_clips_have_are_left_out() -> None:
    """Three clips of a dog say nothing; six are enough, and the best order has precision 1."""
    values = np.stack([one.scores for one in CLIPS * 2])
    assert not list(precisions(CLIPS, {"dog": ["Dog"]}, values[:6]))
    values[:, DOG] = [1, 1, 0, 0, 0, 1] * 2
    assert list(precisions(CLIPS * 2, {"dog": ["Dog"]}, values)) == [("dog", 6, 3, 1.0)]
