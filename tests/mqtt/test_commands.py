"""Commands: a few exact words are obeyed, all else changes nothing."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.config.control import Command, SetListen, SetProfile, SetThreshold
from streamer.mqtt.commands import LARGEST, RATE, CommandError, Commands
from streamer.mqtt.topics import Topics

BASE = "streamer/pi/kitchen"
LISTEN, PROFILE = f"{BASE}/listen/set", f"{BASE}/profile/set"
THRESHOLD = f"{BASE}/sound/dog_bark/threshold/set"
FUZZ = int(os.environ.get("FUZZ_EXAMPLES", "500"))


def parse(topic: str, payload: bytes, *, retained: bool = False, now: float = 100.0) -> Command:
    commands = Commands(Topics("streamer", "pi"), ["kitchen"], ["dog_bark"])
    return commands.parse(topic, payload, retained=retained, now=now)


@pytest.mark.parametrize(
    ("topic", "payload", "command"),
    [
        (LISTEN, b"ON", SetListen("kitchen", listen=True)),
        (LISTEN, b"OFF", SetListen("kitchen", listen=False)),
        (PROFILE, b"eager", SetProfile("kitchen", "eager")),
        (PROFILE, b"low", SetProfile("kitchen", "quiet")),
        (PROFILE, b"normal", SetProfile("kitchen", "balanced")),
        (PROFILE, b"high", SetProfile("kitchen", "eager")),
        (THRESHOLD, b"0.62", SetThreshold("kitchen", "dog_bark", 0.62)),
        (THRESHOLD, b".5", SetThreshold("kitchen", "dog_bark", 0.5)),
        (THRESHOLD, b"0.01", SetThreshold("kitchen", "dog_bark", 0.01)),
        (THRESHOLD, b"0.99", SetThreshold("kitchen", "dog_bark", 0.99)),
    ],
)
def test_what_is_obeyed(topic: str, payload: bytes, command: Command) -> None:
    """Two words, three profiles, numbers in their range: as Home Assistant writes them."""
    assert parse(topic, payload) == command


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        *((LISTEN, payload) for payload in (b"", b"on", b"ON ", b"ON\n", b"ON\0", b"1", b"true", b'"ON"')),
        *((PROFILE, payload) for payload in (b"", b"HIGH", b"loud", b"0.5")),
        *(
            (THRESHOLD, payload)
            for payload in (
                b"0",
                b"1",
                b"1.0",
                b"-0.5",
                b"+0.5",
                b"nan",
                b"inf",
                b"1e400",
                b"5e-1",
                b"0,5",
                b"0.5\n",
            )
        ),
        *(
            (THRESHOLD, payload)
            for payload in (b"0.5" + bytes(LARGEST), "\u0660.\u0665".encode(), b"\xff", b"[" * 4000)
        ),
        ("streamer/pi/kitchen/sound/cat/threshold/set", b"0.5"),
        ("streamer/pi/cellar/listen/set", b"OFF"),
        ("streamer/pi/kitchen/listen/state", b"OFF"),
        ("streamer/pi/kitchen/listen/set/", b"OFF"),
    ],
)
def test_what_is_not(topic: str, payload: bytes) -> None:
    """Another topic, another word, another type, out of range: an error that says what is wrong, in ASCII."""
    with pytest.raises(CommandError) as error:
        parse(topic, payload)
    assert str(error.value).isascii()
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 300


def test_a_retained_command_is_ignored() -> None:
    """It would come again with every connection."""
    with pytest.raises(CommandError, match="retained"):
        parse(LISTEN, b"OFF", retained=True)


def test_a_flood_is_cut() -> None:
    """Ten at once, then ten a second, whatever they say."""
    commands = Commands(Topics("streamer", "pi"), ["kitchen"], ["dog_bark"])

    def obeyed(n: int, since: float, pace_s: float) -> int:
        count = 0
        for i in range(n):
            try:
                commands.parse(LISTEN, b"ON", retained=False, now=since + i * pace_s)
                count += 1
            except CommandError:
                pass
        return count

    assert obeyed(1000, 100.0, 0.0) == RATE
    assert obeyed(1000, 110.0, 0.01) == pytest.approx(RATE + 10 * RATE, abs=2)


_deep = st.integers(1, 2000).map(lambda depth: b"[" * depth + b"]" * depth)
_odd = st.sampled_from(
    [b"NaN", b"1e400", b"-inf", b"\0", b"ON\0", "\u202eNO".encode(), b"0x1", b"0.5;", b"x" * 65536]
)
_json = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
).map(lambda value: json.dumps(value).encode())
_payloads = (
    st.binary(max_size=200)
    | st.text().map(str.encode)
    | _deep
    | _odd
    | _json
    | st.floats().map(lambda x: str(x).encode())
)
_topics = st.sampled_from([LISTEN, PROFILE, THRESHOLD]) | st.text()


@settings(max_examples=FUZZ, deadline=None)
@given(_topics, _payloads, st.booleans())
def test_nothing_else_gets_through(topic: str, payload: bytes, retained: bool) -> None:
    """Whatever comes is one of the commands, spelled exactly, or an error. FUZZ_EXAMPLES makes it longer."""
    try:
        command = parse(topic, payload, retained=retained)
    except CommandError as error:
        assert str(error).isascii()
        return
    assert not retained
    match command:
        case SetListen("kitchen", listen):
            assert (topic, payload) == (LISTEN, b"ON" if listen else b"OFF")
        case SetProfile("kitchen", profile):
            earlier = {"quiet": b"low", "balanced": b"normal", "eager": b"high"}[profile]
            assert topic == PROFILE
            assert payload in (profile.encode(), earlier)
        case SetThreshold("kitchen", "dog_bark", on):
            assert topic == THRESHOLD
            assert 0.01 <= on <= 0.99
            assert on == float(payload)
        case _:
            raise AssertionError(command)
