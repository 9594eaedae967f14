"""Labelled clips: from folders and tables to examples."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np

from streamer.core.nearest import suggestion
from streamer.data.settings import ClipsSettings, DataSettings
from streamer.errors import InputError

AUDIO = frozenset(
    {".aac", ".aif", ".aiff", ".au", ".flac", ".m4a", ".mka", ".mp2", ".mp3", ".mp4", ".oga", ".ogg", ".opus"}
    | {".wav", ".webm", ".wma"}
)
"""what counts as a clip in a folder"""
_NAMED = 5  # of what is wrong many times, so many are named

Row: TypeAlias = dict[str, str]


@dataclass(frozen=True, slots=True)
class Example:
    path: Path
    labels: tuple[str, ...]
    onset_s: float = 0.0
    offset_s: float | None = None
    """the file's end where None"""
    where: str = ""
    """the line or folder that says so"""
    credit: tuple[str, ...] = ()


def read_examples(source: ClipsSettings, accept: Callable[[Row], bool] = lambda _: True) -> list[Example]:
    """The clips of a folder or a table, of which only rows that `accept` likes. Raises InputError."""
    examples = _tree(source) if source.path.is_dir() else _table(source, accept)
    if not examples:
        raise InputError(f"{source.path}: not a single clip is left; look at `where`, `only` and `without`")
    return examples


def _tree(source: ClipsSettings) -> list[Example]:
    """A class a folder; names that begin with `_` or `.` are no classes."""
    folder = source.path
    if unused := [name for name in ("where", "credit") if getattr(source, name)]:
        raise InputError(f"{folder}: is a folder; `{unused[0]}` is for tables")
    classes = sorted(f for f in folder.iterdir() if f.is_dir() and f.name[0] not in "_.")
    if not classes:
        raise InputError(f"{folder}: no folders in it; make one for each class and put its clips there")
    only, without = set(_listed(source.only)), set(_listed(source.without))
    examples = []
    for own in classes:
        files = sorted(f for f in own.rglob("*") if f.suffix.lower() in AUDIO and f.is_file())
        if not files:
            raise InputError(f"{own}: the class is empty; put clips there or remove the folder")
        for file in files:
            name = file.relative_to(folder).as_posix()
            if (not source.only or name in only) and name not in without:
                examples.append(Example(file, (own.name,), where=str(own)))
    return examples


def _listed(lists: Sequence[Path]) -> Iterator[str]:
    for path in lists:
        yield from (line.strip() for line in _text(path).splitlines())


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file or folder") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not text in UTF-8; a table is a CSV or TSV file") from None


def _table(source: ClipsSettings, accept: Callable[[Row], bool]) -> list[Example]:
    """Rows that name the same excerpt are one clip with all their labels."""
    lines = _text(source.path).splitlines()
    tabs = source.path.suffix.lower() == ".tsv" or "\t" in next(iter(lines), "")
    reader = csv.DictReader(lines, delimiter="\t" if tabs else ",", skipinitialspace=True)
    columns = list(reader.fieldnames or [])
    for column in (source.file, source.labels, *source.where, *source.credit):
        if column not in columns:
            raise InputError(
                f"{source.path}:1: no column {column!r}; it has {', '.join(columns) or 'no header'}"
            )
    wanted = {column: {str(value) for value in values} for column, values in source.where.items()}
    folder = source.path.parent if source.audio is None else source.audio
    found: dict[tuple[Path, float, float | None], Example] = {}
    for row in reader:
        here = f"{source.path}:{reader.line_num}"
        if any(value is None for value in row.values()) or not row[source.file]:
            raise InputError(f"{here}: has fewer values than the header has columns")
        if not accept(row) or any(row[column] not in values for column, values in wanted.items()):
            continue
        parts = row[source.labels].split(source.separator)
        labels = tuple(label for part in parts if (label := part.strip()))
        onset_s, offset_s = _seconds(row, source.onset, here) or 0.0, _seconds(row, source.offset, here)
        if onset_s < 0 or (offset_s is not None and offset_s <= onset_s):
            raise InputError(f"{here}: the clip ends ({offset_s:g} s) before it begins ({onset_s:g} s)")
        example = Example(
            folder / row[source.file],
            labels,
            onset_s,
            offset_s,
            here,
            tuple(row[column] for column in source.credit),
        )
        key = (example.path, onset_s, offset_s)
        if (before := found.get(key)) is not None:
            example = replace(before, labels=tuple(dict.fromkeys(before.labels + labels)))
        found[key] = example
    return list(found.values())


