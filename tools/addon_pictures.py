"""Draws icon.png and logo.png of the add-on.

    python -m tools.addon_pictures addon/streamer

A sound's envelope in bars, and the bracket of the event that it is.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt  # after the choice of the backend
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

GROUND, QUIET, LOUD, TEXT = "#12395b", "#5d8db3", "#ffb347", "#2f6ea3"
HEIGHTS = (0.10, 0.14, 0.34, 0.62, 0.80, 0.56, 0.38, 0.14, 0.10)
EVENT = range(2, 7)
"""the bars that are the event"""


def draw(axes: Axes) -> None:
    """The icon, in a square from 0 to 1."""
    rounded = "round,pad=0,rounding_size=0.18"
    axes.add_patch(FancyBboxPatch((0.02, 0.02), 0.96, 0.96, boxstyle=rounded, color=GROUND, linewidth=0))
    for i, height in enumerate(HEIGHTS):
        x = 0.14 + 0.09 * i
        axes.plot(
            (x, x),
            (0.55 - 0.36 * height, 0.55 + 0.36 * height),
            color=LOUD if i in EVENT else QUIET,
            linewidth=axes.bbox.height * 0.045,
            solid_capstyle="round",
        )
    first, last = 0.14 + 0.09 * EVENT[0], 0.14 + 0.09 * EVENT[-1]
    axes.plot(
        (first, first, last, last), (0.2, 0.14, 0.14, 0.2), color=LOUD, linewidth=axes.bbox.height * 0.025
    )


def picture(path: Path, width: int, height: int, *, words: str = "") -> None:
    """Write a PNG of so many pixels."""
    figure = plt.figure(figsize=(width / 72, height / 72), dpi=72)
    axes = figure.add_axes((0, 0, height / width, 1))
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.axis("off")
    draw(axes)
    if words:
        figure.text(
            (height + 0.12 * height) / width,
            0.5,
            words,
            size=height * 0.26,
            va="center",
            color=TEXT,
            weight="bold",
        )
    figure.savefig(path, transparent=True, metadata={"Software": None})
    plt.close(figure)


def main(folder: Path) -> None:
    picture(folder / "icon.png", 128, 128)
    picture(folder / "logo.png", 250, 100, words="streamer")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
