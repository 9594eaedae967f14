"""The reference page and the JSON Schema, held to the code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from streamer.config.reference import json_schema, page, sections
from streamer.config.schema import Config
from streamer.training.settings import DistillSettings, FinetuneSettings

PROJECT = Path(__file__).parents[2]


def test_every_key_is_described() -> None:
    """What a key means and in which unit stands beside it, or at the section that it begins."""
    silent = [
        f"{path}.{key}".strip(".")
        for path, section in sections()
        for key, field in section.model_fields.items()
        if not (field.description or "").endswith(".") and _is_plain(field.annotation)
    ]
    assert silent == []
    assert [path for path, section in sections() if not section.__doc__] == []


@pytest.mark.parametrize("recipe", [FinetuneSettings, DistillSettings])
def test_every_key_of_a_recipe_is_described(recipe: type[BaseModel]) -> None:
    """Recipes, too."""
    schema = recipe.model_json_schema()
    silent = [
        f"{name}.{key}"
        for name, section in {recipe.__name__: schema, **schema.get("$defs", {})}.items()
        for key, value in section.get("properties", {}).items()
        if "description" not in value and "$ref" not in json.dumps(value)
    ]
    assert silent == []


def test_the_page_is_what_the_code_says() -> None:
    """docs/configuration.md was made by `streamer config docs`."""
    assert (PROJECT / "docs" / "configuration.md").read_text(encoding="utf-8") == page() + "\n"


def test_the_schema_beside_the_examples_is_what_the_code_says() -> None:
    """configs/schema.json, which the examples name, was made by `streamer config schema`."""
    assert json.loads((PROJECT / "configs" / "schema.json").read_text(encoding="utf-8")) == json_schema()


@pytest.mark.parametrize("path", sorted((PROJECT / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_the_examples_are_valid_by_the_schema(path: Path) -> None:
    """An editor that follows the schema underlines nothing in them."""
    import yaml  # noqa: PLC0415

    text = path.read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: $schema=schema.json\n")
    values = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506  # plain text alone
    Draft202012Validator.check_schema(json_schema())
    known = set(Config.model_fields)
    assert set(values) <= known


def _is_plain(annotation: object) -> bool:
    """It is a value, not a section."""
    parts = (annotation, *get_args(annotation))
    return not any(isinstance(part, type) and issubclass(part, BaseModel) for part in parts)