def _seconds(row: Row, column: str, here: str) -> float | None:
    text = row.get(column, "")
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{here}: {column} should be seconds, not {text!r}") from None


def read_split(data: DataSettings) -> tuple[list[Example], list[Example]]:
    """Examples that train and that validate; none of the latter where a share is still to be drawn."""
    held_out = data.held_out
    if held_out is None:
        validation = [] if data.validation is None else read_examples(data.validation)
        return read_examples(data.train), validation
    column, value = held_out.column, str(held_out.value)

    def is_held_out(row: Row) -> bool:
        if column not in row:
            raise InputError(f"{data.train.path}:1: no column {column!r} to hold clips out by")
        return row[column] == value

    if data.train.path.is_dir():
        raise InputError(f"{data.train.path}: is a folder; held_out is for tables")
    validation = read_examples(data.train, is_held_out)
    return read_examples(data.train, lambda row: not is_held_out(row)), validation


def read_test(data: DataSettings) -> list[Example]:
    """The clips that a recipe is judged by: those of `test`, else those that validate. Raises InputError."""
    if data.test is not None:
        return read_examples(data.test)
    if data.validation is None and data.held_out is None:
        raise InputError("the recipe has neither data.test nor data.validation; name the clips themselves")
    return read_split(data)[1]


def draw_share(
    examples: Sequence[Example], share: float, seed: int
) -> tuple[list[Example], list[Example], list[str]]:
    """(training, validation, classes too small to divide): a share of the files of each class.

    A class is a first label. Excerpts of one file stay together.
    """
    rng = np.random.default_rng([seed, 0])
    class_of: dict[Path, str] = {}
    for example in examples:
        class_of.setdefault(example.path, next(iter(example.labels), ""))
    files: dict[str, list[Path]] = defaultdict(list)
    for path, label in class_of.items():
        files[label].append(path)
    drawn: set[Path] = set()
    small = []
    for label, paths in sorted(files.items()):
        if len(paths) < 2:
            small.append(label)
            continue
        n = min(len(paths) - 1, max(1, round(share * len(paths))))
        drawn.update(paths[i] for i in rng.permutation(len(paths))[:n])
    training = [e for e in examples if e.path not in drawn]
    return training, [e for e in examples if e.path in drawn], small


def occurring(examples: Iterable[Example]) -> list[str]:
    """The labels of examples, sorted."""
    return sorted({label for example in examples for label in example.labels})


def check_labels(examples: Iterable[Example], labels: Sequence[str], *, exactly_one: bool = False) -> None:
    """Raises InputError for a label that is not among `labels`."""
    known = set(labels)
    faults = []
    for example in examples:
        for label in example.labels:
            if label not in known:
                hint = suggestion(label, labels, quote=True)
                faults.append(f"{example.where}: unknown label {label!r}" + (f", {hint}" if hint else ""))
        if exactly_one and len(example.labels) != 1:
            faults.append(
                f"{example.where}: {len(example.labels)} labels; cross entropy wants one, use loss: bce"
            )
    faults = list(dict.fromkeys(faults))
    if faults:
        rest = [f"and {len(faults) - _NAMED} more such lines"] if len(faults) > _NAMED else []
        raise InputError(*faults[:_NAMED], *rest)


def count_labels(examples: Iterable[Example]) -> Counter[str]:
    return Counter(label for example in examples for label in example.labels)


def fingerprint(examples: Iterable[Example]) -> str:
    """Tells one list of clips from another: what a run has begun with must be what it goes on with."""
    digest = hashlib.sha256()
    for e in examples:
        digest.update(f"{e.path}\t{e.onset_s}\t{e.offset_s}\t{'|'.join(e.labels)}\n".encode())
    return digest.hexdigest()
