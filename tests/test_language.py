"""Names in the languages of a home."""

from __future__ import annotations

from importlib.resources import files
from typing import get_args

import pytest
import yaml

from streamer.language import Language, Names

LANGUAGES = get_args(Language)


def texts(language: str) -> dict[str, dict[str, str]]:
    loaded: dict[str, dict[str, str]] = yaml.safe_load(
        files("streamer.language").joinpath(f"{language}.yaml").read_text(encoding="utf-8")
    )
    return loaded


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_every_name(language: str) -> None:
    """Nothing that ships falls back to English, and no two sounds have one name."""
    english, own = texts("en"), texts(language)
    for section in ("sounds", "texts"):
        assert own[section].keys() == english[section].keys()
        assert len(set(own[section].values())) == len(own[section]), section
    for key in ("threshold", "listen_for", "overdue"):
        assert "{sound}" in own["texts"][key]


def test_there_is_no_file_without_a_language() -> None:
    """A translation that nobody can choose is a mistake."""
    found = {one.name for one in files("streamer.language").iterdir() if one.name.endswith(".yaml")}
    assert found == {f"{language}.yaml" for language in LANGUAGES}


def test_what_is_missing_falls_back() -> None:
    """A name of one's own goes before the language's, that before English, and the id is the last resort."""
    names = Names("de", {"hall": "Flur"}, {"dog_bark": "Bello"})
    assert names.source("hall") == "Flur"
    assert names.source("living_room") == "Living room"
    assert names.sound("dog_bark") == "Bello"
    assert names.sound("smoke_alarm") == "Rauchmelder"
    assert names.sound("own_sound") == "Own sound"
    assert names.label("Dog") == "Dog"
    assert names.text("threshold", "smoke_alarm") == "Schwelle: Rauchmelder"
