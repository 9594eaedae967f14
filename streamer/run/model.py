"""What a loaded model adds to a configuration: its measured hop, and a warning of sounds it may not hear."""

from __future__ import annotations

import logging

from streamer.config.schema import Config
from streamer.inference.worker import About
from streamer.model import hub

log = logging.getLogger(__name__)


def warn_of_unsupported_sounds(config: Config) -> None:
    """Log the sounds that the model was not measured to hear well."""
    labels = {name: sound.labels for name, sound in config.sounds.items()}
    if line := hub.doubts(config.model.path, labels):
        log.warning("%s", line)


def with_measured_hop(config: Config, model: About) -> Config:
    """`auto` becomes what was measured."""
    if config.windows.hop_s != "auto" or model.hop_s is None:
        return config
    return config.model_copy(update={"windows": config.windows.model_copy(update={"hop_s": model.hop_s})})
