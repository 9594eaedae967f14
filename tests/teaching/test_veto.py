"""A veto: what tells events that were marked wrong from the others, learned only where there is something."""

from __future__ import annotations

import numpy as np
import pytest

from streamer.config.schema import VetoSettings
from streamer.detection.veto import Vetoes, evidence
from streamer.errors import InputError
from streamer.teaching.veto import Example, learn
from streamer.types import Samples

LABELS = tuple(f"label {number}" for number in range(20))


def example(*, is_wrong: bool, seed: int, apart: float = 0.6, is_reviewed: bool = True) -> Example:
    """An event of ten moments; in a wrong one label 3 scores higher than in a right one."""
    rng = np.random.default_rng(seed)
    scores = rng.uniform(0, 0.3, (10, len(LABELS))).astype(np.float32)
    scores[:, 0] = rng.uniform(0.6, 0.9)
    scores[:, 3] += apart if is_wrong else 0.0
    return Example(evidence(scores), is_wrong, is_reviewed)


def examples(n_wrong: int, n_right: int, n_unreviewed: int = 0, apart: float = 0.6) -> list[Example]:
    return [
        *(example(is_wrong=True, seed=seed, apart=apart) for seed in range(n_wrong)),
        *(example(is_wrong=False, seed=100 + seed) for seed in range(n_right)),
        *(example(is_wrong=False, seed=200 + seed, is_reviewed=False) for seed in range(n_unreviewed)),
    ]


def held(veto: VetoSettings, one: Example) -> bool:
    scores = np.zeros((10, len(LABELS)), np.float32)
    odds = np.exp(one.evidence + evidence_of_nothing())
    scores[:] = odds / (1 + odds)
    return bool(np.mean(Vetoes({"dog": veto}, LABELS).of(scores) >= 0.5) > 0.5)


def evidence_of_nothing() -> float:
    """Log odds of the lowest score that counts."""
    least = (36 / 255) ** 2
    return float(np.log(least / (1 - least)))


@pytest.mark.parametrize(
    ("n_wrong", "n_right", "n_unreviewed"), [(1, 3, 0), (1, 0, 4), (6, 10, 0), (3, 2, 9)]
)
def test_what_is_marked_wrong_is_held_back(n_wrong: int, n_right: int, n_unreviewed: int) -> None:
    """From one wrong event on, by the label that tells; others of both kinds are judged as they should be."""
    learned = learn(examples(n_wrong, n_right, n_unreviewed), LABELS)

    assert max(learned.weights, key=lambda label: learned.weights[label]) == "label 3"
    assert (learned.n_wrong, learned.n_right, learned.n_unreviewed) == (n_wrong, n_right, n_unreviewed)
    assert learned.held_others <= 0.2 * (n_right + n_unreviewed)
    if n_wrong == 1:
        assert learned.held_wrong is None
    else:
        assert learned.held_wrong == n_wrong
    veto = VetoSettings(model="tiny", bias=learned.bias, weights=dict(learned.weights))
    assert all(held(veto, example(is_wrong=True, seed=seed)) for seed in range(300, 310))
    assert not any(held(veto, example(is_wrong=False, seed=seed)) for seed in range(300, 310))


def test_where_there_is_nothing_to_learn() -> None:
    """No wrong event, too few others, or no difference: one line each, and no veto."""
    with pytest.raises(InputError, match="none of its events was marked wrong: streamer events review"):
        learn(examples(0, 5), LABELS)
    with pytest.raises(InputError, match="2 events that were not marked wrong are too few: 3 are needed"):
        learn(examples(4, 1, 1), LABELS)
    same = example(is_wrong=False, seed=1).evidence
    alike = [Example(same, number % 2 == 0, True) for number in range(8)]
    with pytest.raises(InputError, match="cannot be told from the others by their labels"):
        learn(alike, LABELS)


def test_evidence_counts_from_the_lowest_score_on() -> None:
    """What a log keeps as 0 is no evidence; more score is more of it, without end at 1."""
    found: Samples = evidence(np.array([0.0, 0.01, 0.02, 0.5, 0.9, 1.0], np.float32))

    assert found[0] == found[1] == 0
    assert np.all(np.diff(found[2:]) > 0)
    assert np.isfinite(found).all()
