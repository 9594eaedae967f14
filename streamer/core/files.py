"""Writes files whole: a reader sees the old content or the new, also after a power cut."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

SMALL = (1 << 16) - 1
"""bytes of a file with a password, tokens or addresses; MQTT takes no longer password"""


def read_small(path: Path) -> str:
    """The text of a small file in UTF-8. Raises OSError, also where it has no end, and UnicodeDecodeError."""
    with path.open("rb") as file:
        content = file.read(SMALL + 1)
    if len(content) > SMALL:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return content.decode("utf-8")


@contextmanager
def writing(path: Path, *, mode: int = 0o644) -> Iterator[IO[bytes]]:
    """A file to write in the block, which takes the place of `path` at its end.

    It is written beside `path`, synced, and renamed; where the block raises, it is removed and `path` stays.
    Links are followed, and a device or a pipe is written as it is. Raises OSError.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
        return
    draft = path.with_name(f".{path.name}.part")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        with suppress(OSError):
            draft.unlink()
        raise
    sync_directory(path.parent)


def write_text(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Raises OSError."""
    with writing(path, mode=mode) as file:
        file.write(text.encode())


def put_directory(draft: Path, path: Path) -> None:
    """Rename a directory that is written whole, after its files are on the disk. Raises OSError."""
    for file in draft.rglob("*"):
        if file.is_file():
            _sync(file, os.O_RDONLY)
    sync_directory(draft)
    draft.rename(path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Let a rename in a directory survive a power cut. File systems that cannot sync a directory need not."""
    with suppress(OSError):
        _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
