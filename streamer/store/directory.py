"""The directory that the program keeps what it must not forget in: one daemon at a time."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from streamer.core.home import in_home
from streamer.errors import ConfigError

log = logging.getLogger(__name__)


def state_directory(configured: Path | None) -> Path:
    """As configured; else what systemd gives (StateDirectory=); else the user's own, as XDG has it."""
    if configured is not None:
        return configured
    # Where a unit asks for several, they are divided by colons.
    if given := os.environ.get("STATE_DIRECTORY"):
        return Path(given.split(":")[0])
    home = os.environ.get("XDG_STATE_HOME")
    return (Path(home) if home else in_home("~/.local/state")) / "streamer"


@contextmanager
def locked(directory: Path) -> Iterator[Path | None]:
    """The directory, made where it is missing and ours alone in the block; None where nothing can be kept.

    Raises ConfigError, with the process's number, where another daemon has it.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        log.error(  # noqa: TRY400  # the reason is in the line, where it happened is no news
            "%s: %s: nothing is kept on disk; events that wait for the broker are lost with this program",
            directory,
            error.strerror,
        )
        yield None
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
            raise ConfigError(
                f"{directory}: process {owner} uses this directory: stop it, or set state_dir to another one"
            ) from None
        _sign(descriptor)
        yield directory
    finally:
        os.close(descriptor)


def _sign(descriptor: int) -> None:
    """Who has the lock; on a full disk the lock holds all the same."""
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:
        log.warning("the lock of the state directory does not name this process: %s", error.strerror)
