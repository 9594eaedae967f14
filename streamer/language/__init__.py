"""Names of sounds, labels and entities, and the words of the page, in a home's language, from data files.

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

    def page(self) -> dict[str, str]:
        """The words of the page by their keys, with `{placeholders}`."""
        return {**_load_page(FALLBACK), **_load_page(self.language)}

    def number(self, value: float, spec: str) -> str:
        """By a format specification, with the decimal mark of the language."""
        return format(value, spec).replace(".", self.page()["decimal"])


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


@cache
def _load_page(language: Language) -> dict[str, str]:
    """A file of its own: only the page needs it."""
    text = files(__name__).joinpath("page", f"{language}.yaml").read_text(encoding="utf-8")
    loaded: dict[str, str] = yaml.safe_load(text)
    return loaded
