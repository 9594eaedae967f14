"""The folder of results: a manifest, a file of events for each recording, reports, and who is at work.

    OUT/manifest.jsonl            which results these are, and a line for each thing among the recordings
    OUT/events/night/1.flac.jsonl the events of night/1.flac; it is there whole, or not at all
    OUT/report.jsonl              a line for each of them: what became of it; report-3-of-16.jsonl of a shard

A file's line is written to the report before its events take their place. So what has both is done.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

from streamer.archive.folder import Entry, Kind, entries
from streamer.core.files import write_text, writing
from streamer.errors import InputError, OutputError, UsageError

SCHEMA = 1
"""of the manifest"""
HEARD = ("done", "damaged")
"""results of files that have events"""


@dataclass(frozen=True, slots=True)
class Shard:
    """One of `of` parts of the files; each file belongs to one of them, whatever else is in the folder."""

    index: int = 0
    of: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """`3/16` is the fourth of sixteen. Raises UsageError."""
        index, _, of = text.partition("/")
        if not (index.isdecimal() and of.isdecimal() and int(index) < int(of)):
            raise UsageError(f"--shard {text}: write I/N with I from 0 to N - 1, as in 3/16")
        return cls(int(index), int(of))

    @property
    def name(self) -> str:
        return "" if self.of == 1 else f"-{self.index}-of-{self.of}"

    def has(self, file: str) -> bool:
        return int.from_bytes(sha256(os.fsencode(file)).digest()[:8]) % self.of == self.index


@dataclass(frozen=True, slots=True)
class Line:
    """What became of a file."""

    file: str
    result: str
    """`done`, `damaged` (heard up to there), `failed`, or a `Kind` that is not heard"""
    note: str = ""
    seconds: float | None = None
    """of audio"""
    events: int | None = None


class Output:
    """The folder of results, for one shard of the files."""

    def __init__(self, folder: Path, shard: Shard, ending: str) -> None:
        """`ending` is that of the files of events, `.jsonl`."""
        self.folder = folder
        self.report = folder / f"report{shard.name}.jsonl"
        self._shard = shard
        self._ending = ending
        self._lines: dict[str, Line] = {}
        """the latest of each file, of all reports"""
        self._own: IO[bytes] | None = None
        self._holds_manifest = False

    @contextmanager
    def working(self) -> Iterator[None]:
        """Be the one job that works on this shard. Raises UsageError where another does, OutputError."""
        with explained(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = self._locked(self.folder / f".lock{self._shard.name}")
            if lock is None:
                raise UsageError(f"{self.folder}: another job is at work on this part of it")
            for path in sorted(self.folder.glob(".lock*")):
                if (
                    not path.name.endswith(f"-of-{self._shard.of}")
                    and path.name != f".lock{self._shard.name}"
                ):
                    other = self._locked(path)
                    if other is None:
                        raise UsageError(f"{self.folder}: another job is at work with other shards")
                    other.close()
        with lock:
            try:
                yield
            finally:
                if self._own is not None:
                    self._own.close()

    @contextmanager
    def engine(self) -> Iterator[str | None]:
        """Which engine the results are of; where there are none yet, jobs that start together wait for one.

        Raises OutputError.
        """
        with self._manifest() as rows:
            kind = rows[0].get("engine") if rows else None
            if kind is None:
                yield None
                return
        yield str(kind)

    def survey(self, recordings: Path, settings: Mapping[str, Any], *, resume: bool) -> list[Entry]:
        """The entries of the shard, after the manifest was brought up to date.

        Events of a file that has changed are removed. Raises UsageError where results of other settings
        are here, or of an earlier job without `resume`; InputError where `recordings` cannot be read.
        Raises OutputError.
        """
        path = self.folder / "manifest.jsonl"
        with explained(self.folder), self._manifest() as rows:
            header = {"schema": SCHEMA, "recordings": os.path.realpath(recordings), **settings}
            if rows and rows[0] != json.loads(json.dumps(header)):
                changed = sorted(key for key in header if rows[0].get(key) != header[key])
                raise UsageError(
                    f"{self.folder}: results of another job are here ({', '.join(changed)} differ);"
                    " name another folder with --out"
                )
            if self.report.exists() and not resume:
                raise UsageError(f"{self.folder}: a job began here; add --resume to go on with it")
            known = {entry.file: entry for row in rows[1:] if (entry := _as_entry(row)) is not None}
            besides = Path(os.path.realpath(self.folder))
            try:
                found = entries(Path(os.path.realpath(recordings)), known, besides=besides)
            except OSError as error:
                raise InputError(f"{recordings}: {error.strerror}") from error
            for entry in found:
                before = known.get(entry.file)
                if before is not None and not (entry.is_same_file(before) and entry.kind is before.kind):
                    self.events(entry.file).unlink(missing_ok=True)
            lines = [json.dumps(row) for row in (header, *map(asdict, found))]
            text = "".join(f"{line}\n" for line in lines)
            if not rows or path.read_bytes() != text.encode():
                write_text(path, text)
        return [entry for entry in found if self._shard.has(entry.file)]

    def take_up(self) -> None:
        """Read what all jobs have reported so far, and go on with the own report. Raises OutputError."""
        with explained(self.folder):
            own = _lines(self.report)
            for path in sorted(self.folder.glob("report*.jsonl")):
                self._lines |= _lines(path)
            self._lines |= own
            self._write_report(list(own.values()))  # without a last line that was cut short
            self._own = self.report.open("ab", buffering=0)

    def is_done(self, entry: Entry) -> bool:
        """Its events are there, whole."""
        line = self._lines.get(entry.file)
        return line is not None and line.result in HEARD and self.events(entry.file).exists()

    def events(self, file: str) -> Path:
        """Where the events of a file are, or will be."""
        return self.folder / "events" / f"{file}{self._ending}"

    def put(self, line: Line, text: str | None = None) -> None:
        """Report what became of a file, and write its events. Raises OutputError."""
        if text is None and self._lines.get(line.file) == line:
            return
        self._lines[line.file] = line
        with explained(self.folder):
            if self._own is not None:
                self._own.write(f"{json.dumps(asdict(line))}\n".encode())
            if text is None:
                return
            path = self.events(line.file)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with writing(path) as file:
                    file.write(text.encode(errors="surrogateescape"))
            except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
                # A folder may be called as another file's events are.
                self.put(Line(line.file, "failed", f"no place for its events: {error.filename} is there"))

    def finish(self, found: Sequence[Entry]) -> list[Line]:
        """Put the report in the order of the manifest. Returns its lines. Raises OutputError."""
        lines = [self._lines[entry.file] for entry in found if entry.file in self._lines]
        with explained(self.folder):
            self._write_report(lines)
        return lines

    @contextmanager
    def _manifest(self) -> Iterator[list[dict[str, Any]]]:
        """The lines of the manifest, which no other job changes meanwhile."""
        with (self.folder / ".manifest").open("ab") as lock:
            held = self._holds_manifest
            if not held:
                with explained(self.folder):
                    fcntl.flock(lock, fcntl.LOCK_EX)
            self._holds_manifest = True
            try:
                yield list(_rows(self.folder / "manifest.jsonl"))
            finally:
                self._holds_manifest = held

    def _write_report(self, lines: Sequence[Line]) -> None:
        write_text(self.report, "".join(f"{json.dumps(asdict(line))}\n" for line in lines))

    @staticmethod
    def _locked(path: Path) -> IO[bytes] | None:
        """The file, locked for as long as it is open; None where another process has it."""
        file = path.open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        return file


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Say of the folder of results what the system says. Raises OutputError in the place of OSError."""
    try:
        yield
    except OSError as error:
        what = f"{error.filename or folder}: {error.strerror or error}"
        raise OutputError(f"{what}; nothing that was written is lost: mend it and add --resume") from error


def _as_entry(row: dict[str, Any]) -> Entry | None:
    """None for what this program has not written."""
    try:
        return Entry(**{**row, "kind": Kind(row["kind"])})
    except (KeyError, TypeError, ValueError):
        return None


def _lines(report: Path) -> dict[str, Line]:
    """The latest line of each file; what this program has not written is left out."""
    lines = {}
    for row in _rows(report):
        with suppress(TypeError):
            line = Line(**row)
            lines[line.file] = line
    return lines


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a file that may be missing, or cut short by a kill."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return
    for line in content.splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            yield row
