"""Writes files whole: a reader sees the old content or the new, also after a power cut."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO


@contextmanager
def writing(path: Path, *, mode: int = 0o644) -> Iterator[IO[bytes]]:
    """A file to write in the block, which takes the place of `path` at its end.

    It is written beside `path`, synced, and renamed; where the block raises, it is removed and `path` stays.
    Raises OSError.
    """
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


def sync_directory(path: Path) -> None:
    """Make a rename in a directory last. Some file systems cannot; they keep it as they keep all."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
