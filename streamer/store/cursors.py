"""How far each consumer has got, in a small file that is overwritten in place: a full disk takes it.

It blocks, and lives in the thread of the log. Two slots are written in turn, each with a checksum, so that a
power cut in the midst of one leaves the other. (A file system that copies on write needs space for this too.)
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

SLOT = 4096
_HEAD = struct.Struct(">4sQII")
"""magic, generation, length of what follows, CRC-32 of it and the generation"""
_MAGIC = b"CUR1"


@dataclass(frozen=True, slots=True)
class Progress:
    """What the file says."""

    install: str = ""
    """of the database that it belongs to"""
    delivered: Mapping[str, int] = field(default_factory=dict)
    """by consumer: the number of the latest message that it has, with all before"""
    is_clean: bool = False
    """the last process closed the database in order"""


class CursorFile:
    """Raises OSError."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.progress = Progress()
        self._generation = 0
        try:
            if os.fstat(self._file).st_size < 2 * SLOT:
                os.posix_fallocate(self._file, 0, 2 * SLOT)
            content = os.pread(self._file, 2 * SLOT, 0)
            self._generation, self.progress = _latest(content)
        except BaseException:
            os.close(self._file)
            raise

    def save(self, progress: Progress) -> None:
        """On disk when this returns."""
        if progress == self.progress:
            return
        body = json.dumps([progress.install, dict(progress.delivered), progress.is_clean]).encode()
        generation = self._generation + 1
        slot = _HEAD.pack(_MAGIC, generation, len(body), _crc(generation, body)) + body
        os.pwrite(self._file, slot, generation % 2 * SLOT)
        os.fdatasync(self._file)
        self._generation, self.progress = generation, progress

    def close(self) -> None:
        os.close(self._file)


def read_progress(path: Path) -> Progress:
    """As another process has saved it; nothing where that cannot be read."""
    try:
        return _latest(path.read_bytes()[: 2 * SLOT])[1]
    except OSError:
        return Progress()


def _latest(content: bytes) -> tuple[int, Progress]:
    slots = [_decode(content[start : start + SLOT]) for start in (0, SLOT)]
    return max(
        (slot for slot in slots if slot is not None), key=lambda slot: slot[0], default=(0, Progress())
    )


def _crc(generation: int, body: bytes) -> int:
    return zlib.crc32(b"%d " % generation + body)


def _decode(slot: bytes) -> tuple[int, Progress] | None:
    """None of a slot that was never written, or not to its end."""
    with suppress(ValueError, TypeError, struct.error):
        magic, generation, length, crc = _HEAD.unpack_from(slot)
        body = slot[_HEAD.size : _HEAD.size + length]
        if magic == _MAGIC and len(body) == length and _crc(generation, body) == crc:
            install, delivered, is_clean = json.loads(body)
            numbers = {str(name): int(seq) for name, seq in delivered.items()}
            return generation, Progress(str(install), numbers, bool(is_clean))
    return None
