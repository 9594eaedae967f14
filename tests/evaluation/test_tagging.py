"""Figures of clips and labels, held to scikit-learn's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.evaluation.tagging import (
    average_precision,
    confusion,
    d_prime,
    evaluate,
    precision_recall,
    roc_auc,
)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 60), st.integers(2, 30))
def test_areas_are_those_of_scikit_learn(seed: int, n: int, n_values: int) -> None:
    """Average precision and ROC area agree, with many ties as without."""
    from sklearn import metrics  # noqa: PLC0415  # takes a second, which not all workers have to spend

    rng = np.random.default_rng(seed)
    truth = rng.random(n) < 0.4
    truth[0], truth[1] = True, False
    scores = (rng.integers(n_values, size=n) / n_values).astype(np.float32)
    assert average_precision(truth, scores) == pytest.approx(metrics.average_precision_score(truth, scores))
    assert roc_auc(truth, scores) == pytest.approx(metrics.roc_auc_score(truth, scores))
    precision, recall = precision_recall(truth, scores)
    theirs = metrics.precision_recall_curve(truth, scores)
    np.testing.assert_allclose(precision, theirs[0][:-1][::-1])
    np.testing.assert_allclose(recall, theirs[1][:-1][::-1])


def test_figures_over_many_labels_are_those_of_scikit_learn() -> None:
    """mAP, mAUC, top-1, top-5 and the confusion matrix agree on clips with one label each."""
    from sklearn import metrics  # noqa: PLC0415  # as above

    rng = np.random.default_rng(0)
    n, labels = 300, [f"label {i}" for i in range(9)]
    own = rng.integers(8, size=n)  # the last label never occurs
    truth = np.eye(9, dtype=bool)[own]
    scores = (rng.random((n, 9)) + truth).astype(np.float32)
    result = evaluate(scores, truth, labels)
    assert result.mean_average_precision == pytest.approx(
        metrics.average_precision_score(truth[:, :8], scores[:, :8], average="macro")
    )
    assert result.mean_auc == pytest.approx(
        metrics.roc_auc_score(truth[:, :8], scores[:, :8], average="macro")
    )
    assert result.top1 == pytest.approx(metrics.top_k_accuracy_score(own, scores, k=1, labels=range(9)))
    assert result.top5 == pytest.approx(metrics.top_k_accuracy_score(own, scores, k=5, labels=range(9)))
    assert set(result.average_precisions) == set(labels[:8])
    guess = scores.argmax(axis=1)
    np.testing.assert_array_equal(
        confusion(truth, scores), metrics.confusion_matrix(own, guess, labels=range(9))
    )
    assert math.isnan(result.group_accuracy)


def test_groups_are_named_by_their_highest_label() -> None:
    """A clip counts where the group of its highest label, among labels of groups, is its own."""
    scores = np.array([[0.9, 0.1, 0.2], [0.9, 0.1, 0.2]], np.float32)
    truth = np.array([[False, True, False], [False, False, True]])
    groups = {"b": ("b",), "c": ("c",)}
    assert evaluate(scores, truth, ["a", "b", "c"], groups, ["b", "c"]).group_accuracy == 0.5


def test_d_prime_is_the_published_one() -> None:
    """AST's published mAUC of 0.972 goes with a d' of 2.70; areas at the ends are infinite."""
    assert d_prime(0.972) == pytest.approx(2.70, abs=0.01)
    assert d_prime(0.5) == pytest.approx(0)
    assert d_prime(1.0) == math.inf
    assert math.isnan(d_prime(math.nan))


def test_what_cannot_be_measured_is_nan() -> None:
    """No true item, no false item, no label at all: nan, never a flattering number."""
    ones, scores = np.ones(3, bool), np.array([0.1, 0.2, 0.3], np.float32)
    assert math.isnan(average_precision(~ones, scores))
    assert math.isnan(roc_auc(ones, scores))
    result = evaluate(scores[:, None], ~ones[:, None], ["a"])
    assert math.isnan(result.mean_average_precision)
    assert math.isnan(result.top1)
