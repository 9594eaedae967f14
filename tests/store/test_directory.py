"""The state directory: where it is, and one daemon at a time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from streamer.errors import ConfigError
from streamer.store.directory import locked, state_directory


def test_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """As configured, else as systemd says, else the user's own."""
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/streamer:/var/lib/other")
    assert state_directory(Path("/x")) == Path("/x")
    assert state_directory(None) == Path("/var/lib/streamer")
    monkeypatch.delenv("STATE_DIRECTORY")
    monkeypatch.setenv("XDG_STATE_HOME", "/x")
    assert state_directory(None) == Path("/x/streamer")
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert state_directory(None) == Path("/home/me/.local/state/streamer")


def test_one_daemon_at_a_time(tmp_path: Path) -> None:
    """The second is told who has it; when that one is gone it is free, whatever the file says."""
    with locked(tmp_path / "a" / "b") as directory:
        assert directory is not None
        with pytest.raises(ConfigError, match=f"process {os.getpid()} ") as error, locked(directory):
            pass
        assert error.value.exit_code == 78
    with locked(directory) as again:
        assert again == directory
    assert directory.stat().st_mode & 0o777 == 0o700


def test_where_nothing_can_be_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """That is said, and the program goes on without."""
    (tmp_path / "file").touch()
    with locked(tmp_path / "file" / "state") as directory:
        assert directory is None
    assert "nothing is kept on disk" in caplog.text
