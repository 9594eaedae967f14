"""A table of clips that nobody labelled for the purpose, for `streamer eval support --also`.

    python -m tools.truth data/more-free/index.csv data/more-free-2/index.csv --teacher data/teacher \
        --sources rse/soundfx consint/Tumult --out held-out.csv

A clip of an `index.csv` has the labels that are certain there and those that the teacher gives at
least 0.5; of what it gives at least 0.1 nobody is sure. Of named sources only their clips are taken.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from streamer.data.audio import decode
from streamer.data.teacher import RATE, Teacher
from streamer.errors import InputError, StreamerError
from streamer.model.labels import AUDIOSET, descendants
from streamer.types import Samples

HAS, UNSURE = 0.5, 0.1
_LEAST_S = 3
"""shorter clips are repeated: the teacher was trained on ten seconds"""


def labels_of(scores: Samples, certain: frozenset[str]) -> tuple[list[str], list[str]]:
    """(527,) scores of the teacher -> the labels that a clip has, and those that it may have.

    A label that is above a certain one in the ontology may be true, too.
    """
    own = [x for x, score in zip(AUDIOSET, scores, strict=True) if score >= HAS or x in certain]
    near = {x for x, score in zip(AUDIOSET, scores, strict=True) if score >= UNSURE}
    near |= {x for x in AUDIOSET if descendants((x,)) & certain}
    return own, [x for x in AUDIOSET if x in near and x not in own]


def rows(table: Path, sources: frozenset[str], teacher: Teacher) -> Iterator[dict[str, str]]:
    """A row for each clip of the sources, of all where none is named. Raises InputError for no table."""
    try:
        with table.open(newline="", encoding="utf-8") as file:
            index = [row for row in csv.DictReader(file) if not sources or row["source_repo"] in sources]
    except OSError as error:
        raise InputError(f"{table}: {error.strerror}") from error
    for row in index:
        path = table.parent / row["file"]
        try:
            samples = decode(path, RATE)
        except InputError:
            continue
        again = max(1, -(-_LEAST_S * RATE // max(1, len(samples))))
        scores = teacher.score(np.tile(samples, again)[: 10 * RATE])
        own, near = labels_of(scores, frozenset(filter(None, (row.get("labels") or "").split("|"))))
        yield {
            "file": str(path.resolve()),
            "labels": "|".join(own),
            "unsure": "|".join(near),
            "source": row["source_repo"],
        }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Which labels clips have, by certain labels and a teacher.")
    parser.add_argument("tables", type=Path, nargs="+", help="with file, source_repo and, if any, labels")
    parser.add_argument("--sources", nargs="+", default=[], help="of source_repo; all where not given")
    parser.add_argument("--teacher", type=Path, required=True, help="a folder with mn04_as.onnx")
    parser.add_argument("--out", type=Path, required=True, help="the table to write")
    options = parser.parse_args(arguments)
    n = 0
    try:
        teacher = Teacher(options.teacher / "mn04_as.onnx", threads=os.cpu_count() or 1)
        with options.out.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ("file", "labels", "unsure", "source"), lineterminator="\n")
            writer.writeheader()
            for table in options.tables:
                for row in rows(table, frozenset(options.sources), teacher):
                    writer.writerow(row)
                    n += 1
    except StreamerError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(f"{options.out}: {n} clips")
    return 0


if __name__ == "__main__":
    sys.exit(main())
