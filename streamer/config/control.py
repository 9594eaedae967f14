"""What is in force: the configuration, and what was changed since: listening, mute, thresholds, profiles."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias

from pydantic import ValidationError

from streamer.config.schema import Config, VetoSettings
from streamer.core.json_file import JsonFile

LOWEST, HIGHEST = 0.01, 0.99
"""of a threshold that is set by command"""
MUTE_S = 3600.0
"""seconds for which a source that is muted has no notifications"""
PROFILES = {"quiet": 2.0, "balanced": 1.0, "eager": 0.5}
"""how sensitive: by how much the odds that a sound needs are multiplied"""
PLAIN = "balanced"
"""the profile whose thresholds are as they were set"""
_EARLIER = {"low": "quiet", "normal": PLAIN, "high": "eager"}
"""the words of version 0.1, which are still taken"""


@dataclass(frozen=True, slots=True)
class SetListen:
    source: str
    listen: bool


@dataclass(frozen=True, slots=True)
class SetThreshold:
    source: str
    sound: str
    on: float


@dataclass(frozen=True, slots=True)
class SetProfile:
    source: str
    profile: str


@dataclass(frozen=True, slots=True)
class SetListenFor:
    """Whether a sound is listened for."""

    source: str
    sound: str
    listen: bool


@dataclass(frozen=True, slots=True)
class SetMute:
    """Until when the events of a source do not notify, seconds since the epoch; critical ones always do."""

    source: str
    until: float


@dataclass(frozen=True, slots=True)
class SetVeto:
    """What holds a sound back; None: what the file says."""

    source: str
    sound: str
    veto: VetoSettings | None


Command: TypeAlias = SetListen | SetThreshold | SetProfile | SetListenFor | SetMute | SetVeto


class Control:
    """The configuration in force, with the commands that were applied since, also before a restart.

    Commands come over MQTT and from the page. Subscribers are called with the source that changed.
    """

    def __init__(self, config: Config, file: JsonFile) -> None:
        self._file = file
        self._commands = {_key(command): command for command in _commands(file.load())}
        """the latest command of each kind, by key"""
        self._subscribers: list[Callable[[str], None]] = []
        self.change(config)

    def change(self, config: Config) -> None:
        """Follow another configuration; commands stay in force where they still have a meaning."""
        self._config = config
        # Loudness has a threshold of another kind, in decibels.
        self._rules = {name: config.sound(name) for name, sound in config.sounds.items() if sound.labels}
        self.sources = tuple(config.sources)
        self.sounds = tuple(self._rules)
        """those that have a threshold"""
        self.all_sounds = tuple(config.sounds)
        for source in self.sources:
            self._notify(source)

    def subscribe(self, changed: Callable[[str], None]) -> None:
        """Call `changed` with a source's id whenever something may have changed there."""
        self._subscribers.append(changed)

    def unsubscribe(self, changed: Callable[[str], None]) -> None:
        self._subscribers.remove(changed)

    def apply(self, command: Command) -> None:
        """Put a command in force, also after a restart, and notify the subscribers."""
        self._commands[_key(command)] = command
        self._file.save({_key(one): _value(one) for one in self._commands.values()})
        self._notify(command.source)

    def weakens_critical(self, command: Command) -> bool:
        """Whether it switches a critical sound off, or raises its threshold above that of the file.

        Closing a source and choosing a profile change all of its sounds, so one critical sound is enough.
        """
        match command:
            case SetListen(_, listen):
                return not listen and any(
                    sound.priority == "critical" for sound in self._config.sounds.values()
                )
            case SetListenFor(_, sound, listen):
                return not listen and self._config.sounds[sound].priority == "critical"
            case SetThreshold(_, sound, on):
                rule = self._rules[sound]
                return rule.priority == "critical" and on > rule.on
            case SetVeto(_, sound, veto):
                return veto is not None and self._config.sounds[sound].priority == "critical"
            case SetProfile(_, profile):
                is_critical = any(rule.priority == "critical" for rule in self._rules.values())
                return is_critical and PROFILES[profile] > PROFILES[PLAIN]
        return False

    def listens(self, source: str) -> bool:
        command = self._commands.get(f"{source} listen")
        return command.listen if isinstance(command, SetListen) else True

    def listens_for(self, source: str, sound: str) -> bool:
        command = self._commands.get(f"{source} sound {sound}")
        return command.listen if isinstance(command, SetListenFor) else True

    def muted_s(self, source: str) -> float:
        """Seconds for which the events of a source do not notify; 0 where they do."""
        command = self._commands.get(f"{source} mute")
        left_s = command.until - time.time() if isinstance(command, SetMute) else 0.0
        # After the clock was set back by a lot, the mute would last too long.
        return left_s if 0 < left_s <= MUTE_S else 0.0

    def profile(self, source: str) -> str:
        command = self._commands.get(f"{source} profile")
        return command.profile if isinstance(command, SetProfile) else PLAIN

    def threshold(self, source: str, sound: str) -> float:
        """As it was set; the profile `balanced` uses it as it is."""
        command = self._commands.get(f"{source} threshold {sound}")
        return command.on if isinstance(command, SetThreshold) else self._rules[sound].on

    def veto(self, source: str, sound: str) -> VetoSettings | None:
        """What holds a sound back: nothing a critical one, nor what was made with another model."""
        command, rule = self._commands.get(f"{source} veto {sound}"), self._rules[sound]
        veto = command.veto if isinstance(command, SetVeto) else None
        if veto is None or veto.model != self._config.model.path or rule.priority == "critical":
            return rule.veto
        return veto

    def on_off(self, source: str, sound: str) -> tuple[float, float]:
        """The thresholds in force, where the sound begins and where it ends. Their ratio stays."""
        rule, on = self._rules[sound], self.threshold(source, sound)
        odds = PROFILES[self.profile(source)] * on / (1 - on)
        on_now = odds / (1 + odds)
        return on_now, on_now * (0.5 * rule.on if rule.off is None else rule.off) / rule.on

    def in_force(self, source: str) -> Config:
        """The configuration in force for a source; the very same object where no command changed it."""
        off = {sound for sound in self.all_sounds if not self.listens_for(source, sound)}
        if (
            not off
            and self.profile(source) == PLAIN
            and not any(f"{source} threshold {sound}" in self._commands for sound in self.sounds)
            and not any(self.veto(source, sound) != self._rules[sound].veto for sound in self.sounds)
        ):
            return self._config
        sounds = dict(self._config.sounds)
        for name in self.sounds:
            on, until = self.on_off(source, name)
            changed: dict[str, object] = {"on": on, "off": until}
            if (veto := self.veto(source, name)) is not None:
                changed["veto"] = veto
            sounds[name] = sounds[name].model_copy(update=changed)
        for name in off:
            del sounds[name]
        for name, sound in sounds.items():
            if off.intersection(sound.unless):
                guards = tuple(guard for guard in sound.unless if guard not in off)
                sounds[name] = sound.model_copy(update={"unless": guards})
        return self._config.model_copy(update={"sounds": sounds})

    def _notify(self, source: str) -> None:
        for changed in self._subscribers:
            changed(source)


