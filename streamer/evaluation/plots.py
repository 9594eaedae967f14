"""Pictures of trainings and evaluations, as PNG. matplotlib, of the extra `train`, is imported here alone."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from streamer.errors import UsageError
from streamer.evaluation.tagging import Matrix, Truth, average_precision, precision_recall

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NAMED = 12  # curves that can still be told apart
_WRITTEN = 60  # classes whose names still fit beside a matrix


def missing() -> str:
    """What to do before there can be pictures; nothing where there can."""
    if importlib.util.find_spec("matplotlib") is not None:
        return ""
    return "pictures need matplotlib: pip install 'streamer[train]'"


def _figure(width: float, height: float) -> Figure:
    if why_not := missing():
        raise UsageError(why_not)
    from matplotlib.figure import Figure  # noqa: PLC0415  # an optional package of the `train` extra

    return Figure(figsize=(width, height), dpi=110, layout="constrained")


def training_curves(path: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Losses, validation figures and learning rate over the epochs, from the rows of the log."""
    figure = _figure(12, 4)
    epochs = [row["epoch"] for row in history]
    panels = [
        ("loss", {"loss": "training", "validation_loss": "validation"}),
        ("validation", {"map": "mAP", "top1": "top-1", "top5": "top-5"}),
        ("learning rate", {"lr": "learning rate"}),
    ]
    for axes, (title, lines) in zip(figure.subplots(1, 3), panels, strict=True):
        shown = {name: key for key, name in lines.items() if any(row[key] is not None for row in history)}
        for name, key in shown.items():
            axes.plot(epochs, [row[key] for row in history], marker=".", label=name)
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        if len(shown) > 1:
            axes.legend()
    figure.axes[1].set_ylim(0, 1.02)
    figure.savefig(path)


def confusion_matrix(path: Path, counts: npt.NDArray[np.int64], labels: Sequence[str]) -> None:
    """(n_labels, n_labels) counts, true label by highest label, as shares of each true label."""
    used = np.flatnonzero(counts.sum(axis=0) + counts.sum(axis=1))
    counts, labels = counts[np.ix_(used, used)], [labels[int(i)] for i in used]
    n = len(labels)
    side = float(np.clip(2.5 + 0.22 * n, 5, 16))
    figure = _figure(side + 1, side)
    axes = figure.subplots()
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, label="share of the true label's clips", shrink=0.8)
    axes.set(xlabel="highest label", ylabel="true label", title=f"{counts.sum()} clips with one label")
    if n <= _WRITTEN:
        size = 9 if n <= 30 else 7
        axes.set_xticks(range(n), labels, rotation=90, fontsize=size)
        axes.set_yticks(range(n), labels, fontsize=size)
    if n <= 20:
        for i, j in zip(*np.nonzero(counts), strict=True):
            colour = "white" if shares[i, j] > 0.5 else "black"
            axes.text(j, i, str(counts[i, j]), ha="center", va="center", fontsize=8, color=colour)
    figure.savefig(path)


def precision_recall_curves(path: Path, truth: Truth, scores: Matrix, labels: Sequence[str]) -> None:
    """A curve for each label that occurs, and one over all labels together."""
    figure = _figure(9, 6)
    axes = figure.subplots()
    present = [int(i) for i in np.flatnonzero(truth.any(axis=0))]
    few = len(present) <= _NAMED
    for i in present:
        name = f"{labels[i]} ({average_precision(truth[:, i], scores[:, i]):.2f})" if few else None
        style: dict[str, Any] = {} if few else {"color": "grey", "alpha": 0.35, "linewidth": 0.8}
        _step(axes, truth[:, i], scores[:, i], label=name, **style)
    area = average_precision(truth.ravel(), scores.ravel())
    together = f"all together ({area:.2f})"
    _step(axes, truth.ravel(), scores.ravel(), label=together, color="black", linewidth=2)
    note = "" if few else f"; grey: each of {len(present)} labels"
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.02))
    axes.set_title(f"Precision and recall (average precision){note}")
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5) if few else None, fontsize=9)
    figure.savefig(path)


@dataclass(frozen=True, slots=True)
class Point:
    """How well events are found with some thresholds."""

    recall: float
    precision: float
    false_an_hour: float


def operating_points(
    path: Path, lines: Mapping[str, Sequence[Point]], named: Mapping[str, Mapping[str, Point]]
) -> None:
    """Precision by recall, and recall by false alarms an hour: a line a kind, up to three named points."""
    figure = _figure(12, 5)
    left, right = figure.subplots(1, 2)
    markers: dict[str, str] = {}
    for kind, line in lines.items():
        drawn = left.plot([p.recall for p in line], [p.precision for p in line], marker=".", label=kind)
        colour = drawn[0].get_color()
        right.plot([p.false_an_hour for p in line], [p.recall for p in line], marker=".", color=colour)
        for (name, p), marker in zip(named.get(kind, {}).items(), "vo^", strict=False):
            markers[name] = marker
            for axes, at in ((left, (p.recall, p.precision)), (right, (p.false_an_hour, p.recall))):
                axes.plot(*at, marker=marker, markersize=9, color=colour, clip_on=False)
    for name, marker in markers.items():
        left.plot([], [], marker=marker, markersize=9, color="grey", linestyle="none", label=name)
    left.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02), title="Precision and recall")
    right.set(xlabel="false alarms an hour", ylabel="recall", ylim=(0, 1), title="What recall costs")
    right.set_xscale("symlog", linthresh=1)
    right.set_xlim(left=-0.1)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    left.legend(loc="lower left", fontsize=8)
    figure.savefig(path)


def _step(axes: Axes, truth: Truth, scores: Matrix, **style: Any) -> None:
    """The curve whose area is the average precision: at each recall the precision of its first threshold."""
    precision, recall = precision_recall(truth, scores)
    first = np.flatnonzero(np.diff(recall, prepend=0.0))
    axes.step(np.append(0, recall[first]), np.append(precision[first[0]], precision[first]), "-", **style)
