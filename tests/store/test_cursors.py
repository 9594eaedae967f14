"""Cursors on disk: the latest that was written to its end counts."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from streamer.store.cursors import SLOT, CursorFile, Progress, read_progress


def save(path: Path, *progresses: Progress) -> None:
    file = CursorFile(path)
    for progress in progresses:
        file.save(progress)
    file.close()


def test_the_latest_counts(tmp_path: Path) -> None:
    """Over restarts, in a file that keeps its size."""
    path = tmp_path / "cursors"
    for number in range(5):
        save(path, *(Progress("a", {"mqtt": 10 * number + i}, is_clean=i == 2) for i in range(3)))
        assert read_progress(path) == Progress("a", {"mqtt": 10 * number + 2}, is_clean=True)
        assert path.stat().st_size == 2 * SLOT


def test_a_write_that_did_not_end(tmp_path: Path) -> None:
    """Wherever it was cut, the one before counts."""
    path = tmp_path / "cursors"
    save(path, Progress("a", {"mqtt": 1}), Progress("a", {"mqtt": 2}))
    before = path.read_bytes()
    save(path, Progress("a", {"mqtt": 3}))
    after = path.read_bytes()
    (start,) = {i // SLOT * SLOT for i in range(2 * SLOT) if before[i] != after[i]}
    for cut in range(60):
        path.write_bytes(before[:start] + after[start : start + cut] + before[start + cut :])
        assert read_progress(path).delivered["mqtt"] in (2, 3)


@pytest.mark.parametrize("seed", range(50))
def test_noise_is_no_cursor(tmp_path: Path, seed: int) -> None:
    """Nothing is read of what was never written, nor of what a disk has changed."""
    path, rng = tmp_path / "cursors", random.Random(seed)
    path.write_bytes(rng.randbytes(rng.randrange(3 * SLOT)))
    assert read_progress(path) == Progress()
    save(path, Progress("a", {"mqtt": 5}))
    content = bytearray(path.read_bytes())
    content[SLOT * (content[:4] != b"CUR1") + rng.randrange(60)] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
    assert read_progress(path).delivered.get("mqtt", 5) == 5


def test_no_file(tmp_path: Path) -> None:
    """To ask where there is none is no error."""
    assert read_progress(tmp_path / "cursors") == Progress()
