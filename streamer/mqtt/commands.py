"""Commands that come over MQTT: exact topics, short plain payloads, never retained, ten a second."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable

from streamer.config.control import (
    HIGHEST,
    LOWEST,
    MUTE_S,
    PROFILES,
    Command,
    SetListen,
    SetListenFor,
    SetMute,
    SetProfile,
    SetThreshold,
    profile_of,
)
from streamer.mqtt.topics import Topics

LARGEST = 4096
"""largest payload, in bytes"""
RATE = 10.0
"""commands a second, and as many at once"""

_NUMBER = re.compile(r"[01]?\.[0-9]{1,6}|[01]", re.ASCII)


class CommandError(Exception):
    """A command that is not applied; its text says why, and is safe to log."""


class Commands:
    """Makes commands from messages. Knows no connection."""

    def __init__(
        self, topics: Topics, sources: Iterable[str], thresholds: Iterable[str], sounds: Iterable[str] = ()
    ) -> None:
        """`thresholds` are the sounds that have one, `sounds` all that can be switched off."""
        thresholds, sounds = tuple(thresholds), tuple(sounds)
        self._parsers: dict[str, Callable[[str], Command]] = {}
        for source in sources:
            self._parsers[topics.listen(source, "set")] = _listen(source)
            self._parsers[topics.profile(source, "set")] = _profile(source)
            self._parsers[topics.mute(source, "set")] = _mute(source)
            for sound in sounds:
                self._parsers[topics.listen_for(source, sound, "set")] = _listen_for(source, sound)
            for sound in thresholds:
                self._parsers[topics.threshold(source, sound, "set")] = _threshold(source, sound)
        self._allowance = RATE
        self._at = 0.0

    @property
    def topics(self) -> list[str]:
        """Where commands come; there is no other."""
        return list(self._parsers)

    def parse(self, topic: str, payload: bytes, *, retained: bool, now: float) -> Command:
        """The command that a message is; `now` is monotonic. Raises CommandError."""
        parser = self._parsers.get(topic)
        if parser is None:
            raise CommandError("not a topic for commands")
        if retained:
            raise CommandError("a retained command would come again with every connection: it is ignored")
        self._allowance = min(RATE, self._allowance + (now - self._at) * RATE)
        self._at = now
        if self._allowance < 1:
            raise CommandError(f"more than {RATE:.0f} commands a second")
        self._allowance -= 1
        if len(payload) > LARGEST:
            raise CommandError(f"{len(payload)} bytes are no command")
        try:
            return parser(payload.decode("ascii"))
        except UnicodeDecodeError:
            raise CommandError(f"{payload[:40]!r} is no text") from None


def _listen(source: str) -> Callable[[str], Command]:
    return lambda text: SetListen(source, _is_on(text))


def _listen_for(source: str, sound: str) -> Callable[[str], Command]:
    return lambda text: SetListenFor(source, sound, _is_on(text))


def _mute(source: str) -> Callable[[str], Command]:
    return lambda text: SetMute(source, time.time() + MUTE_S if _is_on(text) else 0.0)


def _is_on(text: str) -> bool:
    if text not in ("ON", "OFF"):
        raise CommandError(f"{text[:40]!r} is neither ON nor OFF")
    return text == "ON"


def _profile(source: str) -> Callable[[str], Command]:
    def parse(text: str) -> Command:
        if (profile := profile_of(text)) is None:
            raise CommandError(f"{text[:40]!r} is none of {', '.join(PROFILES)}")
        return SetProfile(source, profile)

    return parse


def _threshold(source: str, sound: str) -> Callable[[str], Command]:
    def parse(text: str) -> Command:
        if not _NUMBER.fullmatch(text) or not LOWEST <= float(text) <= HIGHEST:
            raise CommandError(f"{text[:40]!r} is no number from {LOWEST} to {HIGHEST}")
        return SetThreshold(source, sound, float(text))

    return parse