def profile_of(word: str) -> str | None:
    """The profile that is meant; None where the word is none."""
    profile = _EARLIER.get(word, word)
    return profile if profile in PROFILES else None


def _key(command: Command) -> str:
    match command:
        case SetListen(source):
            return f"{source} listen"
        case SetProfile(source):
            return f"{source} profile"
        case SetListenFor(source, sound):
            return f"{source} sound {sound}"
        case SetMute(source):
            return f"{source} mute"
        case SetThreshold(source, sound):
            return f"{source} threshold {sound}"
        case SetVeto(source, sound):
            return f"{source} veto {sound}"


def _value(command: Command) -> object:
    match command:
        case SetListen(_, listen) | SetListenFor(_, _, listen):
            return listen
        case SetMute(_, until):
            return until
        case SetProfile(_, profile):
            return profile
        case SetThreshold(_, _, on):
            return on
        case SetVeto(_, _, veto):
            return None if veto is None else veto.model_dump()


def _commands(saved: dict[str, object]) -> list[Command]:
    """The commands of a saved file; entries that make no sense are left out."""
    commands: list[Command] = []
    for key, value in saved.items():
        match key.split(" "), value:
            case [source, "listen"], bool():
                commands.append(SetListen(source, value))
            case [source, "profile"], str() if (profile := profile_of(value)) is not None:
                commands.append(SetProfile(source, profile))
            case [source, "sound", sound], bool():
                commands.append(SetListenFor(source, sound, value))
            case [source, "mute"], float():
                commands.append(SetMute(source, value))
            case [source, "threshold", sound], float() if LOWEST <= value <= HIGHEST:
                commands.append(SetThreshold(source, sound, value))
            case [source, "veto", sound], dict():
                with suppress(ValidationError):
                    commands.append(SetVeto(source, sound, VetoSettings.model_validate(value)))
    return commands
