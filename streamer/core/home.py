"""Paths that begin in a home directory."""

from __future__ import annotations

from pathlib import Path

from streamer.errors import ConfigError


def in_home(path: str | Path) -> Path:
    """`~/a` and `~user/a` written out; other paths as they are. Raises ConfigError where there is no home."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        whose = "no home directory is known: set HOME" if Path(path).parts[0] == "~" else "no such user"
        raise ConfigError(f"{path}: {whose}, or write the whole path") from None
