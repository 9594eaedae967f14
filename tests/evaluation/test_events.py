"""Events are held against the truth, and thresholds chosen by it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from streamer.errors import InputError
from streamer.evaluation.events import Count, Span, count, read_truth, total
from streamer.evaluation.false_alarms import RATE, background, scattered, write
from streamer.evaluation.thresholds import GRID, choose, floors


def test_half_of_an_event_decides() -> None:
    """Right is what lies half in the truth; found is what right ones cover half of; sounds do not mix."""
    truth = [Span("dog", 0, 4), Span("dog", 10, 14), Span("cat", 20, 22)]
    heard = [Span("dog", 1, 5), Span("dog", 11, 12), Span("dog", 20, 22), Span("owl", 0, 1)]

    counts = count(truth, heard)

    assert counts["dog"] == Count(true=2, found=1, false=1)
    assert counts["cat"] == Count(true=1)
    assert counts["owl"] == Count(false=1)
    assert total([counts, counts])["dog"] == Count(true=4, found=2, false=2)


def rows(found: list[int], false: list[int], true: int) -> list[Count]:
    return [Count(true, *each) for each in zip(found, false, strict=True)]


def test_each_sound_has_its_own_threshold() -> None:
    """High where false alarms are many, low where they are not; for what never occurs where it is quiet."""
    n = len(GRID)
    table = {
        "timid": rows([10] * 5 + [0] * (n - 5), [0] * n, 10),
        "loud": rows([10] * (n - 3) + [0] * 3, [100] * (n - 6) + [0] * 6, 10),
        "absent": rows([0] * n, [50] * 8 + [0] * (n - 8), 0),
    }

    chosen = choose(table, hours=1.0, most_false_an_hour=20)

    assert chosen["timid"] <= GRID[4]
    assert GRID[n - 6] <= chosen["loud"] <= GRID[n - 4]
    assert GRID[8] <= chosen["absent"] <= GRID[9]


def test_false_alarms_are_bounded() -> None:
    """What would help F1 more, but is wrong too often, is given up."""
    n = len(GRID)
    table = {"dog": rows([20] * 8 + [10] * (n - 8), [12] * 8 + [1] * (n - 8), 30)}

    assert choose(table, hours=1.0, most_false_an_hour=100)["dog"] < GRID[8]
    assert choose(table, hours=1.0, most_false_an_hour=2)["dog"] > GRID[8]


def test_a_truth_that_is_none_is_said(tmp_path: Path) -> None:
    """No file, or another table: one line with its name."""
    with pytest.raises(InputError, match=r"none\.tsv"):
        read_truth(tmp_path / "none.tsv")
    (tmp_path / "other.tsv").write_text("a\tb\n1\t2\n")
    with pytest.raises(InputError, match=r"other\.tsv: not a table of onset"):
        read_truth(tmp_path / "other.tsv")


def test_what_is_heard_where_nothing_is_raises_its_threshold() -> None:
    """A floor is the first threshold from which on a sound stays quiet, and no threshold lies below it."""
    quiet = {
        "dog": [Count(false=n) for n in (3, 1, 0, 1, *[0] * (len(GRID) - 4))],
        "cat": [Count(false=0)] * len(GRID),
        "cow": [Count(false=1)] * len(GRID),
    }
    floor = floors(quiet)
    assert floor == {"dog": 4, "cat": 0, "cow": len(GRID) - 1}
    table = {name: [Count(true=10, found=9)] * len(GRID) for name in ("dog", "cat")} | {
        "cow": [Count(true=0)] * len(GRID)
    }
    free = choose(table, hours=1.0, most_false_an_hour=20)
    held = choose(table, hours=1.0, most_false_an_hour=20, floor=floor)
    assert held == free | {"dog": max(free["dog"], GRID[4]), "cow": GRID[-1]}
    assert choose(table | {"cow": [Count(true=0)] * len(GRID)}, 1.0, 20)["cow"] == GRID[0]


def test_recordings_of_nothing_are_what_they_say(tmp_path: Path) -> None:
    """A room has its length and never clips; other sounds lie one after the other; the truth is empty."""
    rng = np.random.default_rng(1)
    room = background(rng, minutes=1.0)
    assert room.shape == (60 * RATE,)
    assert 0 < np.abs(room).max() < 1
    clip = np.sin(np.arange(5 * RATE) * 0.3).astype(np.float32)
    samples, begins = scattered(rng, [("a", clip), ("b", clip[: 2 * RATE])], minutes=1.0)
    assert len(samples) == len(room)
    starts = [start for start, _ in begins]
    assert starts[0] == 0
    assert all(later - sooner in (2.0, 5.0) for sooner, later in pairwise(starts))
    assert {name for _, name in begins} == {"a", "b"}
    assert read_truth(write(tmp_path, "others", samples).with_suffix(".tsv")) == []
