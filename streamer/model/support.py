"""What a model was measured to hear: `sounds.json` in its directory.

A label is in it where a threshold was found that gives precision 0.9 or more with recall 0.3 or more on clips
that the model never saw. A directory without the file was not measured.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from streamer.core.files import write_text
from streamer.errors import ModelError

FILE = "sounds.json"


@dataclass(frozen=True)
class OperatingPoint:
    """What a label reaches at a threshold."""

    threshold: float
    """of the smoothed score of a moment, as `on` is"""
    precision: float
    recall: float
    clips: int
    """in which it sounds"""


@dataclass(frozen=True)
class Support:
    measured_on: str
    labels: dict[str, OperatingPoint]

    def lacks(self, sounds: Mapping[str, Sequence[str]]) -> list[str]:
        """The sounds, given by name and labels, none of whose labels the model was measured to hear."""
        return [
            name
            for name, labels in sounds.items()
            if labels and not any(label in self.labels for label in labels)
        ]


def read(directory: Path) -> Support | None:
    """None where nothing was measured. Raises ModelError where the file is broken."""
    path = directory / FILE
    if not path.is_file():
        return None
    try:
        return TypeAdapter(Support).validate_json(path.read_bytes())
    except ValidationError as error:
        raise ModelError(f"{path}: is damaged; pull or add the model again, or remove the file") from error


def write(directory: Path, support: Support) -> Path:
    path = directory / FILE
    write_text(path, json.dumps(asdict(support), indent=1, ensure_ascii=False) + "\n")
    return path
