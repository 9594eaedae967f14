"""The peer's scores over time."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tools.yamnet import over_time, write_scores


def test_half_windows_have_the_mean_of_the_windows_that_cover_them() -> None:
    """Three windows that overlap by half are four halves; the outer two are covered once."""
    scores = over_time(np.float32([[0.0], [1.0], [0.5]]))
    assert scores[:, 0].tolist() == [0.0, 0.5, 0.75, 0.5]


def test_the_table_has_no_hole(tmp_path: Path) -> None:
    """Each row begins where the one before it ends: the format asks for that."""
    write_scores(tmp_path / "scores.tsv", np.float32([[0.25, 1], [0.5, 0], [0, 0]]), ["dog", "cat"], 0.4875)
    rows = [line.split("\t") for line in (tmp_path / "scores.tsv").read_text().splitlines()]
    assert rows[0] == ["onset", "offset", "dog", "cat"]
    assert [row[:2] for row in rows[1:]] == [
        ["0.0000", "0.4875"],
        ["0.4875", "0.9750"],
        ["0.9750", "1.4625"],
    ]
    assert rows[1][2:] == ["0.2500", "1.0000"]
