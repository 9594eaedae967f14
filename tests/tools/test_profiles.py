"""Profiles are read as they were chosen, and the line between them goes through `balanced`."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamer.config.schema import Config
from streamer.errors import InputError
from streamer.evaluation import plots
from tools.profiles import ODDS, multiplied, point, read_profiles

CONFIG = Config.model_validate(
    {"sources": {"here": {"microphone": "default"}}, "sounds": {"cough": {"labels": ["Cough"]}}}
)


def test_profiles_are_what_the_choice_prints(tmp_path: Path) -> None:
    """With its comments; a sound that is not configured is an error, and so is a table of anything else."""
    path = tmp_path / "thresholds.yaml"
    path.write_text(
        "# ast-tiny, 4.00 h\ncough: {quiet: 0.42, balanced: 0.36, eager: 0.25}  # found 10 / 11 / 12 of 15\n"
    )
    assert read_profiles(path, CONFIG) == {
        "quiet": {"cough": 0.42},
        "balanced": {"cough": 0.36},
        "eager": {"cough": 0.25},
    }
    path.write_text("owl: {quiet: 0.42, balanced: 0.36, eager: 0.25}\n")
    with pytest.raises(InputError, match="the configuration has no owl"):
        read_profiles(path, CONFIG)
    path.write_text("sounds: [cough]\n")
    with pytest.raises(InputError, match="not what `streamer eval thresholds` prints"):
        read_profiles(path, CONFIG)


def test_odds_are_multiplied_not_thresholds() -> None:
    """As the sensitivity of a source does: a threshold of 0.5 becomes 2/3 and 1/3, and stays below 1."""
    assert multiplied({"cough": 0.5}, 2)["cough"] == pytest.approx(2 / 3)
    assert multiplied({"cough": 0.5}, 0.5)["cough"] == pytest.approx(1 / 3)
    assert multiplied({"cough": 0.9}, 1)["cough"] == pytest.approx(0.9)
    assert 0 < multiplied({"cough": 0.97}, ODDS[0])["cough"] < 1


def test_the_line_is_drawn(tmp_path: Path) -> None:
    """Recall and precision of what was judged; where nothing is found, nothing is wrong either."""
    found = point({"hits": 6, "false_alarms": 2, "references": 12, "false_alarms_per_hour": 4.0})
    assert found == plots.Point(0.5, 0.75, 4.0)
    nothing = point({"hits": 0, "false_alarms": 0, "references": 12, "false_alarms_per_hour": 0.0})
    assert nothing == plots.Point(0.0, 1.0, 0.0)
    plots.operating_points(tmp_path / "line.png", {"dense": [nothing, found]}, {"dense": {"balanced": found}})
    assert (tmp_path / "line.png").read_bytes().startswith(b"\x89PNG")
