"""The head of a taught sound: fitted to few clips, and honest about how well it divides."""

from __future__ import annotations

import numpy as np
import pytest

from streamer.inference.heads import directions, sigmoid
from streamer.teaching.fit import Steps, fit, likeness
from streamer.types import Samples

SIZE, CLIPS, WINDOWS, PER_WINDOW = 24, 5, 3, 6


def steps(apart: float, seed: int = 0, given: Samples | None = None) -> Steps:
    """Embeddings of five clips in three windows each, that lie so far apart from those of other sounds."""
    rng = np.random.default_rng(seed)
    n = CLIPS * WINDOWS * PER_WINDOW
    sound = rng.normal(0, 1, (n, SIZE)).astype(np.float32)
    sound[:, 0] += apart
    window = np.repeat(np.arange(CLIPS * WINDOWS), PER_WINDOW)
    around = rng.normal(0, 1, (n, SIZE)).astype(np.float32)
    bank = rng.normal(0, 1, (40, 10, SIZE)).astype(np.float32)
    others = [(0.5, bank)] if given is None else [(0.5, given), (0.5, bank)]
    return Steps(sound, window // WINDOWS, window, around, window // WINDOWS, others)


def test_a_sound_that_is_apart_is_heard_and_others_are_not() -> None:
    """Each clip that is left out is heard by the rest, and next to nothing else is."""
    found = steps(6.0)

    head, estimate = fit("chime", found)

    assert (estimate.heard, estimate.n_clips) == (5, 5)
    assert estimate.false <= 0.05 * estimate.n_others
    scores = sigmoid(directions(found.sound, head.centre) @ np.array(head.weights, np.float32) + head.bias)
    assert np.median(scores) > 0.7


def test_what_cannot_be_told_apart_is_reported_so() -> None:
    """Where the sound is like all others, clips that are left out are not heard: no estimate flatters."""
    _, estimate = fit("noise", steps(0.0))

    assert estimate.heard <= 2
    assert estimate.false <= 0.05 * estimate.n_others


def test_a_clip_that_is_not_it_scores_low() -> None:
    """`--not` moves the border: what was taken for the sound is not any more."""
    rng = np.random.default_rng(9)
    near = rng.normal(0, 1, (6, 10, SIZE)).astype(np.float32)
    near[..., 0] += 6.0
    near[..., 1] += 5.0
    before, _ = fit("chime", steps(6.0))
    after, _ = fit("chime", steps(6.0, given=near))
    flat, clip = near.reshape(-1, SIZE), np.repeat(np.arange(6), 10)

    assert np.mean(likeness(before, flat, clip)) > 0.5
    assert max(likeness(after, flat, clip)) < 0.5


def test_a_contradiction_is_known_for_one() -> None:
    """The same sound on both sides, in different recordings; not what is near and can be told apart."""
    rng = np.random.default_rng(9)
    same = rng.normal(0, 1, (6, 10, SIZE)).astype(np.float32)
    same[..., 0] += 6.0
    apart = same.copy()
    apart[..., 0] -= 6.0
    apart[..., 1] += 6.0

    _, contradicted = fit("chime", steps(6.0, given=same))
    _, told_apart = fit("chime", steps(6.0, given=apart))
    _, alone = fit("chime", steps(6.0))

    assert contradicted.is_contradicted
    assert 2 * contradicted.heard < contradicted.n_clips
    assert not told_apart.is_contradicted
    assert not alone.is_contradicted


def test_the_same_steps_give_the_same_head() -> None:
    """Nothing in fitting is random."""
    one, other = fit("chime", steps(4.0))[0], fit("chime", steps(4.0))[0]

    assert one.bias == pytest.approx(other.bias)
    np.testing.assert_allclose(one.weights, other.weights)
