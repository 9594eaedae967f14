"""What is in force, over restarts, and the small files that remember it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streamer.config.control import Command, Control, SetListen, SetProfile, SetThreshold, profile_of
from streamer.config.schema import Config
from streamer.core.json_file import LARGEST, JsonFile

CONFIG = Config.model_validate(
    {
        "sources": {"kitchen": {"demo": True}, "hall": {"demo": True}},
        "sounds": {
            "dog_bark": {"labels": ["Dog"], "on": 0.4, "off": 0.3},
            "cat": {"labels": ["Cat"], "on": 0.5},
            "loud": {"above_background_db": 20.0},
        },
    }
)


def control(directory: Path | None = None) -> Control:
    return Control(CONFIG, JsonFile(directory, "control.json"))


def test_before_any_command() -> None:
    """All is as configured; loudness has no threshold to set."""
    fresh = control()
    assert fresh.listens("kitchen")
    assert fresh.profile("kitchen") == "balanced"
    assert fresh.sounds == ("dog_bark", "cat")
    assert fresh.on_off("kitchen", "dog_bark") == pytest.approx((0.4, 0.3))
    assert fresh.on_off("kitchen", "cat") == pytest.approx((0.5, 0.25))


def test_a_command_holds_for_its_source_and_over_a_restart(tmp_path: Path) -> None:
    """What was commanded is in force at once, there alone, also after a restart; watchers hear of it."""
    first = control(tmp_path)
    heard: list[str] = []
    first.subscribe(heard.append)
    commands: list[Command] = [
        SetListen("kitchen", listen=False),
        SetProfile("hall", "eager"),
        SetThreshold("hall", "cat", 0.8),
    ]
    for command in commands:
        first.apply(command)
    assert heard == ["kitchen", "hall", "hall"]
    for one in (first, control(tmp_path)):
        assert (one.listens("kitchen"), one.listens("hall")) == (False, True)
        assert (one.profile("kitchen"), one.profile("hall")) == ("balanced", "eager")
        assert (one.threshold("kitchen", "cat"), one.threshold("hall", "cat")) == (0.5, 0.8)


def test_a_profile_moves_every_threshold(tmp_path: Path) -> None:
    """More sensitive needs half the odds, less sensitive twice; off keeps its ratio to on."""
    one = control(tmp_path)
    one.apply(SetProfile("kitchen", "eager"))
    on, off = one.on_off("kitchen", "cat")
    assert on == pytest.approx(1 / 3)
    assert off == pytest.approx(1 / 6)
    one.apply(SetProfile("kitchen", "quiet"))
    assert one.on_off("kitchen", "cat")[0] == pytest.approx(2 / 3)
    for threshold in (0.01, 0.99):
        one.apply(SetThreshold("kitchen", "dog_bark", threshold))
        on, off = one.on_off("kitchen", "dog_bark")
        assert 0 < off < on < 1


def test_the_configuration_in_force(tmp_path: Path) -> None:
    """It has the thresholds that hold for a source; where nothing was commanded it is as it was read."""
    one = control(tmp_path)
    assert one.in_force("hall") is CONFIG
    one.apply(SetThreshold("kitchen", "dog_bark", 0.8))
    assert one.in_force("hall") is CONFIG
    rule = one.in_force("kitchen").sound("dog_bark")
    assert (rule.on, rule.off) == pytest.approx((0.8, 0.6))
    assert one.in_force("kitchen").sound("loud") == CONFIG.sound("loud")


def test_another_configuration() -> None:
    """What was commanded stays where it has a meaning, what was not is as it is configured now."""
    one = control()
    one.apply(SetThreshold("kitchen", "dog_bark", 0.8))
    heard: list[str] = []
    one.subscribe(heard.append)
    one.change(CONFIG.model_copy(update={"sources": {"kitchen": CONFIG.sources["kitchen"]}}))
    assert heard == ["kitchen"]
    assert one.threshold("kitchen", "dog_bark") == 0.8
    assert one.sources == ("kitchen",)


def test_earlier_words_for_a_profile(tmp_path: Path) -> None:
    """What version 0.1 has saved is in force as before."""
    (tmp_path / "control.json").write_text('{"kitchen profile": "low", "hall profile": "high"}')
    one = control(tmp_path)
    assert (one.profile("kitchen"), one.profile("hall")) == ("quiet", "eager")
    assert profile_of("normal") == "balanced"
    assert profile_of("NORMAL") is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[1]",
        b"\xff",
        b"[" * 100_000,
        b" " * (LARGEST + 1),
        json.dumps(
            {"kitchen listen": "no", "hall threshold cat": 7, "hall threshold": 1, "hall profile": "x"}
        ).encode(),
        json.dumps({"cellar listen": False, "hall threshold owl": 0.5, "a b c d": 1, "": None}).encode(),
        b'{"hall threshold cat": NaN, "kitchen profile": ["low"]}',
    ],
)
def test_a_damaged_file_changes_nothing(tmp_path: Path, content: bytes) -> None:
    """What cannot have been commanded is not in force, and the program starts."""
    (tmp_path / "control.json").write_bytes(content)
    one = control(tmp_path)
    assert all(one.listens(source) for source in one.sources)
    assert all(one.profile(source) == "balanced" for source in one.sources)
    assert one.threshold("hall", "cat") == 0.5
    one.apply(SetListen("hall", listen=False))
    assert not control(tmp_path).listens("hall")


def test_a_disk_that_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The command is obeyed, and that it will be forgotten is said."""
    one = control(tmp_path / "nowhere")
    one.apply(SetListen("hall", listen=False))
    assert not one.listens("hall")
    assert "lost at the next start" in caplog.text
