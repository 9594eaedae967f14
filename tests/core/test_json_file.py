"""A small file that survives a restart, whatever became of it."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from streamer.core.json_file import LARGEST, JsonFile


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    """Readable by its owner alone."""
    file = JsonFile(tmp_path, "a.json")
    assert file.load() == {}
    file.save({"room": {"on": 0.5}})
    assert JsonFile(tmp_path, "a.json").load() == {"room": {"on": 0.5}}
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000, b" " * (LARGEST + 1)])
def test_a_damaged_file_is_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    """It is no reason not to start: the log names it, and the next save succeeds."""
    (tmp_path / "a.json").write_bytes(content)
    file = JsonFile(tmp_path, "a.json")
    assert file.load() == {}
    assert (tmp_path / "a.json.damaged").read_bytes() == content
    assert "a.json.damaged" in caplog.text
    file.save({"x": 1})
    assert file.load() == {"x": 1}


def test_a_disk_that_refuses_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One line with the cause; nothing is raised."""
    JsonFile(tmp_path / "none", "a.json").save({"x": 1})
    assert "not saved (No such file or directory)" in caplog.text


def test_without_a_directory_nothing_is_kept() -> None:
    """And nothing is written."""
    file = JsonFile(None, "a.json")
    file.save({"x": 1})
    assert file.load() == {}
