"""A file system of a few MiB, to be filled, made read only or damaged; it needs root."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def mounted(tmp_path: Path, size: str) -> Iterator[Path]:
    """A tmpfs of this size, such as `2m`, below a folder."""
    mount = shutil.which("mount", path="/bin:/usr/bin:/sbin")
    assert mount is not None
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run([mount, "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(disk: Path, block: int = 4096) -> Path:
    """Leave not a byte; the file that takes them all."""
    file = disk / "filling"
    with file.open("wb", buffering=0) as filling:
        for size in (block, 1):
            try:
                while True:
                    filling.write(bytes(size))
            except OSError:
                pass
    return file
