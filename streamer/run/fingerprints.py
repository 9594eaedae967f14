"""Tells models, and heads of taught sounds, from others of the same name."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from streamer.config.schema import Config, taught_label
from streamer.errors import StreamerError
from streamer.model import hub, manifest
from streamer.store.directory import state_directory
from streamer.teaching import record

MODEL = "model"


def fingerprints(config: Config) -> Mapping[str, str]:
    """Of the model, and of each label that was taught, as they are on the disk now.

    What is not here is left out: replay needs neither.
    """
    found = {}
    with suppress(StreamerError, OSError):
        directory = hub.resolve(config.model.path)
        changed_ns = max((path.stat().st_mtime_ns for path in directory.iterdir()), default=0)
        found[MODEL] = _of_model(directory, changed_ns)
    state = state_directory(config.state_dir)
    for sound in config.sounds.values():
        if sound.taught is not None:
            with suppress(StreamerError):
                found[taught_label(sound.taught)] = record.read(state, sound.taught).head.fingerprint
    return found


@lru_cache(maxsize=8)
def _of_model(directory: Path, changed_ns: int) -> str:
    """Read once, and again where a file has changed."""
    del changed_ns
    return manifest.fingerprint(directory)
