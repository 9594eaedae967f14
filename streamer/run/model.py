"""The model that a configuration asks for, with what was taught, and what it adds once it is loaded."""

from __future__ import annotations

import logging

from streamer.config.schema import Config
from streamer.errors import ConfigError, InputError
from streamer.inference.engines import open_engine
from streamer.inference.heads import Head
from streamer.inference.worker import About, Engine
from streamer.model import hub
from streamer.store.directory import state_directory
from streamer.teaching.record import read_heads

log = logging.getLogger(__name__)


def heads_of(config: Config) -> list[Head]:
    """The heads of the taught sounds of a configuration. Raises ConfigError, ModelError."""
    state = state_directory(config.state_dir)
    heads = {}
    for sound, settings in config.sounds.items():
        if settings.taught is None or settings.taught in heads:
            continue
        try:
            (heads[settings.taught],) = read_heads(state, [settings.taught], config.model)
        except InputError as error:
            raise ConfigError(
                f"sounds.{sound}.taught: {error}; teach it: streamer teach {settings.taught} CLIP…"
            ) from None
    return list(heads.values())


def open_model(config: Config) -> Engine:
    """Load the model of a configuration in this process, with what was taught.

    Raises ConfigError, ModelError.
    """
    return open_engine(config.model, heads=heads_of(config))


def warn_of_unsupported_sounds(config: Config) -> None:
    """Log the sounds that the model was not measured to hear well."""
    labels = {name: sound.labels for name, sound in config.sounds.items()}
    if line := hub.unsure_of(config.model.path, labels):
        log.warning("%s", line)


def with_measured_hop(config: Config, model: About) -> Config:
    """`auto` becomes what was measured."""
    if config.windows.hop_s != "auto" or model.hop_s is None:
        return config
    return config.model_copy(update={"windows": config.windows.model_copy(update={"hop_s": model.hop_s})})
