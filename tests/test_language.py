"""Names in the languages of a home."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from typing import get_args

import pytest
import yaml

import streamer
from streamer.config.control import PROFILES
from streamer.language import Language, Names
from streamer.types import Priority, SourcePhase

LANGUAGES = get_args(Language)
SOURCES = Path(streamer.__file__).parent
KINDS = {
    "phase": set(SourcePhase),
    "priority": set(get_args(Priority)),
    "profile": set(PROFILES),
    "room": {"clips", "scores"},
    "clip": {"waiting", "speech", "full", "failed", "expired", "deleted"},
}
"""keys of the page that are made of a kind and one of its values"""


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


def page_words(language: str) -> dict[str, str]:
    text = files("streamer.language").joinpath("page", f"{language}.yaml").read_text(encoding="utf-8")
    loaded: dict[str, str] = yaml.safe_load(text)
    return loaded


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_every_word_of_the_page(language: str) -> None:
    """With what is put into it, and nothing that only English has or lacks."""
    english, own = page_words("en"), page_words(language)
    assert own.keys() == english.keys()
    for key, text in own.items():
        assert text.strip(), key
        assert set(re.findall(r"{(\w+)}", text)) == set(re.findall(r"{(\w+)}", english[key])), key


def test_the_words_of_the_page_are_those_that_it_uses() -> None:
    """Each key in its sources is in the files, and none in the files is of no use."""
    scripts = "".join(path.read_text(encoding="utf-8") for path in (SOURCES / "web/static").glob("*.js"))
    python = (SOURCES / "web/reasons.py").read_text(encoding="utf-8")
    keys = {
        key
        for call in re.findall(r"\b(?:t|rich)\(([^,()]+)", scripts)
        for key in re.findall(r'"(\w+)"', call)
    }
    keys |= set(re.findall(r'"(why_\w+)"', python)) | {"decimal", "no_script"}
    prefixes = set(re.findall(r"\bt\(`(\w+)_\${", scripts))
    assert prefixes == KINDS.keys()
    keys |= {f"{kind}_{one}" for kind, values in KINDS.items() for one in values}
    keys |= {"right", "wrong"}  # a verdict
    assert keys == page_words("en").keys()


def test_no_word_of_the_page_is_beside_the_languages() -> None:
    """What is shown or read out stands in no template, but names and units."""
    for path in (SOURCES / "web/static").glob("*.js"):
        script = path.read_text(encoding="utf-8")
        assert re.findall(r'(?:aria-label|placeholder|title)="[A-Z][^"$]*"', script) == [], path.name
        between = re.findall(r">([^<>`${}=;()]*[a-z]{3,}[^<>`${}=;()]*)<", script)
        names = {"streamer", "Esc", "look", "write"}
        assert {text.strip() for text in between} <= names, path.name


def test_the_page_falls_back_to_english(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a language lacks a word."""
    german = page_words("de")
    del german["events"]
    monkeypatch.setattr("streamer.language._load_page", {"en": page_words("en"), "de": german}.get)
    words = Names("de").page()
    assert (words["now"], words["events"]) == ("Jetzt", "Events")
