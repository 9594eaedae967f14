"""What can be changed while the program runs: if a source is listened to, its thresholds, its profile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from streamer.config.schema import Config
from streamer.core.json_file import Kept

LOWEST, HIGHEST = 0.01, 0.99
"""of a threshold that is set by command"""
PROFILES = {"low": 2.0, "normal": 1.0, "high": 0.5}
"""how sensitive: by how much the odds that a sound needs are multiplied"""


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


Command: TypeAlias = SetListen | SetThreshold | SetProfile


class Control:
    """What is in force: the configuration, and what was changed since, also in earlier lives."""

    def __init__(self, config: Config, kept: Kept) -> None:
        self._kept = kept
        self._commands = {_key(command): command for command in _commands(kept.load())}
        """what was commanded, the latest of each kind"""
        self._watchers: list[Callable[[str], None]] = []
        self.change(config)

    def change(self, config: Config) -> None:
        """Follow another configuration; what was commanded stays in force where it still has a meaning."""
        self._config = config
        # Loudness has a threshold of another kind, in decibels.
        self._rules = {name: config.sound(name) for name, sound in config.sounds.items() if sound.labels}
        self.sources = tuple(config.sources)
        self.sounds = tuple(self._rules)
        """those that have a threshold"""
        for source in self.sources:
            self._tell(source)

    def watch(self, changed: Callable[[str], None]) -> None:
        """Call it with a source's id whenever something may have changed there."""
        self._watchers.append(changed)

    def unwatch(self, changed: Callable[[str], None]) -> None:
        self._watchers.remove(changed)

    def apply(self, command: Command) -> None:
        """Change it, for good, and tell the watchers."""
        self._commands[_key(command)] = command
        self._kept.save({_key(one): _value(one) for one in self._commands.values()})
        self._tell(command.source)

    def listens(self, source: str) -> bool:
        command = self._commands.get(f"{source} listen")
        return command.listen if isinstance(command, SetListen) else True

    def profile(self, source: str) -> str:
        command = self._commands.get(f"{source} profile")
        return command.profile if isinstance(command, SetProfile) else "normal"

    def threshold(self, source: str, sound: str) -> float:
        """As it was set; it holds as it is in the profile `normal`."""
        command = self._commands.get(f"{source} threshold {sound}")
        return command.on if isinstance(command, SetThreshold) else self._rules[sound].on

    def on_off(self, source: str, sound: str) -> tuple[float, float]:
        """The thresholds that hold: where the sound begins and where it ends, which keep their ratio."""
        rule, on = self._rules[sound], self.threshold(source, sound)
        odds = PROFILES[self.profile(source)] * on / (1 - on)
        held = odds / (1 + odds)
        return held, held * (0.5 * rule.on if rule.off is None else rule.off) / rule.on

    def in_force(self, source: str) -> Config:
        """The configuration as it holds for a source; the very same where nothing was commanded there."""
        if self.profile(source) == "normal" and not any(
            f"{source} threshold {sound}" in self._commands for sound in self.sounds
        ):
            return self._config
        sounds = dict(self._config.sounds)
        for name in self.sounds:
            on, off = self.on_off(source, name)
            sounds[name] = sounds[name].model_copy(update={"on": on, "off": off})
        return self._config.model_copy(update={"sounds": sounds})

    def _tell(self, source: str) -> None:
        for changed in self._watchers:
            changed(source)


def _key(command: Command) -> str:
    match command:
        case SetListen(source):
            return f"{source} listen"
        case SetProfile(source):
            return f"{source} profile"
        case SetThreshold(source, sound):
            return f"{source} threshold {sound}"


def _value(command: Command) -> bool | str | float:
    match command:
        case SetListen(_, listen):
            return listen
        case SetProfile(_, profile):
            return profile
        case SetThreshold(_, _, on):
            return on


def _commands(kept: dict[str, object]) -> list[Command]:
    """What was kept, as it was commanded; what cannot have been is left out."""
    commands: list[Command] = []
    for key, value in kept.items():
        match key.split(" "), value:
            case [source, "listen"], bool():
                commands.append(SetListen(source, value))
            case [source, "profile"], str() if value in PROFILES:
                commands.append(SetProfile(source, value))
            case [source, "threshold", sound], float() if LOWEST <= value <= HIGHEST:
                commands.append(SetThreshold(source, sound, value))
    return commands
