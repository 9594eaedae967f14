"""Files are written whole or not at all."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from streamer.core.files import write_text, writing


def test_a_new_content_takes_the_place_of_the_old(tmp_path: Path) -> None:
    """With the mode that was asked for, and nothing else is left in the folder."""
    path = tmp_path / "a.json"
    write_text(path, "old")
    write_text(path, "new", mode=0o600)
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_what_fails_leaves_the_old_content(tmp_path: Path) -> None:
    """And no draft."""
    path = tmp_path / "a.json"
    write_text(path, "old")
    with pytest.raises(ValueError, match="in between"), writing(path) as file:
        file.write(b"half")
        raise ValueError("in between")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_what_cannot_be_written_is_an_os_error(tmp_path: Path) -> None:
    """Its cause is the system's own."""
    with pytest.raises(FileNotFoundError):
        write_text(tmp_path / "none" / "a.json", "x")
