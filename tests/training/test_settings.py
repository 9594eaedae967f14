"""Recipes: those that come with the program, and what is wrong with others."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from streamer.data.settings import DataSettings
from streamer.errors import ConfigError
from streamer.training.settings import FinetuneSettings, load_recipe
from tests.training.sounds import recipe, write_recipe

RECIPES = Path(__file__).parents[2] / "configs" / "train"


@pytest.mark.parametrize("name", ["audioset", "esc50", "speech-commands"])
def test_the_published_recipes_load(name: str) -> None:
    """What comes with the program is right by its own schema."""
    assert isinstance(load_recipe(RECIPES / f"{name}.yaml"), FinetuneSettings)


def test_the_command_line_changes_fold_and_output() -> None:
    """`--fold` holds that fold out and `--output` moves the run; the rest of the recipe stays."""
    esc50 = load_recipe(RECIPES / "esc50.yaml")
    assert isinstance(esc50, FinetuneSettings)
    other = esc50.with_command_line(Path("elsewhere"), 2)
    assert other.output == Path("elsewhere")
    assert other.data.held_out is not None
    assert other.data.held_out.value == 2
    assert other.data.train == esc50.data.train


def test_an_unknown_key_is_explained(tmp_path: Path) -> None:
    """A key that is misspelt is named with file, line and the nearest key; numbers as 1e-5 are numbers."""
    path = write_recipe(tmp_path / "r.yaml", recipe(tmp_path / "run", tmp_path, batches=3))
    with pytest.raises(ConfigError, match=r"r\.yaml:\d+: batches: unknown key, did you mean batch\?"):
        load_recipe(path)
    path.write_text("output: x\nlr: 1e-5\nmodel: m\ndata:\n  train: {path: x}\n  validatio_share: 0.1\n")
    with pytest.raises(ConfigError, match=r"r\.yaml:6: data\.validatio_share: .* validation_share\?$"):
        load_recipe(path)
    path.write_text("task: bake\noutput: x\nmodel: m\ndata: {train: {path: x}}\n")
    with pytest.raises(ConfigError, match=r"r\.yaml:1: task: should be 'finetune'"):
        load_recipe(path)


def test_contradictions_are_refused(tmp_path: Path) -> None:
    """One place to start from, one way to validate."""
    values = recipe(tmp_path / "run", tmp_path)
    for wrong in ({"model": "ast-tiny"}, {"architecture": None}):
        with pytest.raises(ValidationError, match="say where to start"):
            FinetuneSettings.model_validate(values | wrong)
    train = {"path": "x"}
    with pytest.raises(ValidationError, match="two things"):
        DataSettings.model_validate({"train": train, "validation": train, "held_out": {"value": 1}})
