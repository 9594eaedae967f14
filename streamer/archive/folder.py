"""What is in a folder: the files that are heard, and those that are not, each with the reason."""

from __future__ import annotations

import filecmp
import mimetypes
import os
import stat
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from hashlib import sha256
from pathlib import Path

SAMPLE = 1 << 16
"""bytes at the begin and the end of a file that tell it from others of its size"""
_TYPES = mimetypes.MimeTypes()
"""those that Python knows, not those of this machine: a job must see the same on all machines"""

_UNKNOWN = "application/octet-stream"


class Kind(StrEnum):
    AUDIO = "audio"
    """to be heard, or at least tried"""
    DUPLICATE = "duplicate"
    """the same bytes as a file before it"""
    LINK = "link"
    """a symbolic link, which is not followed: it may lead out of the folder, or in a circle"""
    OTHER = "other"
    """its name says that it is not sound, or it is no regular file"""
    UNREADABLE = "unreadable"
    """neither a folder nor a file could be read there"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing in the folder."""

    file: str
    """its path below the folder, with slashes"""
    kind: Kind
    n_bytes: int = 0
    mtime_ns: int = 0
    note: str = ""
    """what it duplicates, where a link leads, why it is not readable"""
    sample: str = ""
    """hash of its first and last bytes, where another file has its size"""

    def is_same_file(self, other: Entry | None) -> bool:
        """Nothing was written to it since it was `other`."""
        return other is not None and (self.n_bytes, self.mtime_ns) == (other.n_bytes, other.mtime_ns)


def entries(folder: Path, known: Mapping[str, Entry], *, besides: Path) -> list[Entry]:
    """All that is in a folder but hidden files and what lies in `besides`, in the order of the names' bytes.

    Both paths are real ones, without links. `known` are the entries of an earlier time: of files that have
    not changed nothing is read again. Raises OSError where the folder itself cannot be read.
    """
    found = sorted(_walk(folder, besides), key=lambda entry: os.fsencode(entry.file))
    by_size: defaultdict[int, list[int]] = defaultdict(list)
    for i, entry in enumerate(found):
        if entry.kind is Kind.AUDIO and entry.n_bytes:
            by_size[entry.n_bytes].append(i)
    for alike in by_size.values():
        if len(alike) > 1:
            _compare(folder, found, alike, known)
    return found


def _walk(folder: Path, besides: Path) -> Iterator[Entry]:
    listings = [""]
    while listings:
        below = listings.pop()
        try:
            with os.scandir(folder / below) as listing:
                items = list(listing)
        except OSError as error:
            if not below:
                raise
            yield _unreadable(below.rstrip("/"), error)
            continue
        for item in items:
            name = f"{below}{item.name}"
            if item.name.startswith(".") or folder / name == besides:
                continue
            try:
                if item.is_dir(follow_symlinks=False):
                    listings.append(f"{name}/")
                else:
                    yield _entry(name, item)
            except OSError as error:
                yield _unreadable(name, error)


def _unreadable(name: str, error: OSError) -> Entry:
    return Entry(name, Kind.UNREADABLE, note=error.strerror or str(error))


def _entry(name: str, item: os.DirEntry[str]) -> Entry:
    status = item.stat(follow_symlinks=False)
    if stat.S_ISLNK(status.st_mode):
        return Entry(name, Kind.LINK, note=f"leads to {Path(item.path).readlink()}; it is not followed")
    if not stat.S_ISREG(status.st_mode):
        return Entry(name, Kind.OTHER, note="not a regular file")
    kind, note = Kind.AUDIO, ""
    mime = _TYPES.guess_type(name, strict=False)[0] or _UNKNOWN
    if mime != _UNKNOWN and not mime.startswith(("audio/", "video/")):
        kind, note = Kind.OTHER, f"its name says {mime}"
    return Entry(name, kind, status.st_size, status.st_mtime_ns, note)


def _compare(folder: Path, found: list[Entry], alike: Iterable[int], known: Mapping[str, Entry]) -> None:
    """Mark those files of one size that are duplicates. One that cannot be read is left to who hears it."""
    firsts: defaultdict[str, list[Entry]] = defaultdict(list)
    """by sample"""
    for i in alike:
        entry, before = found[i], known.get(found[i].file)
        try:
            is_known = before is not None and before.sample and entry.is_same_file(before)
            sample = before.sample if before is not None and is_known else _sample(folder / entry.file)
            entry = replace(entry, sample=sample)
            for first in firsts[sample]:
                was = before is not None and is_known and before.note == first.file
                if (was and first.is_same_file(known.get(first.file))) or filecmp.cmp(
                    folder / first.file, folder / entry.file, shallow=False
                ):
                    entry = replace(entry, kind=Kind.DUPLICATE, note=first.file)
                    break
            else:
                firsts[sample].append(entry)
        except OSError:
            continue
        found[i] = entry


def _sample(path: Path) -> str:
    with path.open("rb") as file:
        digest = sha256(file.read(SAMPLE))
        file.seek(-min(SAMPLE, path.stat().st_size), os.SEEK_END)
        digest.update(file.read(SAMPLE))
    return digest.hexdigest()[:16]
