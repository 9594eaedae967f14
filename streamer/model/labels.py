"""The labels of published models, in the order of their outputs, and AudioSet's ontology.

AudioSet and its ontology: Google, https://research.google.com/audioset/, CC BY 4.0.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

_FOLDER = files("streamer.model") / "assets" / "labels"


def _read(name: str) -> tuple[str, ...]:
    """The labels of a CSV file with the columns index and label."""
    content = (_FOLDER / name).read_text(encoding="utf-8")
    return tuple(row["label"] for row in csv.DictReader(io.StringIO(content)))


AUDIOSET = _read("audioset.csv")
SPEECH_COMMANDS = _read("speech-commands.csv")
"""Speech Commands V2 (Google, CC BY 4.0), in the order of the published AST"""
ESC50 = _read("esc50.csv")
"""ESC-50 (Piczak 2015), in the order of its targets"""


@cache
def _children() -> dict[str, tuple[str, ...]]:
    """The child labels of each label. Nodes that are no labels are left out, their children moved up."""
    content = (_FOLDER / "ontology.json").read_text(encoding="utf-8")
    return {parent: tuple(children) for parent, children in json.loads(content).items()}


def descendants(labels: Iterable[str]) -> frozenset[str]:
    """Given labels and all labels below them in the ontology: a bark is a dog's, and a dog is an animal."""
    known = set(labels)
    new = set(known)
    while new:
        new = {child for label in new for child in _children().get(label, ())} - known
        known |= new
    return frozenset(known)
