"""Every MQTT topic of the program, from prefix, node, source and sound."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

from streamer.errors import ConfigError
from streamer.types import Phase

End: TypeAlias = Literal["state", "set"]
"""of a setting: what is in force, and where commands come"""

_LEVEL = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
"""One level of a topic: no separator, no wildcard, nothing that a broker or a shell reads otherwise."""
_PREFIX = re.compile(r"[^#+\x00/$]([^#+\x00]*[^#+\x00/])?")


def _level(name: str) -> str:
    if not _LEVEL.fullmatch(name):
        raise ConfigError(
            f"{name!r} cannot be a part of an MQTT topic: use up to 64 of a-z, 0-9, _ and -, "
            "starting with a letter or a digit"
        )
    return name


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one node. Every name is checked: ConfigError."""

    prefix: str
    node: str

    def __post_init__(self) -> None:
        if not _PREFIX.fullmatch(self.prefix):
            raise ConfigError(
                f"mqtt.prefix {self.prefix!r} cannot begin an MQTT topic: it has no # or +, no / at its ends "
                "and no $ at its start"
            )
        _level(self.node)

    @property
    def status(self) -> str:
        return f"{self.prefix}/{self.node}/status"

    @property
    def stats(self) -> str:
        return f"{self.prefix}/{self.node}/stats"

    def source_status(self, source: str) -> str:
        return self._of(source, "status")

    def epoch(self, source: str) -> str:
        """Which process detects the source."""
        return self._of(source, "epoch")

    def event(self, source: str, phase: Phase) -> str:
        return self._of(source, f"event/{phase}")

    def sound_state(self, source: str, sound: str) -> str:
        return self._of(source, f"sound/{_level(sound)}/state")

    def sound_attributes(self, source: str, sound: str) -> str:
        return self._of(source, f"sound/{_level(sound)}/attributes")

    def any_sound(self, source: str) -> str:
        """Whether any sound of the source goes on."""
        return self._of(source, "sound/state")

    def any_sound_attributes(self, source: str) -> str:
        return self._of(source, "sound/attributes")

    def listen_for(self, source: str, sound: str, end: End) -> str:
        return self._of(source, f"sound/{_level(sound)}/listen/{end}")

    def overdue(self, source: str, sound: str) -> str:
        """Whether a sound should have been heard again."""
        return self._of(source, f"sound/{_level(sound)}/overdue")

    def overdue_attributes(self, source: str, sound: str) -> str:
        return self._of(source, f"sound/{_level(sound)}/overdue/attributes")

    def mute(self, source: str, end: End) -> str:
        return self._of(source, f"mute/{end}")

    def labels(self, source: str) -> str:
        return self._of(source, "labels")

    def problem(self, source: str) -> str:
        return self._of(source, "problem")

    def problem_attributes(self, source: str) -> str:
        return self._of(source, "problem/attributes")

    def listen(self, source: str, end: End) -> str:
        return self._of(source, f"listen/{end}")

    def profile(self, source: str, end: End) -> str:
        return self._of(source, f"profile/{end}")

    def threshold(self, source: str, sound: str, end: End) -> str:
        return self._of(source, f"sound/{_level(sound)}/threshold/{end}")

    def last(self, source: str) -> str:
        return self._of(source, "last")

    def level(self, source: str) -> str:
        return self._of(source, "level")

    def level_dba(self, source: str) -> str:
        return self._of(source, "level_dba")

    def _of(self, source: str, rest: str) -> str:
        return f"{self.prefix}/{self.node}/{_level(source)}/{rest}"
