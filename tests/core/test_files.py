"""Files are written whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from streamer.core.files import SMALL, put_directory, read_small, write_text, writing


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


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    """What it leads to is written."""
    (tmp_path / "link").symlink_to(tmp_path / "a.json")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "a.json").read_text() == "new"


def test_a_device_stays_a_device(tmp_path: Path) -> None:
    """A pipe or /dev/null that was named as a file to write is not replaced by one."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_text(pipe, "through")
    assert os.read(reader, 100) == b"through"
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    os.close(reader)


def test_a_directory_appears_whole(tmp_path: Path) -> None:
    """With all that is in it; one that is there already stays as it is."""
    draft = tmp_path / ".draft"
    (draft / "sub").mkdir(parents=True)
    (draft / "sub" / "a").write_text("1")
    put_directory(draft, tmp_path / "whole")
    assert (tmp_path / "whole" / "sub" / "a").read_text() == "1"
    assert not draft.exists()
    draft.mkdir()
    (draft / "b").write_text("2")
    with pytest.raises(OSError, match="not empty"):
        put_directory(draft, tmp_path / "whole")
    assert (tmp_path / "whole" / "sub" / "a").read_text() == "1"


def test_a_file_without_an_end_is_not_read_to_its_end(tmp_path: Path) -> None:
    """Somebody names the wrong file for a password; it must not fill the memory."""
    (tmp_path / "small").write_bytes(b"x" * SMALL)
    assert len(read_small(tmp_path / "small")) == SMALL
    with pytest.raises(OSError, match="File too large"):
        read_small(Path("/dev/zero"))
