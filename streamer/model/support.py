"""What a model was measured to hear: `sounds.json` in its directory, format 2.

Of each label that was measured: at which threshold, and of how many clips and sources what was found. The
verdicts follow from the counts here, so that they mean the same for every model. A directory without the file
was not measured; a file of format 1 had no counts of sources and is as good as none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from math import sqrt
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from streamer.core.files import write_text
from streamer.errors import ModelError

FILE = "sounds.json"
FORMAT = 2
FEWEST_CLIPS, FEWEST_SOURCES = 20, 3
"""recordings of a label, and the people or places they come from, below which nothing is said of it"""
PRECISION, RECALL = 0.7, 0.3
"""what the lower bounds of a label that is heard well reach"""
_Z = 1.96  # two-sided 95 %


class Heard(StrEnum):
    """What may be said of a label, best first."""

    WELL = "heard well"
    SYNTHESISED = "heard on synthesised sounds alone"
    POORLY = "heard poorly"
    UNKNOWN = "not measured"


def bounds(n: int, of: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share: Wilson, J. Am. Stat. Assoc. 22 (1927) 209. (0, 1) of nothing."""
    if not of:
        return 0.0, 1.0
    share, scale = n / of, 1 + _Z**2 / of
    centre = (share + _Z**2 / (2 * of)) / scale
    half = _Z * sqrt(share * (1 - share) / of + _Z**2 / (4 * of**2)) / scale
    return max(0.0, centre - half), min(1.0, centre + half)


@dataclass(frozen=True)
class Tally:
    """Clips of one kind, recordings or synthesised sounds, above the threshold of a label or not."""

    clips: int = 0
    """that have the label"""
    sources: int = 0
    """that these clips come from"""
    found: int = 0
    """of these clips"""
    false: int = 0
    """clips without the label that are above the threshold all the same"""


@dataclass(frozen=True)
class Measured:
    """One label."""

    threshold: float
    """of the smoothed score of a moment, as `on` is; by all clips, each counted at that of the other half"""
    recordings: Tally
    synthesised: Tally

    @property
    def is_measured(self) -> bool:
        """Enough recordings."""
        return self.recordings.clips >= FEWEST_CLIPS and self.recordings.sources >= FEWEST_SOURCES

    @property
    def is_synthesised(self) -> bool:
        """Too few recordings, but enough synthesised sounds."""
        return not self.is_measured and self.synthesised.clips >= FEWEST_CLIPS

    @property
    def precision(self) -> tuple[float, float]:
        """Bounds, among all clips of recordings; of synthesised sounds, too, where these alone are enough."""
        tallies = (self.recordings, self.synthesised) if self.is_synthesised else (self.recordings,)
        found = sum(tally.found for tally in tallies)
        return bounds(found, found + sum(tally.false for tally in tallies))

    @property
    def recall(self) -> tuple[float, float]:
        """Bounds, of the clips that decide: recordings, else synthesised sounds."""
        tally = self.synthesised if self.is_synthesised else self.recordings
        return bounds(tally.found, tally.clips)

    @property
    def heard(self) -> Heard:
        if not (self.is_measured or self.is_synthesised):
            return Heard.UNKNOWN
        if self.precision[0] < PRECISION or self.recall[0] < RECALL:
            return Heard.POORLY
        return Heard.SYNTHESISED if self.is_synthesised else Heard.WELL


@dataclass(frozen=True)
class Support:
    measured_on: str
    labels: dict[str, Measured]
    format: int = FORMAT

    def heard(self, labels: Sequence[str]) -> Heard:
        """Of a sound with these labels: the best that may be said of one of them."""
        verdicts = {self.labels[label].heard for label in labels if label in self.labels}
        return next((verdict for verdict in Heard if verdict in verdicts), Heard.UNKNOWN)

    def by_verdict(self, sounds: Mapping[str, Sequence[str]]) -> dict[Heard, list[str]]:
        """The names of sounds, given by name and labels, by what may be said of them; without empty ones."""
        found: dict[Heard, list[str]] = {verdict: [] for verdict in Heard}
        for name, labels in sounds.items():
            if labels:
                found[self.heard(labels)].append(name)
        return {verdict: names for verdict, names in found.items() if names}


def read(directory: Path) -> Support | None:
    """None where nothing was measured. Raises ModelError where the file is broken."""
    path = directory / FILE
    if not path.is_file():
        return None
    try:
        content = TypeAdapter(dict[str, object]).validate_json(path.read_bytes())
        if content.get("format", 1) != FORMAT:
            return None
        return TypeAdapter(Support).validate_python(content)
    except ValidationError as error:
        raise ModelError(f"{path}: is damaged; pull or add the model again, or remove the file") from error


def write(directory: Path, support: Support) -> Path:
    """Write `sounds.json` whole. Raises OSError."""
    path = directory / FILE
    write_text(path, json.dumps(asdict(support), indent=1, ensure_ascii=False) + "\n")
    return path
