"""Clips that people chose as examples of a sound that is taught, or of what it is not: kept until removed.

No retention removes them, so there are few, and none is written where the disk is nearly full.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from streamer.config.yaml import NAME
from streamer.core.files import writing
from streamer.errors import InputError, OutputError

FOLDER = "examples"
_NOT = ".not"
"""behind the name of a sound, which has no dot: the folder of what it is not"""
MOST = 50
"""of a sound"""
MOST_BYTES = 256 << 20
"""of all sounds"""


@dataclass(frozen=True, slots=True)
class Example:
    id: str
    """of its event, or one of its own"""
    path: Path
    kept_at: float
    is_not: bool
    """a counter-example: it is not the sound"""


def names(directory: Path) -> list[str]:
    """Of sounds that have examples."""
    folder = directory / FOLDER
    found = {one.name.removesuffix(_NOT) for one in folder.iterdir()} if folder.is_dir() else ()
    return sorted(name for name in found if re.fullmatch(NAME, name) and examples(directory, name))


def examples(directory: Path, name: str) -> list[Example]:
    """Of a sound, with its counter-examples, the oldest first."""
    found = [
        Example(path.stem, path, path.stat().st_mtime, is_not)
        for is_not in (False, True)
        for path in _folder(directory, name, is_not=is_not).glob("*.flac")
        if re.fullmatch(r"[0-9a-f]{12}", path.stem) and path.is_file() and not path.is_symlink()
    ]
    return sorted(found, key=lambda one: one.kept_at)


def example(directory: Path, name: str, example_id: str) -> Example:
    """Raises InputError where there is none."""
    for one in examples(directory, name):
        if one.id == example_id:
            return one
    raise InputError(f"{name} has no example {example_id}")


def keep(
    directory: Path, name: str, example_id: str, flac: bytes, *, min_free: int, is_not: bool = False
) -> Example:
    """Write one; `min_free` bytes stay free. What was kept with this id on the other side is removed.

    Raises InputError where there are too many, OutputError where there is no room.
    """
    before = [one for one in examples(directory, name) if one.id == example_id and one.is_not != is_not]
    others = [one for one in examples(directory, name) if one.id != example_id]
    if len(others) >= MOST:
        raise InputError(f"{name} has {len(others)} examples: remove some")
    used = sum(path.stat().st_size for path in (directory / FOLDER).glob("*/*.flac"))
    if used + len(flac) > MOST_BYTES:
        raise OutputError(f"examples take {used >> 20} MB, as much as they may: remove some")
    path = _folder(directory, name, is_not=is_not) / f"{example_id}.flac"
    try:
        if shutil.disk_usage(directory).free - len(flac) < min_free:
            raise OutputError(f"the disk is full: {min_free >> 20} MB stay free (clips.min_free_mb)")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with writing(path, mode=0o600) as file:
            file.write(flac)
        kept_at = path.stat().st_mtime
    except OSError as error:
        raise OutputError(f"the example was not kept: {error.strerror}") from None
    remove(before)
    return Example(example_id, path, kept_at, is_not)


def _folder(directory: Path, name: str, *, is_not: bool) -> Path:
    return directory / FOLDER / (name + _NOT if is_not else name)


def remove(found: Sequence[Example]) -> None:
    """Raises OutputError where the disk refuses."""
    try:
        for one in found:
            one.path.unlink(missing_ok=True)
        for folder in {one.path.parent for one in found}:
            if not any(folder.iterdir()):
                folder.rmdir()
    except OSError as error:
        raise OutputError(f"the example was not removed: {error.strerror}") from None
