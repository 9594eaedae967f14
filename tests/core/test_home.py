"""Paths that begin in a home directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from streamer.core.home import in_home
from streamer.errors import ConfigError


def test_a_path_in_a_home_is_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others stay as they are."""
    monkeypatch.setenv("HOME", "/somewhere")
    assert in_home("~/a") == Path("/somewhere/a")
    assert in_home("a/~") == Path("a/~")


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container with a user of its own number may know none: it is said what to do."""
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000)
    with pytest.raises(
        ConfigError, match=r"^~/a: no home directory is known: set HOME, or write the whole path$"
    ):
        in_home("~/a")
    with pytest.raises(ConfigError, match="no such user"):
        in_home("~nobody-here/a")
