"""A configuration as it would be with other thresholds or vetoes, and with no more sounds than that takes."""

from __future__ import annotations

from collections.abc import Collection

from streamer.config.schema import Config, VetoSettings
from streamer.model.labels import descendants


def only_with(config: Config, sounds: Collection[str]) -> Config:
    """Sounds, and those that decide with them: guards, and sounds of which one is a kind of the other."""
    own = {label for name in sounds for label in config.sounds[name].labels}
    kinds = descendants(tuple(own))
    wanted = set(sounds) | {
        name
        for name, other in config.sounds.items()
        if kinds & set(other.labels) or descendants(other.labels) & own
    }
    todo = list(wanted)
    while todo:
        for guard in config.sounds[todo.pop()].unless:
            if guard not in wanted:
                wanted.add(guard)
                todo.append(guard)
    kept = {name: rule for name, rule in config.sounds.items() if name in wanted}
    return config.model_copy(update={"sounds": kept})


def with_threshold(config: Config, sound: str, on: float) -> Config:
    """The same with another threshold, and `off` in proportion."""
    rule = config.sound(sound)
    changed = config.sounds[sound].model_copy(update={"on": on, "off": on * rule.off / rule.on})
    return config.model_copy(update={"sounds": {**config.sounds, sound: changed}})


def with_veto(config: Config, sound: str, veto: VetoSettings) -> Config:
    """The same with another veto of a sound."""
    changed = config.sounds[sound].model_copy(update={"veto": veto})
    return config.model_copy(update={"sounds": {**config.sounds, sound: changed}})
