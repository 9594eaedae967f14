"""Which events alert."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from streamer.alerts.rules import Rules, Verdict
from streamer.config.schema import AlertSettings
from streamer.types import Phase, Priority, SoundEvent
from tests.reports import event

ZONE = ZoneInfo("Europe/Berlin")
NOON = datetime(2026, 11, 25, 12, tzinfo=ZONE).timestamp()
HOUR = 3600.0


def rules(**settings: Any) -> Rules:
    return Rules(AlertSettings.model_validate(settings), ZONE)


def begins(
    at: float = NOON,
    sound: str = "siren",
    *,
    priority: Priority = "high",
    source: str = "kitchen",
    phase: Phase = "start",
    notify: bool = True,
) -> SoundEvent:
    one = event(phase, sound=sound, source=source)
    return replace(one, onset=at, priority=priority, notify=notify)


def test_an_occurrence_alerts_once_when_it_begins() -> None:
    """Neither an update nor an end alerts, nor what the sound's own cool-down, or a mute, keeps back."""
    judge = rules().judge
    assert judge(begins()) is Verdict.SEND
    assert judge(begins(phase="update", sound="dog_bark")) is Verdict.LEAVE_OUT
    assert judge(begins(phase="end", sound="dog_bark")) is Verdict.LEAVE_OUT
    assert judge(begins(sound="cat", notify=False)) is Verdict.LEAVE_OUT


def test_with_its_clip_it_alerts_when_it_has_ended() -> None:
    """Once; a critical one when it begins all the same."""
    judge = rules(attach="clip").judge
    assert judge(begins()) is Verdict.LEAVE_OUT
    assert judge(begins(phase="end")) is Verdict.SEND
    assert judge(begins(priority="critical", sound="smoke_alarm")) is Verdict.SEND
    assert judge(begins(phase="end", priority="critical", sound="smoke_alarm")) is Verdict.LEAVE_OUT


@pytest.mark.parametrize("least", ["low", "normal", "high", "critical"])
def test_priority(least: Priority) -> None:
    """Sounds of the priority that is asked for, and of higher ones."""
    order: list[Priority] = ["low", "normal", "high", "critical"]
    found = [one for one in order if rules(min_priority=least).judge(begins(priority=one)) is Verdict.SEND]
    assert found == order[order.index(least) :]


def test_a_sound_may_have_its_own_rule() -> None:
    """It alerts whatever its priority, or never; its cool-down may be another."""
    own = rules(sounds={"cat": {"cooldown_s": 10}, "siren": {"send": False}})
    assert own.judge(begins(sound="cat", priority="low")) is Verdict.SEND
    assert own.judge(begins(NOON + 11, "cat", priority="low")) is Verdict.SEND
    assert own.judge(begins()) is Verdict.LEAVE_OUT


def test_cool_down_is_for_a_sound_at_a_source() -> None:
    """It counts from the latest alert; another sound, and the same one elsewhere, alert."""
    judge = rules(cooldown_s=60).judge
    assert judge(begins()) is Verdict.SEND
    assert judge(begins(NOON + 59)) is Verdict.LEAVE_OUT
    assert judge(begins(NOON + 59, source="garden")) is Verdict.SEND
    assert judge(begins(NOON + 59, "cat")) is Verdict.SEND
    assert judge(begins(NOON + 60)) is Verdict.SEND


def test_a_clock_that_was_set_back_does_not_silence() -> None:
    """What was sent at a time that is yet to come counts no more."""
    judge = rules(cooldown_s=60, at_most_an_hour=1).judge
    assert judge(begins(NOON + 86400)) is Verdict.SEND
    assert judge(begins(NOON)) is Verdict.SEND


@pytest.mark.parametrize(
    ("span", "hour", "minute", "is_quiet"),
    [
        ("22:00-07:00", 22, 0, True),
        ("22:00-07:00", 21, 59, False),
        ("22:00-07:00", 6, 59, True),
        ("22:00-07:00", 7, 0, False),
        ("13:00-15:00", 14, 0, True),
        ("13:00-15:00", 15, 0, False),
        ("00:00-00:00", 9, 0, True),
    ],
)
def test_quiet_hours_are_the_home_s(span: str, hour: int, minute: int, is_quiet: bool) -> None:
    """They may go over midnight, and a sound may be excepted."""
    at = datetime(2026, 11, 25, hour, minute, tzinfo=ZONE).timestamp()
    own = rules(quiet_hours=[span], sounds={"cat": {"in_quiet_hours": True}})
    assert (own.judge(begins(at)) is Verdict.LEAVE_OUT) == is_quiet
    assert own.judge(begins(at, "cat")) is Verdict.SEND


def test_a_critical_sound_comes_through_everything() -> None:
    """Quiet hours, cool-down, the bound of an hour and the least priority hold back all but critical ones."""
    own = rules(quiet_hours=["00:00-00:00"], cooldown_s=86400, at_most_an_hour=1, min_priority="critical")
    assert [own.judge(begins(NOON + n, priority="critical")) for n in range(50)] == 50 * [Verdict.SEND]


def test_a_hundred_in_an_hour() -> None:
    """Twenty, then one that says so, then nothing until there is room; and again."""
    own = rules(cooldown_s=0)
    found = [own.judge(begins(NOON + 10 * n)) for n in range(100)]
    assert found == 20 * [Verdict.SEND] + [Verdict.LIMIT] + 79 * [Verdict.LEAVE_OUT]
    assert own.free_at() == NOON + HOUR
    assert own.judge(begins(NOON + HOUR)) is Verdict.SEND
    assert own.judge(begins(NOON + HOUR)) is Verdict.LIMIT
