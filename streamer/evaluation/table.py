"""A table of clips of which it is known what they hold: file, labels, source and, where it has it, unsure.

A CSV file. Files are relative to it; several labels have `|` between them. `unsure` are labels that may be
true, too. `source` says whose recording it is: an author, a collection.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from streamer.errors import InputError


@dataclass(frozen=True, slots=True)
class ListedClip:
    path: Path
    own: frozenset[str]
    """labels that are true"""
    near: frozenset[str]
    """labels that may be true"""
    source: str


def read_table(table: Path) -> list[ListedClip]:
    """The rows of a table. Raises InputError."""
    try:
        with table.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise InputError(f"{table}: {error.strerror}") from error
    if not rows or not {"file", "labels", "source"} <= rows[0].keys():
        raise InputError(f"{table}: not a table of clips; it needs the columns file, labels and source")
    return [
        ListedClip(
            table.parent / row["file"],
            _labels(row["labels"]),
            _labels(row.get("unsure")),
            row["source"],
        )
        for row in rows
    ]


def _labels(text: str | None) -> frozenset[str]:
    return frozenset(filter(None, (text or "").split("|")))
