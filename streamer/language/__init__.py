"""Names of sounds, labels and entities in the language of a home, from the data files beside this one.

What a file lacks is shown in English, and a sound that no file knows by its id.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Literal, TypeAlias

import yaml

Language: TypeAlias = Literal["en", "de", "fr", "es", "nl", "pl", "zh", "ja"]
FALLBACK: Language = "en"


@dataclass(frozen=True, slots=True)
class Names:
    """The names that people read: those that the configuration gives, else those of the language."""

    language: Language = FALLBACK
    sources: Mapping[str, str] = field(default_factory=dict)
    """by id, those that have one of their own"""
    sounds: Mapping[str, str] = field(default_factory=dict)
    """the same of sounds"""

    def source(self, source_id: str) -> str:
        return self.sources.get(source_id) or title(source_id)

    def sound(self, sound: str) -> str:
        return self.sounds.get(sound) or _find(self.language, "sounds", sound) or title(sound)

    def label(self, label: str) -> str:
        """A label of the model."""
        return _find(self.language, "labels", label) or label

    def text(self, key: str, sound: str | None = None) -> str:
        """The name of an entity, with the name of a sound in it where it is about one."""
        found = _find(self.language, "texts", key) or title(key)
        return found if sound is None else found.format(sound=self.sound(sound))


def title(name: str) -> str:
    """`smoke_alarm` as `Smoke alarm`."""
    return name.replace("_", " ").replace("-", " ").capitalize()


def _find(language: Language, section: str, key: str) -> str | None:
    for tried in (language, FALLBACK):
        if found := _load(tried).get(section, {}).get(key):
            return found
    return None


@cache
def _load(language: Language) -> dict[str, dict[str, str]]:
    text = files(__name__).joinpath(f"{language}.yaml").read_text(encoding="utf-8")
    loaded: dict[str, dict[str, str]] = yaml.safe_load(text)
    return loaded
